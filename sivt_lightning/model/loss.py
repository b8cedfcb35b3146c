"""The training loss (Eq. 2)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.model.distance import cosine_distance, squared_distance


def reconstruction_loss(
    features: Float[Tensor, "B C H W"],
    reconstruction: Float[Tensor, "B C H W"],
    cosine_weight: float,
    inspected: Float[Tensor, "B H W"] | None = None,
) -> Float[Tensor, " B"]:
    """Loss of each image: mean over positions of squared distance + lambda * cosine distance, in float32.

    `inspected` is 1 at the positions that the mean is over, at least one, and 0 at others; None for all.
    """
    squared = squared_distance(features, reconstruction)
    distance = squared + cosine_weight * cosine_distance(features, reconstruction)
    if inspected is None:
        return torch.mean(distance, dim=(1, 2))
    return (distance * inspected).sum(dim=(1, 2)) / inspected.sum(dim=(1, 2))
