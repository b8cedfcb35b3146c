"""What a model says of images."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Detection(NamedTuple):
    """Anomaly scores, 0 or more and without an upper bound: one an image, and one a pixel.

    The descriptor says what product it is of; None of an export that was made before there were any. The residual is
    that of which the map is made, as a logarithm at each position of the feature map; None of an export of a model
    without regions of interest, which ask for it.
    """

    score: Float[Tensor, " B"]
    map: Float[Tensor, "B S S"]
    descriptor: Float[Tensor, "B numbers"] | None = None
    residual: Float[Tensor, "B H W"] | None = None
