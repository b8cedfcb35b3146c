"""From residual to anomaly map (Eq. 3) and image score; and what the features say of the product."""

import torch
from jaxtyping import Float
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn.functional import interpolate

from sivt_lightning.model.distance import cosine_distance, squared_distance
from sivt_lightning.model.settings import blur_radius

DESCRIBED = 16  # positions a side that the descriptor looks at, at least where there are as many


def anomaly_map(
    features: Float[Tensor, "B C H W"],
    reconstruction: Float[Tensor, "B C H W"],
    image_size: int,
    sigma: float,
    power: float = 1.0,
) -> Float[Tensor, "B S S"]:
    """Eq. 3: squared distance times cosine distance, upsampled to the image and smoothed (`sigma` in pixels).

    Where both average neighbours they take the power mean: 1, the mean, is the paper's. A smaller `power` (ours) lets a
    glaring position spread less over its faint neighbours, and so draws closer outlines.
    """
    residual = squared_distance(features, reconstruction) * cosine_distance(features, reconstruction)
    if power != 1:
        residual = residual.pow(power)
    upsampled = interpolate(residual[:, None], size=image_size, mode="bilinear", align_corners=False)
    smoothed = smooth(upsampled, sigma)[:, 0]
    return smoothed if power == 1 else smoothed.pow(1 / power)


def smooth(maps: Float[Tensor, "B 1 S S"], sigma: float) -> Float[Tensor, "B 1 S S"]:
    """Gaussian filter of deviation `sigma` pixels, cut at 4 sigma, mirrored at the border; 0 for none."""
    if sigma == 0:
        return maps
    size = 2 * blur_radius(sigma) + 1
    return gaussian_blur2d(maps, (size, size), (sigma, sigma), border_type="reflect")


def image_descriptor(features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 3*C"]:
    """The quartiles of each channel over a grid of 16 to 31 positions a side, where there are as many.

    Other than by means, a defect in less than a quarter of the photo hardly moves them; another product moves most of
    them, also where it takes but a quarter of a photo whose background is the same.
    """
    step = max(1, features.shape[-1] // DESCRIBED)
    values = features[:, :, ::step, ::step].flatten(2)
    count = values.shape[2]
    falling = values.topk(3 * count // 4 + 1, dim=2).values  # exports know no sorting but this
    return torch.cat([falling[:, :, part * count // 4] for part in (1, 2, 3)], dim=1)


def image_score(maps: Float[Tensor, "B S S"]) -> Float[Tensor, " B"]:
    """The map's standard deviation over its pixels (population)."""
    return maps.std(dim=(1, 2), correction=0)
