"""`sivt fit`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from jsonargparse.typing import PositiveInt
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from sivt_lightning.cli.arguments import check_configs, given_option
from sivt_lightning.cli.ending import is_first
from sivt_lightning.cli.lightning_cli import SIVTCLI, data_defaults, plain_seed
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.calibrated import write_calibrated
from sivt_lightning.inference.calibration import FALSE_ALARMS, check_share
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.inference.good_photos import GoodPhotos
from sivt_lightning.inference.models import open_model
from sivt_lightning.system import keep_freed_memory
from sivt_lightning.training.continuation import finish_if_done, refuse_changes
from sivt_lightning.training.fit_parts import fit_parts
from sivt_lightning.training.interruption import signals_given_back
from sivt_lightning.training.module import SIVT
from sivt_lightning.training.panel import Panel
from sivt_lightning.training.run_folder import (
    check_name,
    claim,
    give_back,
    refuse_without_model,
    run_directory,
    take_up,
)
from sivt_lightning.training.saving import Monitor
from sivt_lightning.training.synthetic_validation import (
    FIGURE,
    PIXEL_FIGURE,
    SyntheticValidation,
    lost_by_training,
)


def _settings_of_run(config: Path) -> str:
    """Its path; where an earlier version wrote it, its text without what is no setting any more."""
    check_configs(["--config", str(config)])
    settings = yaml.safe_load(config.read_text(encoding="utf-8-sig"))
    if "threshold" not in settings:
        return str(config)
    del settings["threshold"]
    if is_first():
        print(f"{config} has threshold.quantile, of an earlier version: false_alarms has taken its place.")
    return str(yaml.safe_dump(settings))


class FitCLI(SIVTCLI):
    """Runs lie in runs/<name>/version_K; one that is given --ckpt_path goes on in its own."""

    module = SIVT
    verbs: ClassVar = {"fit": {"train_dataloaders", "val_dataloaders"}}

    def __init__(self, args: Sequence[str]) -> None:
        self.claimed: Path | None = None  # the folder that this process has made for a new run
        self.unclaimed: str | None = None  # name of the run for which another process makes it
        try:
            with signals_given_back():
                super().__init__(args)
        except BaseException:
            if self.claimed is not None:
                give_back(self.claimed)
            raise

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model.image_size", "data.image_size")
        for target in ("model.seed", "data.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=plain_seed)

    def add_own_arguments(self, verb: str, parser: LightningArgumentParser) -> None:
        parser.add_argument("--name", type=str | None, help="Name of the run. Default: that of the config file.")
        text = "What best.ckpt is the best of: loss, or synthetic defects told apart, on held-out normal images."
        parser.add_argument("--monitor", type=Monitor, default="val/loss", help=text)
        text = "Stop when the monitored value has not got better for this many validations. Default: never."
        parser.add_argument("--patience", type=PositiveInt | None, help=text)
        text = "Share of good parts that may be called anomalous, which the model's verdicts keep to by default."
        parser.add_argument("--false_alarms", type=float, default=FALSE_ALARMS, help=text)
        parser.add_lightning_class_args(SyntheticValidation, "synthetic")
        parser.add_lightning_class_args(Panel, "panel")

    def before_parsing(self, verb: str, path: str | None) -> None:
        """Settings of a run that goes on, or of the model that a new one starts from."""
        start = given_option(self.given, "--model.init_from")
        self.unsaved = False  # to go on with a run that was stopped before it had saved anything
        self.first_step: int | None = None  # of this process, where another one began the run
        self.goes_on: dict[str, Any] | None = None  # the checkpoint that it goes on with
        if path is None:
            if start is not None:
                model = read_checkpoint(start)["hyper_parameters"]
                kept = {f"model.{key}": value for key, value in model.items() if key not in ("seed", "init_from")}
                self.set_defaults("fit", start, kept)
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
            self._take_defaults(path, checkpoint)
        if config.is_file():  # before any that is given by hand, which wins
            at = self.given.index("fit") + 1
            self.given[at:at] = ["--config", _settings_of_run(config)]

    def _take_defaults(self, path: str, checkpoint: dict[str, Any]) -> None:
        model = dict(checkpoint["hyper_parameters"])
        defaults = {"seed_everything": model.pop("seed"), "trainer.precision": checkpoint["precision"]}
        defaults |= {f"model.{key}": value for key, value in model.items()}
        defaults |= data_defaults(checkpoint["datamodule_hyper_parameters"])
        self.set_defaults("fit", path, defaults)

    def after_parsing(self, verb: str, path: str | None) -> None:
        """Raises SIVTError for settings that leave no model, or another than that of a run that goes on."""
        config = self.config.fit
        refuse_without_model(config.trainer)
        check_share(config.false_alarms)
        if config.monitor in (FIGURE, PIXEL_FIGURE) and not config.synthetic.per_image:
            raise SIVTError(f"monitor is {config.monitor}, which synthetic.per_image 0 turns off: give 1 or more.")
        if path is not None and self.goes_on is not None:
            run = run_directory(path)
            recorded = run / "config.yaml"
            text = recorded.read_text(encoding="utf-8-sig") if recorded.is_file() else ""
            refuse_changes(config, self.goes_on, run, (yaml.safe_load(text) or {}).get("name"))
            finish_if_done(config, self.goes_on, path, run / "checkpoints" / "best.ckpt")

    def before_instantiate_classes(self) -> None:
        super().before_instantiate_classes()
        self.run_dir = self._choose_run_directory()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = self._trainer_of_run(kwargs)
        # What the environment says of ranks may be meant for other programs than this training.
        if self.claimed is not None and not trainer.is_global_zero:
            give_back(self.claimed)
            self.claimed = None
        elif self.unclaimed is not None and trainer.is_global_zero:
            self.run_dir = self.claimed = claim(self.unclaimed)
            trainer = self._trainer_of_run(kwargs)
        return trainer

    def _trainer_of_run(self, given: dict[str, Any]) -> Trainer:
        config = self.config_init.fit
        self.save_config_kwargs["folder"] = self.run_dir
        parts = fit_parts(config.trainer, self.run_dir, self.first_step, config.monitor, config.patience)
        self.config.fit.ckpt_path = None  # not for config.yaml: what it starts next is a run of its own
        return self.build_trainer(given, self.run_dir, progress_bar=True, **parts)

    def _choose_run_directory(self) -> Path:
        """A continued run goes on in its directory; a new one takes the next free version of its name."""
        resumed = self.setting(self.config, "ckpt_path")
        if resumed is not None:
            return take_up(run_directory(resumed))
        configs = self.setting(self.config, "config") or []
        name = check_name(self.setting(self.config, "name") or (Path(str(configs[-1])).stem if configs else "sivt"))
        if is_first():
            self.claimed = claim(name)
        else:
            self.unclaimed = name
        return self.claimed or Path("runs", name, "version_of_the_first_process")  # where this one writes nothing

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        return kwargs | {"ckpt_path": None} if self.unsaved else kwargs

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
        self._calibrate(best)
        if said := lost_by_training(self.run_dir / "metrics.csv"):
            print(said)
        print(
            f"\nThe model is {best}. Next:\n"
            f"  sivt test --ckpt_path {best}\n"
            f"  sivt predict --ckpt_path {best} --data.predict_path FOLDER_OF_PHOTOS"
        )

    def _calibrate(self, best: Path) -> None:
        """What best.ckpt says of good photos, by which it judges others. One process does it: the others have ended."""
        model = open_model(best, str(self.trainer.strategy.root_device))
        photos = GoodPhotos(self.datamodule, self.datamodule.val_photos, self.datamodule.train_photos, "")
        print(f"\nCalibrating it with {photos.counted()}.", flush=True)
        calibration = photos.measure(model, self.config_init.fit.false_alarms)
        write_calibrated(best, calibration, best)
        if said := calibration.promise(photos.products):
            print(said)
