"""From a residual at each position of the feature map to the anomaly map."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from kornia.filters import get_gaussian_kernel1d
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, conv1d, interpolate, pad

from sivt_lightning.model.settings import blur_radius


@dataclass(frozen=True)
class Averaging:
    """Upsampling and smoothing, which take the power mean of neighbours.

    A small power (ours is 0, the geometric mean) lets a glaring position spread less over its faint neighbours, and so
    draws closer outlines.

    Args:
        stride: pixels of the map to a position, in both directions.
        power: of the mean.
        sigma: of the smoothing, in pixels.
    """

    stride: int
    power: float
    sigma: float

    def __call__(self, logarithm: Float[Tensor, "B H W"]) -> Float[Tensor, "B height width"]:
        """The map of these logarithms of residuals."""
        if self.power == 0:
            return self._averaged(logarithm).exp()
        return self._averaged((self.power * logarithm).exp()).pow(1 / self.power)

    def within(
        self, logarithm: Float[Tensor, "B H W"], inspected: Bool[Tensor, "height width"]
    ) -> Float[Tensor, "B height width"]:
        """The map where it is inspected, 0 elsewhere.

        Means are over positions that hold an inspected pixel: beside a region lies what the model has never learned to
        rebuild, and in the plain map that would shine into the region.
        """
        counted = positions(inspected, *logarithm.shape[1:])
        weight = self._averaged(counted[None])  # above 0 at each inspected pixel
        if self.power == 0:
            maps = (self._averaged(logarithm * counted) / weight).exp()
        else:
            maps = (self._averaged((self.power * logarithm).exp() * counted) / weight).pow(1 / self.power)
        return torch.where(inspected, maps, 0)

    def _averaged(self, values: Float[Tensor, "B H W"]) -> Float[Tensor, "B height width"]:
        rows, columns = values.shape[1:]
        across = self._weights(values.new_ones(columns))
        down = across if rows == columns else self._weights(values.new_ones(rows))
        return down.mT @ values @ across

    def _weights(self, ones: Float[Tensor, " n"]) -> Float[Tensor, "n N"]:
        """Of n positions in a row for each of its N pixels.

        Upsampling and smoothing are linear, along rows and along columns: two products of small matrices, for a batch
        of 8 in a seventh of the time that maps of full size take.
        """
        upsampled = interpolate(ones.diag()[None], size=len(ones) * self.stride, mode="linear", align_corners=False)[0]
        radius = blur_radius(self.sigma)
        if not radius:
            return upsampled
        # Filled where it is needed: a GPU's kernels cannot be recorded with a copy from the processor among them.
        kernel = get_gaussian_kernel1d(2 * radius + 1, ones.new_full((1, 1), self.sigma))
        return conv1d(pad(upsampled, (radius, radius), "reflect")[:, None], kernel[None])[:, 0]


def positions(inspected: Bool[Tensor, "*B _ _"], rows: int, columns: int) -> Float[Tensor, "*B {rows} {columns}"]:
    """1 at positions of the feature map that hold an inspected pixel, 0 at others.

    >>> positions(torch.tensor([[True, False, False, False], *[[False] * 4] * 3]), 2, 2)
    tensor([[1., 0.],
            [0., 0.]])
    """
    planes = inspected.float().reshape(-1, 1, *inspected.shape[-2:])
    return adaptive_max_pool2d(planes, (rows, columns)).reshape(*inspected.shape[:-2], rows, columns)
