"""The residuals of a photo's tiles as one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

# Share of the whole photo's residual in the geometric mean with that of its tiles. Less would do for small defects,
# more for misplaced parts: see docs/results-appendix.md.
WHOLE = 1 / 6


def stitched(
    residuals: Float[Tensor, "images H W"], tops: Sequence[int], lefts: Sequence[int]
) -> Float[Tensor, "height width"]:
    """One of the whole photo, from the logarithms of its tiles' residuals and, the last, of its own as it was squeezed.

    In the logarithm a scale of their own, which tiles and whole have, only moves all of a photo's map alike. Where
    tiles overlap, each counts the more the farther its border is: beyond that it knows nothing of the photo.

    Args:
        residuals: of the tiles row by row, and of the whole.
        tops: first rows of the tiles, in positions of the feature map.
        lefts: first columns, likewise.

    >>> tiles = torch.tensor([[[0.0]], [[3.0]], [[6.0]]])
    >>> stitched(tiles, [0], [0, 1])
    tensor([[1.0000, 3.5000]])
    """
    *tiles, whole = residuals
    high, wide = whole.shape
    weight = _ramp(high, whole.device)[:, None] * _ramp(wide, whole.device)
    total = whole.new_zeros(tops[-1] + high, lefts[-1] + wide)
    weights = torch.zeros_like(total)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, len(lefts))
        place = slice(tops[row], tops[row] + high), slice(lefts[column], lefts[column] + wide)
        total[place] += weight * tile
        weights[place] += weight
    coarse = interpolate(whole[None, None], size=total.shape, mode="bilinear", align_corners=False)[0, 0]
    return (1 - WHOLE) * total / weights + WHOLE * coarse


def _ramp(length: int, device: torch.device) -> Float[Tensor, " {length}"]:
    """Rises to the middle."""
    at = torch.arange(length, device=device) + 0.5
    return torch.minimum(at, length - at)
