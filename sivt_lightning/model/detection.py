"""What a model says of images."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Detection(NamedTuple):
    """Anomaly scores, 0 or more and without an upper bound: one an image, and one a pixel."""

    score: Float[Tensor, " B"]
    map: Float[Tensor, "B S S"]
