"""What a person sees of a prediction while it runs."""

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sivt_lightning.prediction_files.writer import PredictionWriter


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
            TextColumn("left: {task.fields[said]}"),
            console=Console(file=sys.stdout, force_terminal=True),
        )
        self.task = self.bar.add_task("", total=len(self.writer.todo), rate=0.0, said="")
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
            unknown = f"{self.writer.unknown} unknown, " if self.writer.unknown else ""
            said = f"{self.writer.anomalous} anomalous, {unknown}{self.writer.failed} without a result"
            self.bar.update(self.task, completed=self.seen, rate=rate, said=said)

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
