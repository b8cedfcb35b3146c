"""From residual to anomaly map (Eq. 3) and image score; and what the features say of the product."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.model.averaging import Averaging
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.distance import cosine_distance, squared_distance
from sivt_lightning.model.image_score import image_score
from sivt_lightning.model.settings import ImageScore, ModelSettings, Residual

# Of a vector's length. The memory bank may hold the very vectors of an even background, and a distance of none would,
# in a geometric mean, draw all around it down, defects too. No distance in real photos is so small.
ALIKE = 0.1
DESCRIBED = 16  # positions a side that the descriptor looks at, at least where there are as many


@dataclass(frozen=True)
class Scoring:
    """How a model makes its map and score; the arguments are settings of the same names, see `ModelSettings`.

    Args:
        parts: channels of each output of the backbone, in the order in which F holds them.
        feature_stride: pixels of the map to a position of the feature map.
    """

    parts: Sequence[int]
    feature_stride: int
    residual: Residual
    map_power: float
    smoothing_sigma: float
    image_score: ImageScore

    @classmethod
    def of(cls, settings: ModelSettings, parts: Sequence[int]) -> "Scoring":
        """As a model's settings say."""
        return cls(
            parts,
            settings.feature_stride,
            settings.residual,
            settings.map_power,
            settings.smoothing_sigma,
            settings.image_score,
        )

    def __call__(
        self,
        features: Float[Tensor, "B C H W"],
        reconstruction: Float[Tensor, "B C H W"],
        remembered: Float[Tensor, "B C H W"] | None = None,
    ) -> Detection:
        """Map, image score and descriptor of what was reconstructed, and remembered where there is a memory bank."""
        logarithm = self.logarithm(features, reconstruction, remembered)
        maps = self.averaging(logarithm)
        return Detection(image_score(maps, self.image_score), maps, image_descriptor(features), logarithm)

    @property
    def averaging(self) -> Averaging:
        """Of the residuals, which makes the map."""
        return Averaging(self.feature_stride, self.map_power, self.smoothing_sigma)

    def anomaly_map(
        self,
        features: Float[Tensor, "B C H W"],
        reconstruction: Float[Tensor, "B C H W"],
        remembered: Float[Tensor, "B C H W"] | None = None,
    ) -> Float[Tensor, "B S S"]:
        """Eq. 3, upsampled to the image and smoothed."""
        return self.averaging(self.logarithm(features, reconstruction, remembered))

    def logarithm(
        self,
        features: Float[Tensor, "B C H W"],
        reconstruction: Float[Tensor, "B C H W"],
        remembered: Float[Tensor, "B C H W"] | None = None,
    ) -> Float[Tensor, "B H W"]:
        """Of Eq. 3 at each position; with a memory bank of the geometric mean of the reconstruction's and that of the
        vectors remembered, which asks for no common scale."""
        logarithm = self._logarithm(features, reconstruction)
        if remembered is not None:
            logarithm = (logarithm + self._logarithm(features, remembered, ALIKE)) / 2
        return logarithm

    def _logarithm(
        self, features: Float[Tensor, "B C H W"], rebuilt: Float[Tensor, "B C H W"], alike: float = 0.0
    ) -> Float[Tensor, "B H W"]:
        """Of Eq. 3 at each position."""
        if self.residual == "whole":
            return _product(features, rebuilt, alike).log()
        pairs = zip(features.split(self.parts, 1), rebuilt.split(self.parts, 1), strict=True)
        logarithms = [number * _product(*pair, alike).log() for number, pair in enumerate(pairs, start=1)]
        return torch.stack(logarithms).sum(0) / sum(range(1, len(logarithms) + 1))


def _product(
    features: Float[Tensor, "B C H W"], rebuilt: Float[Tensor, "B C H W"], alike: float
) -> Float[Tensor, "B H W"]:
    """Squared distance times cosine distance at each position. Above 0, for a mean of logarithms: a distance that
    rounds to nothing is as small as rounding lets it be, and `alike`, a share of the vector's length, is the least
    distance that is told from none."""
    squared, cosine = squared_distance(features, rebuilt), cosine_distance(features, rebuilt)
    if alike:
        squared = torch.maximum(squared, alike**2 * features.square().sum(dim=1))
    rounding = torch.finfo(cosine.dtype).eps
    return (squared * cosine.clamp(min=max(rounding, alike**2 / 2))).clamp(min=torch.finfo(torch.float32).tiny)


def image_descriptor(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 3*C"]:
    """The quartiles of each channel over a grid of 16 to 31 positions a side, where there are as many.

    Other than by means, a defect in less than a quarter of the photo hardly moves them; another product moves most of
    them, also where it takes but a quarter of a photo whose background is the same.
    """
    step = max(1, features.shape[-1] // DESCRIBED)
    values = rearrange(features[:, :, ::step, ::step], "b c h w -> b (h w) c")
    count = values.shape[1]
    # Exports know no sorting but this. OpenVINO is four times as quick at it where channels come last.
    falling = values.topk(3 * count // 4 + 1, dim=1).values
    return torch.cat([falling[:, part * count // 4] for part in (1, 2, 3)], dim=1)
