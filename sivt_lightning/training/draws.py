"""What a training step draws for each image: from (seed, epoch, image), so that it is the same in whatever batch, on
whatever process and after a restart."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sivt_lightning.model.partition import draw_partition
from sivt_lightning.model.reconstructor import Reconstructor, dropout_gain
from sivt_lightning.seeding import generator_for
from sivt_lightning.training.pasting import pasted

Key = tuple[int, int]  # seed and epoch
# The last number sets these apart from the others that are drawn for an image.
GAINS, PIECES = 3, 4


def partitions_of(model: Reconstructor, index: Int64[Tensor, " B"], key: Key) -> Int64[Tensor, "B L"]:
    """Groups of each image's positions."""
    drawn = [draw_partition(model.length, model.groups, generator) for generator in _generators(index, key)]
    return torch.stack(drawn).to(model.encoder_position.device)


def gains_of(model: Reconstructor, share: float, index: Int64[Tensor, " B"], key: Key) -> Float[Tensor, "B L D"] | None:
    """Which latent values are dropped, see `dropout_gain`."""
    position = model.encoder_position
    return dropout_gain(position.shape, share, _generators(index, key, GAINS), position.device)


def pieces_of(
    features: Float[Tensor, "B C H W"], share: float, index: Int64[Tensor, " B"], key: Key
) -> Float[Tensor, "B C H W"] | None:
    """F with pieces in wrong places, see `pasted`."""
    return pasted(features, share, _generators(index, key, PIECES))


def _generators(index: Int64[Tensor, " B"], key: Key, *purpose: int) -> Iterator[torch.Generator]:
    return (generator_for(*key, image, *purpose) for image in index.tolist())
