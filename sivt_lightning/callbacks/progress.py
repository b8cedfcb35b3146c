"""What a person sees of a training or a prediction while it runs."""

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sivt_lightning.callbacks.prediction import PredictionWriter
from sivt_lightning.data.dataset import Batch
from sivt_lightning.features.store import FeatureBatch


class TrainingProgress(Callback):
    """Logs images/s beside the loss in the progress bar; without a terminal prints one line an epoch instead."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.by_line = not sys.stdout.isatty()
        data, parameters = trainer.datamodule, list(pl_module.parameters())  # type: ignore[attr-defined]
        trainable = sum(p.numel() for p in parameters if p.requires_grad)
        if trainer.is_global_zero:
            print(
                f"Training {trainable:,} of {sum(p.numel() for p in parameters):,} parameters on "
                f"{len(data.train_set)} images of {len({s.category for s in data.train_set.samples})} categories, "
                f"{len(data.val_set)} held out; {trainer.accelerator.__class__.__name__}, {trainer.precision}",
                flush=True,
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch that was stopped within and goes on has no start of its own."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started, self.seen = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch | FeatureBatch, batch_idx: int
    ) -> None:
        self.seen += len(batch.index) * trainer.world_size
        rate = self.seen / (time.perf_counter() - self.started)
        pl_module.log("images_per_s", rate, prog_bar=True, batch_size=len(batch.index))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.by_line and trainer.is_global_zero:
            figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
            most = "" if trainer.max_epochs == -1 else f"/{trainer.max_epochs}"
            shown = [f"epoch {trainer.current_epoch + 1}{most}"]
            named = ("train/loss_epoch", "val/loss", "val/synthetic_auroc")
            shown += [f"{name.removesuffix('_epoch')} {figures[name]:.4g}" for name in named if name in figures]
            if self.seen:  # a training stopped at the very end of an epoch goes on with none of its batches
                shown.append(f"{figures['images_per_s']:.1f} images/s")
            print("  ".join(shown), flush=True)


class PredictionProgress(Callback):
    """On a terminal: images done, images/s, time left, and how many are anomalous or have no result so far."""

    def __init__(self, writer: PredictionWriter) -> None:
        self.writer = writer
        self.bar: Progress | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started, self.seen = time.perf_counter(), 0
        if not (trainer.is_global_zero and sys.stdout.isatty()):
            return
        self.bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} images/s,"),
            TimeElapsedColumn(),
            TextColumn("gone,"),
            TimeRemainingColumn(),
            TextColumn("left: {task.fields[anomalous]} anomalous, {task.fields[failed]} without a result"),
            console=Console(file=sys.stdout, force_terminal=True),
        )
        self.task = self.bar.add_task("", total=len(self.writer.todo), rate=0.0, anomalous=0, failed=0)
        self.bar.start()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Any, *_: Any
    ) -> None:
        """The other processes are about as far as this one."""
        self.seen = min(self.seen + len(batch.index) * trainer.world_size, len(self.writer.todo))
        self._update()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._update()
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _update(self) -> None:
        if self.bar is not None:
            rate = self.seen / (time.perf_counter() - self.started)
            anomalous, failed = self.writer.anomalous, self.writer.failed
            self.bar.update(self.task, completed=self.seen, rate=rate, anomalous=anomalous, failed=failed)

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
