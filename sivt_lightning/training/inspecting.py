"""What is inspected of a training's images, at the positions of their feature maps."""

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.dataset import ImageDataset
from sivt_lightning.model.averaging import positions


def inspected_positions(
    data: SIVTDataModule, images: ImageDataset, index: Tensor, epoch: int, grid: int
) -> Float[Tensor, "B {grid} {grid}"] | None:
    """1 at positions that hold an inspected pixel, 0 at others; None where no product has a region of interest.

    Args:
        images: `train_set` or `val_set` of the data, of which those at `index` are asked for.
        epoch: in which images of the training are seen.
    """
    if not data.regions:
        return None
    seen = positions(data.inspected(images, index.tolist(), epoch), grid, grid)
    # A region at the border may have been shifted out of a photo: then all of that counts rather than nothing.
    return torch.where(seen.amax((1, 2), keepdim=True) > 0, seen, 1.0).to(index.device)
