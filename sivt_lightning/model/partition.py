"""Groups of positions: drawing them, hiding them behind induction tokens, finding what was induced (Algorithm 1).

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


def induced(partition: Int64[Tensor, "B L"], groups: int) -> tuple[Int64[Tensor, "N B M"], Int64[Tensor, "B L"]]:
    """Where each sequence holds induction tokens, and where each position is found among these, group after group.

    Sizes have to be within one of each other: M is that of the largest group, and what a smaller one lacks is filled
    with position 0.

    >>> positions, places = induced(torch.tensor([[1, 0, 0, 1, 0]]), groups=2)
    >>> positions[:, 0].tolist(), places[0].tolist()
    ([[1, 2, 4], [0, 3, 0]], [3, 0, 1, 4, 2])
    """
    length, most = partition.shape[1], -(-partition.shape[1] // groups)
    group = torch.arange(groups, device=partition.device)
    # Counted, not sorted: exports know no stable sort.
    member = rearrange(partition, "b l -> b 1 l") == rearrange(group, "n -> n 1")
    within = (member.cumsum(-1) * member).sum(1) - 1
    places = partition * most + within
    numbers = torch.arange(length, device=partition.device).expand_as(partition)
    positions = partition.new_zeros(partition.shape[0], groups * most).scatter(1, places, numbers)
    return rearrange(positions, "b (n m) -> n b m", n=groups), places
