"""`sivt fit`, `test` and `predict`: one LightningCLI."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse.typing import PositiveInt
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from sivt_lightning.cli.arguments import (
    SETTINGS,
    check_configs,
    explained,
    given_option,
    help_settings,
    joined,
    options_of,
)
from sivt_lightning.cli.ending import is_first
from sivt_lightning.cli.help import HELP, OPTIONS, Formatter
from sivt_lightning.cli.photo_table import Survey
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.evaluation.callback import Evaluation
from sivt_lightning.inference.checkpoint import read_checkpoint, same_setting
from sivt_lightning.inference.thresholds import By
from sivt_lightning.model.precision import check_precision
from sivt_lightning.prediction_files.progress_bar import PredictionProgress
from sivt_lightning.prediction_files.writer import PredictionWriter
from sivt_lightning.system import keep_freed_memory
from sivt_lightning.training.calibration import ThresholdCalibration
from sivt_lightning.training.continuation import finish_if_done, refuse_changes
from sivt_lightning.training.fit_parts import fit_parts
from sivt_lightning.training.module import SIVT
from sivt_lightning.training.panel import Panel
from sivt_lightning.training.run_config import RunConfig
from sivt_lightning.training.run_folder import (
    check_name,
    claim,
    give_back,
    refuse_a_part,
    refuse_without_model,
    run_directory,
    take_up,
)
from sivt_lightning.training.saving import Monitor
from sivt_lightning.training.synthetic_validation import FIGURE as SYNTHETIC
from sivt_lightning.training.synthetic_validation import SyntheticValidation

DESCRIPTION = """One model that finds defects in many products, trained on photos of good parts only.

Commands (`sivt COMMAND --help` says more):
""" + "\n".join(f"  {verb:12}{told.line}" for verb, told in HELP.items())
DESCRIPTION += """

With each of them: --quiet prints errors only, --debug shows where an error comes from."""
WIRED = {"model", "datamodule", "weights_only"}
# With the Trainer's arguments that are not the user's to set.
TRAINER_VERBS = {
    "fit": WIRED | {"train_dataloaders", "val_dataloaders"},
    "test": WIRED | {"dataloaders", "verbose"},
    "predict": WIRED | {"dataloaders", "return_predictions"},
}
CHECKPOINT_VERBS = ("test", "predict")
UNREADABLE_IMAGES = 3


class SIVTCLI(LightningCLI):
    """LightningCLI whose `test` and `predict` need only a checkpoint, and whose runs lie in runs/<name>/version_K."""

    exit_code = 0

    def __init__(self, args: Sequence[str]) -> None:
        self.given = joined(args, "--data.predict_path")
        self.claimed: Path | None = None  # the folder that this process has made for a new run
        self.unclaimed: str | None = None  # name of the run for which another process makes it
        try:
            self._carry_out()
        except BaseException:
            if self.claimed is not None:
                give_back(self.claimed)
            raise

    def _carry_out(self) -> None:
        super().__init__(
            SIVT,
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
                "usage": "sivt COMMAND [options]",
                "description": DESCRIPTION,
                "formatter_class": Formatter,
                "prog": "sivt",
                **SETTINGS,
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # hyper-parameters in a checkpoint stay plain values
            args=self.given,
        )

    # -- arguments ---------------------------------------------------------------------------------------------------

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # a static method there
        """The verb that is given, alone: the parser of each takes a quarter of a second."""
        return {verb: wired for verb, wired in TRAINER_VERBS.items() if verb in self.given[:1]} or TRAINER_VERBS

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model.image_size", "data.image_size")
        for target in ("model.seed", "data.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=_plain_seed)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        verbs: Any = parser._subcommands_action
        for listed in verbs._choices_actions:  # which say what the Trainer's methods say of themselves
            listed.help = HELP[listed.dest].line

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs | help_settings(subcommand))
        for action in parser._actions:
            action.help = next((OPTIONS[name] for name in action.option_strings if name in OPTIONS), action.help)
        if subcommand == "fit":
            parser.add_argument("--name", type=str | None, help="Name of the run. Default: that of the config file.")
            told = "What best.ckpt is the best of: loss, or synthetic defects told apart, on held-out normal images."
            parser.add_argument("--monitor", type=Monitor, default="val/loss", help=told)
            told = "Stop when the monitored value has not got better for this many validations. Default: never."
            parser.add_argument("--patience", type=PositiveInt | None, help=told)
            parser.add_lightning_class_args(ThresholdCalibration, "threshold")
            parser.add_lightning_class_args(SyntheticValidation, "synthetic")
            parser.add_lightning_class_args(Panel, "panel")
        elif subcommand == "test":
            parser.add_argument("--output", type=str, default="test", help="Folder of the results. Default: RUN/test.")
            _add_thresholds(parser)
            parser.add_lightning_class_args(Evaluation, "eval")
            for option in ("output", "threshold", "threshold_by"):
                parser.link_arguments(option, f"eval.{option}")
        else:
            parser.add_argument("--output", type=str | None, help="Folder of the results. Default: predictions/NAME.")
            _add_thresholds(parser)
            parser.add_argument("--category", type=str | None, help="Take the threshold of this category.")
            parser.add_argument("--overwrite", action="store_true", help="Replace an earlier run's results.")
            told = "Do only the images that an earlier run into the same folder has not done."
            parser.add_argument("--resume", action="store_true", help=told)
            parser.add_lightning_class_args(PredictionWriter, "writer")
            for option in ("output", "threshold", "threshold_by", "category", "overwrite", "resume"):
                parser.link_arguments(option, f"writer.{option}")
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Settings found in the checkpoint become defaults, so that a flag or config given by hand wins."""
        verb = next((argument for argument in self.given if argument in TRAINER_VERBS), "")
        path = given_option(self.given, "--ckpt_path")
        if verb in CHECKPOINT_VERBS and path is None and not {"-h", "--help"} & set(self.given):
            raise SIVTError(f"`sivt {verb}` needs a trained model: add --ckpt_path runs/.../checkpoints/best.ckpt")
        if verb == "fit":
            self._prepare_fit(path, given_option(self.given, "--model.init_from"))
        elif verb and path is not None:
            self._take_defaults(verb, path, read_checkpoint(path))
        check_configs(self.given)
        # LightningCLI warns when it is given arguments while sys.argv has some: ours are those very ones.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            known = self._subcommand_parsers.get(verb, parser)
            with explained(known.prog, options_of(known)):
                super().parse_arguments(parser, self.given)
        if verb in CHECKPOINT_VERBS and path is not None:
            refuse_a_part(self.config[verb].trainer)
            self._refuse_other_models(verb, read_checkpoint(path)["hyper_parameters"])
        elif verb == "fit":
            self._check_fit(path)

    def _prepare_fit(self, path: str | None, start: str | None) -> None:
        """Settings of a run that goes on, or of the model that a new one starts from."""
        self.unsaved = False  # to go on with a run that was stopped before it had saved anything
        self.first_step: int | None = None  # of this process, where another one began the run
        self.goes_on: dict[str, Any] | None = None  # the checkpoint that it goes on with
        if path is None:
            if start is not None:
                model = read_checkpoint(start)["hyper_parameters"]
                kept = {f"model.{key}": value for key, value in model.items() if key not in ("seed", "init_from")}
                self._set_defaults("fit", start, kept)
            return
        config = run_directory(path) / "config.yaml"
        self.unsaved = not Path(path).exists() and config.is_file()
        if self.unsaved:
            self.first_step = 0
            if is_first():
                print(f"There is no {path}: the run was stopped before its first epoch ended. It starts anew.")
        else:
            self.goes_on = checkpoint = read_checkpoint(path)
            if "optimizer_states" not in checkpoint:
                raise SIVTError(f"ckpt_path {path}: holds the model only. Go on from the last.ckpt beside it.")
            self.first_step = checkpoint["global_step"]
            self._take_defaults("fit", path, checkpoint)
        if config.is_file():  # before any that is given by hand, which wins
            at = self.given.index("fit") + 1
            self.given[at:at] = ["--config", str(config)]

    def _check_fit(self, path: str | None) -> None:
        """Raises SIVTError for settings that leave no model, or another than that of a run that goes on."""
        config = self.config.fit
        refuse_without_model(config.trainer)
        if config.monitor == SYNTHETIC and not config.synthetic.per_image:
            raise SIVTError(f"monitor is {config.monitor}, which synthetic.per_image 0 turns off: give 1 or more.")
        if path is not None and self.goes_on is not None:
            run = run_directory(path)
            recorded = run / "config.yaml"
            text = recorded.read_text(encoding="utf-8-sig") if recorded.is_file() else ""
            refuse_changes(config, self.goes_on, run, (yaml.safe_load(text) or {}).get("name"))
            finish_if_done(config, self.goes_on, path, run / "checkpoints" / "best.ckpt")

    def _refuse_other_models(self, verb: str, trained: dict[str, Any]) -> None:
        """Its thresholds speak of the scores of the very model that was trained."""
        given = self.config[verb].model.as_dict()
        changed = sorted(key for key in given if key in trained and not same_setting(given[key], trained[key]))
        if changed:
            option = "seed_everything" if changed[0] == "seed" else f"model.{changed[0]}"
            raise SIVTError(
                f"{option} is {given[changed[0]]}, but the checkpoint's model and its thresholds were made "
                f"with {trained[changed[0]]}: leave the option out, or train a model with it."
            )

    def _take_defaults(self, verb: str, path: str, checkpoint: dict[str, Any]) -> None:
        model, data = dict(checkpoint["hyper_parameters"]), dict(checkpoint["datamodule_hyper_parameters"])
        defaults = {"seed_everything": model.pop("seed"), "trainer.precision": checkpoint["precision"]}
        for linked in ("seed", "image_size", "predict_path"):
            data.pop(linked, None)
        defaults |= {f"model.{key}": value for key, value in model.items()}
        defaults |= {f"data.{key}": value for key, value in data.items()}
        if verb == "test":
            defaults["output"] = str(run_directory(path) / "test")
        self._set_defaults(verb, path, defaults)

    def _set_defaults(self, verb: str, path: str, defaults: dict[str, Any]) -> None:
        try:
            self._subcommand_parsers[verb].set_defaults(defaults)
        except KeyError as error:
            raise SIVTError(f"Checkpoint {path}: made by another version of sivt_lightning ({error}).") from error

    def _parse_ckpt_path(self) -> None:
        """LightningCLI's own reading of the checkpoint would win over flags given by hand."""

    # -- objects -----------------------------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        if self._get(self.config, "ckpt_path") != given_option(self.given, "--ckpt_path"):
            raise SIVTError("ckpt_path stands in a config file, where it is not looked for: give it as --ckpt_path.")
        if self.subcommand == "fit":
            self.run_dir = self._choose_run_directory()
        else:
            self.save_config_callback = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = self._build_trainer(kwargs)
        # What the environment says of ranks may be meant for other programs than this training.
        if self.claimed is not None and not trainer.is_global_zero:
            give_back(self.claimed)
            self.claimed = None
        elif self.unclaimed is not None and trainer.is_global_zero:
            self.run_dir = self.claimed = claim(self.unclaimed)
            trainer = self._build_trainer(kwargs)
        return trainer

    def _build_trainer(self, given: dict[str, Any]) -> Trainer:
        kwargs = dict(given)
        settings = self._get(self.config_init, "trainer")
        if settings.enable_progress_bar is None:  # PredictionProgress tells more than Lightning's bar
            kwargs["enable_progress_bar"] = sys.stdout.isatty() and self.subcommand != "predict"
        if settings.enable_model_summary is None:
            kwargs["enable_model_summary"] = False  # TrainingProgress says what matters of it in a line
        kwargs["callbacks"] = [*(settings.callbacks or []), Survey()]
        if settings.default_root_dir is None:  # of what Lightning writes of itself, which else is the working folder
            folder = self.run_dir if self.subcommand == "fit" else self._get(self.config_init, "output")
            kwargs["default_root_dir"] = folder or "predictions"
        if self.subcommand == "fit":
            monitor, patience = (self._get(self.config_init, name) for name in ("monitor", "patience"))
            self.save_config_kwargs["folder"] = self.run_dir
            parts = fit_parts(settings, self.run_dir, self.first_step, monitor, patience)
            kwargs["callbacks"] += parts.pop("callbacks")
            kwargs |= parts
            self.config.fit.ckpt_path = None  # not for config.yaml: what it starts next is a run of its own
        elif settings.logger in (None, True):  # nothing is logged
            kwargs["logger"] = False
        if self.subcommand == "predict" and settings.enable_progress_bar is not False:
            kwargs["callbacks"] += [PredictionProgress(self._get(self.config_init, "writer"))]
        precision = check_precision(str(settings.precision), "")
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError) as error:  # an accelerator, strategy or number that Lightning does not know
            raise SIVTError(f"trainer: {first_line(error)}.") from error
        check_precision(precision, trainer.strategy.root_device.type)
        return trainer

    def _choose_run_directory(self) -> Path:
        """A continued run goes on in its directory; a new one takes the next free version of its name."""
        resumed = self._get(self.config, "ckpt_path")
        if resumed is not None:
            return take_up(run_directory(resumed))
        configs = self._get(self.config, "config") or []
        name = check_name(self._get(self.config, "name") or (Path(str(configs[-1])).stem if configs else "sivt"))
        if is_first():
            self.claimed = claim(name)
        else:
            self.unclaimed = name
        return self.claimed or Path("runs", name, "version_of_the_first_process")  # where this one writes nothing

    # -- verbs -------------------------------------------------------------------------------------------------------

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand) | {"weights_only": True}
        extra = {"fit": {}, "test": {"verbose": False}, "predict": {"return_predictions": False}}
        if subcommand == "fit" and self.unsaved:
            kwargs["ckpt_path"] = None
        return kwargs | extra[subcommand]

    def before_fit(self) -> None:
        keep_freed_memory()  # steps alike follow one another; others hold on to memory that they need once

    def after_fit(self) -> None:
        best = self.run_dir / "checkpoints" / "best.ckpt"
        stopping: Any = self.trainer.early_stopping_callback
        if not self.trainer.is_global_zero:
            return
        if stopping and stopping.stopped_epoch:
            ended = f"Ended after {self.trainer.current_epoch} epochs"
            print(f"{ended}: {stopping.monitor} has not got better for {stopping.patience}.")
        if not best.is_file():
            last = best.with_name("last.ckpt")
            more = f"Go on with --ckpt_path {last}, and" if last.is_file() else "Start it anew, with"
            raise SIVTError(
                "The training ended before its first validation, so there is no model. "
                f"{more} a higher trainer.max_epochs, max_steps or max_time."
            )
        if self.model.thresholds and (doubt := self.model.thresholds.doubt([None])):
            print(f"\n{doubt}")
        print(
            f"\nThe model is {best}. Next:\n"
            f"  sivt test --ckpt_path {best}\n"
            f"  sivt predict --ckpt_path {best} --data.predict_path FOLDER_OF_PHOTOS"
        )

    def after_predict(self) -> None:
        # One process alone says so: Lightning would take it for a crash of the others.
        if self._get(self.config_init, "writer").failed and self.trainer.is_global_zero:
            self.exit_code = UNREADABLE_IMAGES


def _add_thresholds(parser: LightningArgumentParser) -> None:
    told = "Score above which an image is anomalous, instead of the threshold found in training."
    parser.add_argument("--threshold", type=float | None, help=told)
    told = "Hold each image against the threshold of all categories, or of the one whose name a folder of its path has."
    parser.add_argument("--threshold_by", type=By, default="pooled", help=told)


def _plain_seed(value: bool | int) -> int:
    if isinstance(value, bool) or value < 0:
        raise SIVTError("seed_everything: give a number of 0 or more, so that a run can be repeated.")
    return value
