"""What a model says of images."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Detection(NamedTuple):
    """Anomaly scores, 0 or more and without an upper bound: one an image, and one a pixel.

    The descriptor says what product it is of; None of an export that was made before there were any.
    """

    score: Float[Tensor, " B"]
    map: Float[Tensor, "B S S"]
    descriptor: Float[Tensor, "B numbers"] | None = None
