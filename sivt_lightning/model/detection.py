"""What a model says of images."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Detection(NamedTuple):
    """Anomaly scores, 0 or more and without an upper bound: one an image, and one a pixel.

    The descriptor says what product it is of; None of an export that was made before there were any. The residual is
    that of which the map is made, as a logarithm at each position of the feature map; None of an export of a model
    without regions of interest and tiles, which ask for it. Of photos that were cut into tiles, maps and residuals are
    lists: these photos differ in size.
    """

    score: Float[Tensor, " B"]
    map: Float[Tensor, "B S S"] | list[Float[Tensor, "height width"]]
    descriptor: Float[Tensor, "B numbers"] | None = None
    residual: Float[Tensor, "B H W"] | list[Float[Tensor, "rows columns"]] | None = None
