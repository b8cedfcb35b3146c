"""Thresholds from the held-out normal images, so that a score can become a verdict."""

from typing import Any

import numpy as np
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from sivt_lightning.callbacks.common import NOT_FINITE, gather
from sivt_lightning.errors import SIVTError
from sivt_lightning.scoring import Thresholds

STRIDE = 4  # maps are smooth: every fourth pixel in both directions says the same of their values in 1/16 of the memory


def thresholds_of(
    scores: Float[np.ndarray, " images"],
    pixels: Float[np.ndarray, " pixels"],
    quantile: float,
) -> Thresholds:
    """The quantile of the scores and of the maps' values over normal images; a value above it is anomalous.

    Method "higher" answers with a value that occurred, never with one interpolated below it: strictly above the
    threshold is then at most the share 1 - quantile of the normal images.

    >>> thresholds_of(np.arange(10.0), np.arange(100.0), 0.9)
    Thresholds(image=9.0, pixel=90.0, quantile=0.9, images=10)
    """
    return Thresholds(
        image=float(np.quantile(scores, quantile, method="higher")),
        pixel=float(np.quantile(pixels, quantile, method="higher")),
        quantile=quantile,
        images=len(scores),
    )


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
        self.scores: list[np.ndarray] = []
        self.pixels: list[np.ndarray] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation."""
        self.scores, self.pixels = [], []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep scores and thinned maps; the data module has stopped at an image that cannot be read."""
        if _calibrates(trainer):
            self.scores.append(outputs.score.float().cpu().numpy())
            self.pixels.append(outputs.map[:, ::STRIDE, ::STRIDE].float().flatten().cpu().numpy())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the same thresholds on every process."""
        if not _calibrates(trainer):
            return
        held = gather((self.scores, self.pixels))
        scores = np.concatenate([part for rank_scores, _ in held for part in rank_scores])
        pixels = np.concatenate([part for _, rank_pixels in held for part in rank_pixels])
        if not (np.isfinite(scores).all() and np.isfinite(pixels).all()):  # else nothing would ever be anomalous
            raise SIVTError(f"No threshold can be set: an anomaly score of a held-out image is {NOT_FINITE}")
        pl_module.thresholds = thresholds_of(scores, pixels, self.quantile)  # type: ignore[assignment]
        self.scores, self.pixels = [], []


def _calibrates(trainer: Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
