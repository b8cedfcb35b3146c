"""How far a reconstruction is from its features: the two distances that loss (Eq. 2) and score (Eq. 3) share."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity


def squared_distance(
    features: Float[Tensor, "B C H W"], reconstruction: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B H W"]:
    """Squared Euclidean distance of the feature vectors at each position, in float32."""
    return (features.float() - reconstruction.float()).square().sum(dim=1)


def cosine_distance(
    features: Float[Tensor, "B C H W"], reconstruction: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B H W"]:
    """1 - cosine of the feature vectors at each position, in float32, from 0 to 2."""
    similarity = cosine_similarity(features.float(), reconstruction.float(), dim=1)
    return (1 - similarity).clamp(min=0)  # rounding may carry the cosine beyond 1
