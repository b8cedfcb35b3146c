"""Feature vectors of normal images, and the feature map rebuilt from them."""

import math
from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sivt_lightning.errors import SIVTError

AXES = 64  # dimensions in which neighbours are looked for; all 272 find no better ones by synthetic defects


class MemoryBank(nn.Module):
    """The vectors that a model remembers, of all its categories alike; it is never told which one it sees.

    Args:
        size: number of vectors.
        channels: of each.
    """

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.vectors: Tensor
        self.axes: Tensor
        self.places: Tensor
        self.register_buffer("vectors", torch.zeros(size, channels))
        self.register_buffer("axes", torch.zeros(channels, min(AXES, channels)))  # along which vectors differ most
        self.register_buffer("places", torch.zeros(min(AXES, channels), size))  # of the vectors along them
        # Lowest numbers of groups, and then of one group, are found in a third of the time (OpenVINO) of the lowest of
        # all: the largest divisor that is no larger than the others.
        self.groups = next(count for count in range(math.isqrt(size), 0, -1) if size % count == 0)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """F with the vector at each position replaced by the nearest one remembered."""
        images, _, height, _ = features.shape
        with torch.autocast(features.device.type, enabled=False):  # half precision cannot tell neighbours apart
            asked = rearrange(features.to(self.axes), "b c h w -> (b h w) c") @ self.axes
            # |p|^2 - 2 a p: what is left out of the squared distance is the same for all p.
            distances = torch.addmm(self.places.square().sum(dim=0), asked, self.places, alpha=-2)
        nearest = self.vectors.index_select(0, self._lowest(distances))
        return rearrange(nearest, "(b h w) c -> b c h w", b=images, h=height)

    def _lowest(self, distances: Float[Tensor, "N M"]) -> Int64[Tensor, " N"]:
        groups = rearrange(distances, "n (g m) -> n g m", g=self.groups)
        group = first_lowest(groups.amin(dim=2))
        rows = torch.arange(groups.shape[0], device=groups.device) * self.groups + group
        within = first_lowest(groups.flatten(0, 1).index_select(0, rows))
        return group * groups.shape[2] + within

    @torch.no_grad()
    def fill(self, candidates: Mapping[str, Float[Tensor, "_ C"]]) -> None:
        """Takes the same number of vectors from each category, by `coreset`. Where it has fewer, some are there twice,
        which changes nothing.

        Raises SIVTError where there is no room for each category.
        """
        size, count = len(self.vectors), len(candidates)
        if size < count:
            raise SIVTError(
                f"model.memory_bank {size} has no room for each of {count} categories: give it 100 or more for each, "
                "or 0 for none."
            )
        vectors = [candidates[name].to(self.vectors) for name in sorted(candidates)]
        moments = torch.stack([each.T @ each / len(each) for each in vectors]).mean(0)
        self.axes.copy_(torch.linalg.eigh(moments.cpu().double()).eigenvectors.flip(1)[:, : self.axes.shape[1]])
        shares = [(k + 1) * size // count - k * size // count for k in range(count)]
        parts = zip(vectors, shares, strict=True)
        chosen = torch.cat([each[coreset(each @ self.axes, share)] for each, share in parts])
        self.vectors.copy_(chosen[torch.arange(size, device=chosen.device) % len(chosen)])
        self.places.copy_((self.vectors @ self.axes).T)


def first_lowest(values: Float[Tensor, "N M"]) -> Int64[Tensor, " N"]:
    """Where each row is lowest, as `argmin` says, which OpenVINO sorts for; the last place of a row with NaN.

    >>> first_lowest(torch.tensor([[3.0, 1.0, 1.0], [0.0, 2.0, torch.inf], [torch.nan, 0.0, 1.0]]))
    tensor([1, 0, 2])
    """
    places = torch.arange(values.shape[1], device=values.device)
    return torch.where(values == values.amin(dim=1, keepdim=True), places, places[-1]).amin(dim=1)


def coreset(points: Float[Tensor, "N D"], size: int) -> Int64[Tensor, " M"]:
    """Positions of up to `size` points, each the farthest from its nearest one taken before: the greedy approximation
    of k-centre of which PatchCore (Roth et al., 2022) makes its memory bank.

    >>> coreset(torch.tensor([[0.0], [1.0], [9.0], [5.0]]), 3)
    tensor([0, 2, 3])
    """
    squares = points.square().sum(dim=1)
    taken = [torch.zeros((), dtype=torch.int64, device=points.device)]
    nearest = torch.full_like(squares, torch.inf)
    for _ in range(min(size, len(points)) - 1):
        last = taken[-1]
        nearest = torch.minimum(nearest, squares + squares[last] - 2 * (points @ points[last]))
        taken.append(nearest.argmax())
    return torch.stack(taken)
