"""One number of an anomaly map: the image score."""

from jaxtyping import Bool, Float
from torch import Tensor

from sivt_lightning.model.settings import ImageScore


def image_score(
    maps: Float[Tensor, "B height width"],
    kind: ImageScore,
    inspected: Bool[Tensor, "height width"] | None = None,
    tiles: float = 1.0,
) -> Float[Tensor, " B"]:
    """The mean of the highest 1 % of the map, or its standard deviation over the pixels (population).

    Where not all is `inspected`, of the pixels that are: a region is scored as a photo that shows no more than it.
    A map as large as several `tiles` is scored by as many pixels as one of them, or a small defect would count for less
    there.

    >>> import torch
    >>> image_score(torch.tensor([[[1.0, 9.0], [3.0, 5.0]]]), "highest", torch.tensor([[True, False], [True, True]]))
    tensor([5.])
    """
    if inspected is not None:
        values = maps[:, inspected]  # all of them: a narrow part may lie between every fourth
        return values.std(dim=1, correction=0) if kind == "deviation" else _highest(values, tiles)
    if kind == "deviation":
        return maps.std(dim=(1, 2), correction=0)
    # Smoothed, so every fourth pixel a side says enough, and sorting takes a sixteenth of the time.
    return _highest(maps[:, ::4, ::4].flatten(1), tiles)


def _highest(values: Float[Tensor, "B N"], tiles: float) -> Float[Tensor, " B"]:
    return values.topk(max(1, int(values.shape[1] / (100 * tiles))), dim=1).values.mean(dim=1)
