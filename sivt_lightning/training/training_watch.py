"""What a researcher watches in a training: loss by category, gradient norm, and that the loss is a number."""

import math
from collections import defaultdict
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from sivt_lightning.data.datamodule import data_of
from sivt_lightning.data.dataset import Batch
from sivt_lightning.errors import Agreed
from sivt_lightning.features.store import FeatureBatch
from sivt_lightning.processes import gather
from sivt_lightning.training.interruption import AGREE_EVERY


class TrainingWatch(Callback):
    """Logs train/grad_norm (before clipping), train/images (passes so far) and val/loss/CATEGORY.

    Stops at a loss that is no finite number; several processes do so together, whichever of them met it.
    """

    unchecked: tuple[torch.Tensor, int, Batch | FeatureBatch] | None = None
    trouble: tuple[int, str] | None = None  # what this process met first: step and sentence

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Called after the gradients are unscaled and before they are clipped."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        pl_module.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch | FeatureBatch, batch_idx: int
    ) -> None:
        """Check the loss of the step before: to ask for this one's would let a GPU run dry at every step."""
        self._look(trainer)
        self.unchecked = (outputs["loss"], trainer.global_step, batch)
        # To agree costs several processes an exchange.
        if trainer.world_size == 1 or trainer.global_step % AGREE_EVERY == 0:
            self._agree(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Of the middle of an epoch, say, over one with sound weights."""
        self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before anything is saved."""
        self._check(trainer)
        self.losses: dict[int, float] = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch | FeatureBatch, *_: Any
    ) -> None:
        """Keep the loss of each image."""
        self.losses |= dict(zip(batch.index.tolist(), outputs.loss.tolist(), strict=True))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The mean of each category over all processes."""
        data = data_of(trainer)
        pl_module.log("train/images", float((trainer.current_epoch + 1) * len(data.train_set)), sync_dist=True)
        samples = data.val_set.samples
        by_category: dict[str, list[float]] = defaultdict(list)
        for part in gather(self.losses):
            for index, loss in part.items():
                by_category[samples[index].category].append(loss)
        for category in sorted(by_category):
            mean = math.fsum(by_category[category]) / len(by_category[category])
            pl_module.log(f"val/loss/{category}", mean, sync_dist=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch without a validation is saved, too."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        self._look(trainer)
        self._agree(trainer)

    def _agree(self, trainer: Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(bool(self.trouble), all=False):
            _, sentence = min(trouble for trouble in gather(self.trouble) if trouble)  # the others follow from it
            raise Agreed(sentence)

    def _look(self, trainer: Trainer) -> None:
        if self.unchecked is None:
            return
        loss, step, batch = self.unchecked
        self.unchecked = None
        if not (self.trouble or math.isfinite(loss)):
            samples = data_of(trainer).train_set.samples
            images = ", ".join(str(samples[i].path) for i in batch.index.tolist())
            self.trouble = (
                step,
                f"The loss is {float(loss)} at step {step} (epoch {trainer.current_epoch + 1}), on {images}. "
                "Train with a lower --model.learning_rate, or with --trainer.precision 32-true.",
            )
