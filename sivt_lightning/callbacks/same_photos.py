"""A training goes on with the photos that it was begun with."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from sivt_lightning.continuation import refuse_other_photos


class SamePhotos(Callback):
    """Holds what the photos show against what a checkpoint says, once the data module has compared their names."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raises SIVTError on every process."""
        refuse_other_photos(trainer.datamodule, checkpoint)  # type: ignore[attr-defined]
