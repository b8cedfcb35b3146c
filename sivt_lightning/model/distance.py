"""How far a reconstruction is from its features: the two distances that loss (Eq. 2) and score (Eq. 3) share."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity


def squared_distance(
    features: Float[Tensor, "B C H W"], reconstruction: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B H W"]:
    """Squared Euclidean distance of the feature vectors at each position, in float32 or wider."""
    return (_wide(features) - _wide(reconstruction)).square().sum(dim=1)


def cosine_distance(
    features: Float[Tensor, "B C H W"], reconstruction: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B H W"]:
    """1 - cosine of the feature vectors at each position, in float32 or wider, from 0 to 2."""
    similarity = cosine_similarity(_wide(features), _wide(reconstruction), dim=1)
    return (1 - similarity).clamp(min=0)  # rounding may carry the cosine beyond 1


def _wide(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return values if values.dtype == torch.float64 else values.float()
