"""Feature maps with pieces in wrong places, for the model to learn to restore them."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

MOST_PIECES = 3
LEAST, MOST = 1 / 16, 1 / 2  # of the map's side, the sides of a piece


def pasted(
    features: Float[Tensor, "B C H W"], share: float, generators: Iterable[torch.Generator]
) -> Float[Tensor, "B C H W"]:
    """This share of the feature maps with one to three rectangles of what stands elsewhere in the same map.

    What the reconstruction is held against stays as it was, so that the model learns to put what belongs there in the
    place of what does not. A generator for each image.
    """
    pairs = zip(features, generators, strict=True)
    return torch.stack([_pasted(one, draw) if _uniform(draw) < share else one for one, draw in pairs])


def _pasted(features: Float[Tensor, "C H W"], generator: torch.Generator) -> Float[Tensor, "C H W"]:
    height, width = features.shape[1:]
    elsewhere = features.roll((_integer(height, generator), _integer(width, generator)), (1, 2))
    result = features.clone()
    for _ in range(1 + _integer(MOST_PIECES, generator)):
        rows, columns = _piece(height, generator), _piece(width, generator)
        result[:, rows, columns] = elsewhere[:, rows, columns]
    return result


def _piece(side: int, generator: torch.Generator) -> slice:
    """Where along a side; its length is uniform in the logarithm."""
    length = max(1, round(side * LEAST * (MOST / LEAST) ** _uniform(generator)))
    start = _integer(side - length + 1, generator)
    return slice(start, start + length)


def _integer(limit: int, generator: torch.Generator) -> int:
    """From 0 to below the limit."""
    return int(torch.randint(limit, (), generator=generator))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
