"""Parts of a model with few words: whatever a test leaves out is as small as it can be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule

from sivt_lightning.inference.about import About
from sivt_lightning.inference.calibration import Calibration, Good, calibrate
from sivt_lightning.inference.thresholds import Thresholds
from sivt_lightning.model.backbone import Backbone
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.reconstructor import Reconstructor
from sivt_lightning.model.settings import ModelSettings

# The feature map is the photo itself, so that a defect is seen where it lies.
PIXELS = """
model:
  backbone: pixels
  strides: [4]
  weights: random
  image_size: 32
  patch_size: 1
  feature_stride: 4
  width: 16
  encoder_depth: 1
  decoder_depth: 1
  heads: 4
  smoothing_sigma: 1.0
  memory_bank: 64
"""


def backbone_of(name: str, strides: Sequence[int], image_size: int, **changes: Any) -> Backbone:
    """With a reconstructor that fits any feature map."""
    rest = {"patch_size": 1, "groups": 1, "self_induction": False, "smoothing_sigma": 0.0} | changes
    return Backbone(ModelSettings(backbone=name, strides=strides, image_size=image_size, **rest))


def reconstructor_of(channels: int, grid: int, **changes: Any) -> Reconstructor:
    """Of feature maps of this size."""
    return Reconstructor(channels, ModelSettings(image_size=8 * grid, smoothing_sigma=0.0, **changes))


def calibration_of(share: float = 0.05, photos: int = 19, **products: tuple[float, int, int]) -> Calibration:
    """Each product's highest score and peak, which the others of so many good photos lie below; its green and blue."""
    spread = np.linspace(-0.01, 0.01, photos)
    below = np.linspace(0.5, 1, photos)
    good = {
        name: Good(below * highest, below * highest, np.array([green, blue]) / 255 + spread[:, None])
        for name, (highest, green, blue) in products.items()
    }
    return calibrate(good, {}, share)


def about_of(known: Calibration | Thresholds | None, image_size: int = 16) -> About:
    """A checkpoint that says nothing else."""
    calibration, thresholds = (known if isinstance(known, kind) else None for kind in (Calibration, Thresholds))
    return About("checkpoint", "32-true", image_size, None, calibration, thresholds, {}, {}, {})


class Probe(LightningModule):
    """Stands for a trained model, what a test paints is what it says: red is the anomaly map, its maximum the score.

    The means of green and blue are the descriptor.
    """

    path, precision = Path("probe.ckpt"), "32-true"

    def __init__(self, known: Calibration | Thresholds | None = None, name: str = "probe") -> None:
        super().__init__()
        self.about, self.name = about_of(known), name

    def identity(self) -> str:
        return self.name

    def test_step(self, batch: Any, batch_idx: int) -> Detection:
        maps = batch.images[:, 0]
        return Detection(maps.amax((1, 2)), maps, batch.images[:, 1:].mean((2, 3)))

    def predict_step(self, batch: Any, batch_idx: int) -> Detection:
        return self.test_step(batch, batch_idx)
