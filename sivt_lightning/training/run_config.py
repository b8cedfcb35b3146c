"""The settings of a run, in its own folder."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback


class RunConfig(SaveConfigCallback):
    """Writes config.yaml, once a checkpoint has been taken up: one that is refused leaves the settings of before.

    Lightning's writes into the folder of the first logger, without one into the folder that one works in.
    """

    def __init__(self, *args: Any, folder: Path, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.folder = folder

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lightning's writes here."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before anything is trained."""
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, "fit")

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Over that of before, where a run goes on."""
        self.parser.save(self.config, self.folder / "config.yaml", skip_none=False, overwrite=True, multifile=False)
