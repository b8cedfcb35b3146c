"""Feature maps with pieces in wrong places, for the model to learn to restore them."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.seeding import integer, ratio, uniform

MOST_PIECES = 3
LEAST, MOST = 1 / 16, 1 / 2  # of the map's side, the sides of a piece


def pasted(
    features: Float[Tensor, "B C H W"], share: float, generators: Iterable[torch.Generator]
) -> Float[Tensor, "B C H W"] | None:
    """This share of the feature maps with one to three rectangles of what stands elsewhere in the same map.

    What the reconstruction is held against stays as it was, so that the model learns to put what belongs there in the
    place of what does not. A generator for each image; None where nothing is pasted.
    """
    if not share:
        return None
    pairs = zip(features, generators, strict=True)
    return torch.stack([_pasted(one, draw) if uniform(draw, 0.0, 1.0) < share else one for one, draw in pairs])


def _pasted(features: Float[Tensor, "C H W"], generator: torch.Generator) -> Float[Tensor, "C H W"]:
    height, width = features.shape[1:]
    elsewhere = features.roll((integer(generator, 0, height - 1), integer(generator, 0, width - 1)), (1, 2))
    result = features.clone()
    for _ in range(integer(generator, 1, MOST_PIECES)):
        rows, columns = _piece(height, generator), _piece(width, generator)
        result[:, rows, columns] = elsewhere[:, rows, columns]
    return result


def _piece(side: int, generator: torch.Generator) -> slice:
    """Where along a side."""
    length = max(1, round(side * ratio(generator, LEAST, MOST)))
    start = integer(generator, 0, side - length)
    return slice(start, start + length)
