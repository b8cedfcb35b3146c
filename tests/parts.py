"""Parts of a model with few words: whatever a test leaves out is as small as it can be."""

from collections.abc import Sequence
from typing import Any

from sivt_lightning.model.backbone import Backbone
from sivt_lightning.model.reconstructor import Reconstructor
from sivt_lightning.model.settings import ModelSettings


def backbone_of(name: str, strides: Sequence[int], image_size: int, **changes: Any) -> Backbone:
    """With a reconstructor that fits any feature map."""
    rest = {"patch_size": 1, "groups": 1, "self_induction": False, "smoothing_sigma": 0.0} | changes
    return Backbone(ModelSettings(backbone=name, strides=strides, image_size=image_size, **rest))


def reconstructor_of(channels: int, grid: int, **changes: Any) -> Reconstructor:
    """Of feature maps of this size."""
    return Reconstructor(channels, ModelSettings(image_size=8 * grid, smoothing_sigma=0.0, **changes))
