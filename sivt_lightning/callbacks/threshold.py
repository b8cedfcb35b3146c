"""Thresholds from the held-out normal images, so that a score can become a verdict."""

from collections import defaultdict
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from sivt_lightning.callbacks.common import NOT_FINITE, gather
from sivt_lightning.errors import SIVTError
from sivt_lightning.thresholds import Threshold, Thresholds, threshold_of

STRIDE = 4  # maps are smooth: every fourth pixel in both directions says the same of their values in 1/16 of the memory


Held = dict[int, tuple[float, np.ndarray]]  # held-out image -> its score and thinned map


class ThresholdCalibration(Callback):
    """Set the module's `thresholds` at the end of every validation of a fit.

    It acts in `on_validation_epoch_end`. ModelCheckpoint saves in `on_validation_end` or `on_train_epoch_end`, which
    Lightning calls later (and it calls checkpoint callbacks last in every hook), so a checkpoint that follows a
    validation holds the thresholds of the very weights it saves.

    Args:
        quantile: the share of normal images, and of their pixels, that may not be above the threshold.
    """

    def __init__(self, quantile: float = 0.99) -> None:
        if not 0 < quantile < 1:
            raise SIVTError(f"The quantile of the thresholds must lie between 0 and 1, both excluded; got {quantile}.")
        self.quantile = quantile
        self.found: Held = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation."""
        self.found = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep scores and thinned maps; the data module has stopped at an image that cannot be read."""
        if _calibrates(trainer):
            pixels = outputs.map[:, ::STRIDE, ::STRIDE].float().flatten(1).cpu().numpy()
            scores = outputs.score.float().tolist()
            self.found |= {i: (scores[k], pixels[k]) for k, i in enumerate(batch.index.tolist())}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the same thresholds on every process."""
        if not _calibrates(trainer):
            return
        held: Held = {i: values for part in gather(self.found) for i, values in part.items()}
        self.found = {}
        by_category: dict[str, Held] = defaultdict(dict)
        for i, values in held.items():
            by_category[trainer.datamodule.val_set.samples[i].category][i] = values  # type: ignore[attr-defined]
        categories = {name: self._threshold(by_category[name]) for name in sorted(by_category)}
        module: Any = pl_module
        module.thresholds = Thresholds(self.quantile, self._threshold(held), categories)

    def _threshold(self, held: Held) -> Threshold:
        scores = np.array([score for score, _ in held.values()])
        pixels = np.concatenate([values for _, values in held.values()])
        if not (np.isfinite(scores).all() and np.isfinite(pixels).all()):  # else nothing would ever be anomalous
            raise SIVTError(f"No threshold can be set: an anomaly score of a held-out image is {NOT_FINITE}")
        return threshold_of(scores, pixels, self.quantile)


def _calibrates(trainer: Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
