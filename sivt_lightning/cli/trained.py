"""`sivt test` and `sivt predict`, with a model's file of any kind."""

import signal
import threading
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from sivt_lightning.cli.arguments import given_option
from sivt_lightning.cli.lightning_cli import SIVTCLI, VERDICTS, add_verdicts, data_defaults, plain_seed
from sivt_lightning.data.depth import check_depth
from sivt_lightning.data.grid import check_tiles
from sivt_lightning.errors import SIVTError, Stopped
from sivt_lightning.evaluation.callback import Evaluation
from sivt_lightning.evaluation.trained_model import TrainedModel
from sivt_lightning.inference.about import About, read_about
from sivt_lightning.prediction_files.progress_bar import PredictionProgress
from sivt_lightning.prediction_files.writer import PredictionWriter
from sivt_lightning.training.run_folder import refuse_a_part, run_directory

UNREADABLE_IMAGES = 3


class Termination(Callback):
    """SIGTERM ends a test or a prediction as Ctrl-C does; Lightning notes it, and predicts to the end."""

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's own handler is set by now; it gives back that of before."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._stop)

    on_predict_start = on_test_start

    def _stop(self, *_: Any) -> None:
        raise Stopped("Stopped.")


class TrainedCLI(SIVTCLI):
    """Needs a model's file only: what it was trained on, and how, stands in it."""

    module = TrainedModel
    verbs: ClassVar = {"test": {"dataloaders", "verbose"}, "predict": {"dataloaders", "return_predictions"}}
    about: About  # the model's file, once it has been read

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed_everything", "data.seed", compute_fn=plain_seed)

    def add_own_arguments(self, verb: str, parser: LightningArgumentParser) -> None:
        parser.link_arguments("ckpt_path", "model.path")
        parser.link_arguments("ckpt_path", "data.image_size", compute_fn=lambda path: self.about.image_size)
        parser.link_arguments("trainer.precision", "model.precision", compute_fn=self._precision)
        if verb == "test":
            parser.add_argument("--output", type=str, default="test", help="Folder of the results. Default: RUN/test.")
            add_verdicts(parser)
            parser.add_lightning_class_args(Evaluation, "eval")
            for option in ("output", *VERDICTS):
                parser.link_arguments(option, f"eval.{option}")
            return
        parser.add_argument("--output", type=str | None, help="Folder of the results. Default: predictions/NAME.")
        add_verdicts(parser)
        parser.add_argument(
            "--category", type=str | None, help="The product of all images; by default it is recognised."
        )
        text = "Pixels of a photo; smaller anomalous regions are none, and a photo without any is normal. Default: 0."
        parser.add_argument("--smallest_region", type=int, default=0, help=text)
        parser.add_argument("--overwrite", action="store_true", help="Replace an earlier run's results.")
        text = "Do only the images that an earlier run into the same folder has not done."
        parser.add_argument("--resume", action="store_true", help=text)
        parser.add_lightning_class_args(PredictionWriter, "writer")
        for option in ("output", *VERDICTS, "category", "smallest_region", "overwrite", "resume"):
            parser.link_arguments(option, f"writer.{option}")

    def _precision(self, of_trainer: Any) -> str | None:
        """Of a checkpoint; an export has one of its own."""
        return str(of_trainer) if self.about.kind == "checkpoint" else None

    def before_parsing(self, verb: str, path: str | None) -> None:
        assert path is not None  # asked for before anything was loaded
        self.about = about = read_about(path)
        defaults = data_defaults(about.data)
        defaults["data.depth"] = about.depth  # which an export of format 0 says, though nothing else of its data
        if "seed" in about.model:
            defaults["seed_everything"] = about.model["seed"]
        if about.kind == "checkpoint":
            defaults["trainer.precision"] = about.precision
        else:
            defaults["trainer.accelerator"] = "cpu"
        if verb == "test":
            name = "test" if about.kind == "checkpoint" else f"test-{Path(path).stem}-{about.kind}"
            defaults["output"] = str(run_directory(path) / name)
        self.set_defaults(verb, path, defaults)

    def after_parsing(self, verb: str, path: str | None) -> None:
        config = self.config[verb]
        refuse_a_part(config.trainer)
        by_hand = given_option(self.given, "--trainer.precision") or str(config.trainer.precision) != "32-true"
        if by_hand and self.about.kind != "checkpoint":
            raise SIVTError(f"trainer.precision: {path} was exported in {self.about.precision}; export it in another.")
        check_depth(config.data.depth, self.about.depth)
        check_tiles(config.data.tiles, self.about.tiles)
        trained = self.about.model.get("seed", config.seed_everything)
        if config.seed_everything != trained:
            raise SIVTError(
                f"seed_everything is {config.seed_everything}, but the checkpoint's model and its thresholds were made "
                f"with {trained}: leave the option out, or train a model with it."
            )

    def before_instantiate_classes(self) -> None:
        super().before_instantiate_classes()
        self.save_config_callback = None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand]
        # The precision of the network is the model's own affair.
        parts: dict[str, Any] = {"precision": "32-true", "callbacks": [Termination()]}
        if config.trainer.logger in (None, True):  # nothing is logged
            parts["logger"] = False
        if self.subcommand == "predict" and config.trainer.enable_progress_bar is not False:
            parts["callbacks"].append(PredictionProgress(config.writer))  # which tells more than Lightning's bar
        folder = Path(config.output or "predictions")
        return self.build_trainer(kwargs, folder, progress_bar=self.subcommand == "test", **parts)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        extra = {"test": {"verbose": False}, "predict": {"return_predictions": False}}
        return super()._prepare_subcommand_kwargs(subcommand) | {"ckpt_path": None} | extra[subcommand]

    def after_predict(self) -> None:
        # One process alone says so: Lightning would take it for a crash of the others.
        if self.config_init.predict.writer.failed and self.trainer.is_global_zero:
            self.exit_code = UNREADABLE_IMAGES
