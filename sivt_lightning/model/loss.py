"""The training loss (Eq. 2)."""

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.model.distance import cosine_distance, squared_distance


def reconstruction_loss(
    features: Float[Tensor, "B C H W"], reconstruction: Float[Tensor, "B C H W"], cosine_weight: float
) -> Float[Tensor, " B"]:
    """Loss of each image: mean over positions of squared distance + lambda * cosine distance, in float32."""
    squared = squared_distance(features, reconstruction)
    return torch.mean(squared + cosine_weight * cosine_distance(features, reconstruction), dim=(1, 2))
