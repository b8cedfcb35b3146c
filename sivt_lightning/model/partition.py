"""Groups of positions: drawing them, hiding them behind induction tokens, collecting what was induced (Algorithm 1).

A partition is a group index in 0..N-1 for each position. Group i is the set of positions that hold induction tokens in
sequence i; everywhere else sequence i holds the image's own patch tokens.
"""

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor


def draw_partition(length: int, groups: int, generator: torch.Generator) -> Int64[Tensor, " L"]:
    """Random groups for one image: disjoint, complete, sizes within one of each other.

    >>> draw_partition(10, groups=4, generator=torch.Generator()).bincount().tolist()
    [3, 3, 2, 2]
    """
    return torch.randperm(length, generator=generator) % groups


def substitute(
    tokens: Float[Tensor, "B L D"], induction: Float[Tensor, "L D"], partition: Int64[Tensor, "#B L"], groups: int
) -> Float[Tensor, "NB L D"]:
    """The sequences Phi of Eq. 1: sequence i of an image has the induction tokens at the positions of group i."""
    group = torch.arange(groups, device=partition.device)
    hidden = rearrange(partition, "b l -> 1 b l 1") == rearrange(group, "n -> n 1 1 1")
    return rearrange(torch.where(hidden, induction, tokens), "n b l d -> (n b) l d")


def collect(latents: Float[Tensor, "NB L D"], partition: Int64[Tensor, "#B L"], groups: int) -> Float[Tensor, "B L D"]:
    """At each position the output of the one sequence that held an induction token there; the rest is discarded."""
    by_group = rearrange(latents, "(n b) l d -> n b l d", n=groups)
    index = rearrange(partition, "b l -> 1 b l 1").expand(1, by_group.shape[1], -1, latents.shape[-1])
    return rearrange(by_group.gather(0, index), "1 b l d -> b l d")
