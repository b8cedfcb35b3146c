"""What `sivt fit`, `test` and `predict` have in common: a LightningCLI that explains what it refuses."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from sivt_lightning.cli.arguments import (
    SETTINGS,
    explained,
    given_option,
    joined,
    options_of,
)
from sivt_lightning.cli.lightning_hooks import HookedCLI
from sivt_lightning.cli.photo_table import Survey
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.inference.judge import By
from sivt_lightning.model.precision import check_precision
from sivt_lightning.training.run_config import RunConfig

WIRED = {"model", "datamodule", "weights_only"}  # arguments of the Trainer that are not the user's to set


class SIVTCLI(HookedCLI):
    """Settings of the module and of the data, which come from a model's file where there is one; a flag wins."""

    exit_code = 0
    module: type[LightningModule]
    verbs: ClassVar[dict[str, set[str]]]  # and what else, beside WIRED, is not the user's to set

    def __init__(self, args: Sequence[str]) -> None:
        self.given = joined(args, "--data.predict_path")
        super().__init__(
            self.module,
            SIVTDataModule,
            seed_everything_default=0,
            save_config_callback=RunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults={
                "max_epochs": 400,
                "precision": "32-true",
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 10,
                "num_sanity_val_steps": 0,  # validation is a pass like any other; nothing is learned from two batches
                "use_distributed_sampler": False,  # the data module's own samplers repeat no image
            },
            parser_kwargs={
                "prog": "sivt",
                **SETTINGS,
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # hyper-parameters in a checkpoint stay plain values
            args=self.given,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # a static method there
        """The verb that is given, alone: the parser of each takes a quarter of a second."""
        return {self.given[0]: WIRED | self.verbs[self.given[0]]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Settings of a model's file become defaults, so that a flag or config given by hand wins."""
        verb, path = self.given[0], given_option(self.given, "--ckpt_path")
        if "--help" not in self.given:  # with which the options are listed, see `options`
            self.before_parsing(verb, path)
        # LightningCLI warns when it is given arguments while sys.argv has some: ours are those very ones.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            own = self.parser_of(verb)
            with explained(own.prog, options_of(own)):
                super().parse_arguments(parser, self.given)
        self.after_parsing(verb, path)

    def before_parsing(self, verb: str, path: str | None) -> None:
        """Sets defaults. Raises SIVTError where --ckpt_path, if given, is not what the command needs."""
        raise NotImplementedError

    def after_parsing(self, verb: str, path: str | None) -> None:
        """Raises SIVTError for settings that cannot be together."""
        raise NotImplementedError

    def set_defaults(self, verb: str, path: str, defaults: dict[str, Any]) -> None:
        """Those of a model's file. Raises SIVTError where it has one that is not known here."""
        try:
            self.parser_of(verb).set_defaults(defaults)
        except KeyError as error:
            raise SIVTError(f"Checkpoint {path}: made by another version of sivt_lightning ({error}).") from error

    def before_instantiate_classes(self) -> None:
        if self.setting(self.config, "ckpt_path") != given_option(self.given, "--ckpt_path"):
            raise SIVTError("ckpt_path stands in a config file, where it is not looked for: give it as --ckpt_path.")

    def build_trainer(self, given: dict[str, Any], folder: Path, progress_bar: bool, **parts: Any) -> Trainer:
        """The Trainer by its settings.

        Args:
            folder: of what Lightning writes of itself, which else is the working folder.
            progress_bar: whether there is Lightning's own, where the settings do not say.
            parts: what the command adds: callbacks, loggers and the like.
        """
        kwargs = dict(given)
        settings = self.setting(self.config_init, "trainer")
        if settings.enable_progress_bar is None:
            kwargs["enable_progress_bar"] = sys.stdout.isatty() and progress_bar
        if settings.enable_model_summary is None:
            kwargs["enable_model_summary"] = False  # TrainingProgress says what matters of it in a line
        if settings.default_root_dir is None:
            kwargs["default_root_dir"] = folder
        kwargs["callbacks"] = [*(settings.callbacks or []), Survey(), *parts.pop("callbacks", [])]
        precision = check_precision(str(settings.precision), "")
        try:
            trainer = super().instantiate_trainer(**kwargs | parts)
        except (TypeError, ValueError) as error:  # an accelerator, strategy or number that Lightning does not know
            raise SIVTError(f"trainer: {first_line(error)}.") from error
        check_precision(precision, trainer.strategy.root_device.type)
        return trainer


VERDICTS = ("false_alarms", "threshold", "threshold_by", "unknown")  # the options that `test` and `predict` share


def add_verdicts(parser: LightningArgumentParser) -> None:
    """What decides what is called anomalous."""
    text = "Share of good parts that may be called anomalous, such as 0.01. Default: that of the model's calibration."
    parser.add_argument("--false_alarms", type=float | None, help=text)
    text = "Score above which an image is anomalous, instead of those found with good photos."
    parser.add_argument("--threshold", type=float | None, help=text)
    text = "Whose threshold counts: of the product recognised, of the category a folder names, or pooled, one for all."
    parser.add_argument("--threshold_by", type=By | None, help=text)
    parser.add_argument("--unknown", type=bool, default=True, help="Call an image of none of the products unknown.")


def data_defaults(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Options for the data settings that a model's file holds; others follow from the model, or are of one run."""
    kept = {name: value for name, value in stored.items() if name not in ("seed", "image_size", "predict_path")}
    return {f"data.{name}": value for name, value in kept.items()}


def plain_seed(value: bool | int) -> int:
    if isinstance(value, bool) or value < 0:
        raise SIVTError("seed_everything: give a number of 0 or more, so that a run can be repeated.")
    return value
