"""From residual to anomaly map (Eq. 3) and image score."""

import math
from typing import Literal

from einops import rearrange
from jaxtyping import Float
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn.functional import interpolate

from sivt_lightning.distance import cosine_distance, squared_distance
from sivt_lightning.errors import SIVTError

Statistic = Literal["std", "max", "top"]
TOP = 0.01  # share of the pixels that "top" is the mean of


def anomaly_map(
    features: Float[Tensor, "B C H W"],
    reconstruction: Float[Tensor, "B C H W"],
    image_size: int,
    sigma: float,
    power: float = 1.0,
) -> Float[Tensor, "B S S"]:
    """Eq. 3: squared distance times cosine distance, upsampled to the image and smoothed (`sigma` in pixels).

    `power` is ours: below 1 it keeps one glaring position from outshining a defect of many faint ones as both are
    averaged with their neighbours. 1 is the paper's.
    """
    residual = squared_distance(features, reconstruction) * cosine_distance(features, reconstruction)
    residual = residual if power == 1 else residual.pow(power)
    upsampled = interpolate(residual[:, None], size=image_size, mode="bilinear", align_corners=False)
    return smooth(upsampled, sigma)[:, 0]


def smooth(maps: Float[Tensor, "B 1 S S"], sigma: float) -> Float[Tensor, "B 1 S S"]:
    """Gaussian filter of deviation `sigma` pixels, cut at 4 sigma, mirrored at the border; 0 for none."""
    if sigma == 0:
        return maps
    size = 2 * blur_radius(sigma) + 1
    return gaussian_blur2d(maps, (size, size), (sigma, sigma), border_type="reflect")


def blur_radius(sigma: float) -> int:
    """Pixels that the Gaussian of `smooth` reaches to either side."""
    return math.ceil(4 * sigma)


def check_power(power: float) -> None:
    """Raises SIVTError where a residual has no such power."""
    if not 0 < power < math.inf:
        raise SIVTError(f"map_power is {power}: give a positive number, such as 1 (the paper's) or 0.5.")


def check_sigma(sigma: float, image_size: int) -> None:
    """Raises SIVTError where the Gaussian does not fit the image."""
    if not math.isfinite(sigma) or sigma < 0:
        raise SIVTError(f"smoothing_sigma is {sigma}: give a width of 0 pixels (no smoothing) or more.")
    if blur_radius(sigma) >= image_size:
        raise SIVTError(
            f"smoothing_sigma {sigma} reaches {blur_radius(sigma)} pixels, beyond an image of {image_size}: "
            f"choose {(image_size - 1) // 4} or less."
        )


def image_score(maps: Float[Tensor, "B S S"], statistic: Statistic = "std") -> Float[Tensor, " B"]:
    """The map's standard deviation over its pixels (population), its maximum, or the mean of its highest 1 %.

    >>> import torch
    >>> image_score(torch.tensor([[[0.0, 2.0], [2.0, 0.0]]]), "std")
    tensor([1.])
    """
    if statistic == "std":
        return maps.std(dim=(1, 2), correction=0)
    pixels = rearrange(maps, "b h w -> b (h w)")
    count = 1 if statistic == "max" else max(1, round(TOP * pixels.shape[1]))
    return pixels.topk(count, dim=1).values.mean(dim=1)
