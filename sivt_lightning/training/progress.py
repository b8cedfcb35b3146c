"""What a person sees of a training while it runs."""

import sys
import time

from lightning.pytorch import Callback, LightningModule, Trainer

from sivt_lightning.data.datamodule import data_of
from sivt_lightning.data.dataset import Batch
from sivt_lightning.features.store import FeatureBatch


class TrainingProgress(Callback):
    """Logs images/s beside the loss in the progress bar; without a terminal prints one line an epoch instead."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.by_line = not sys.stdout.isatty()
        data, parameters = data_of(trainer), list(pl_module.parameters())
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
