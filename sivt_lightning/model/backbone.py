"""Images -> feature map F: a frozen timm network (or none), its outputs resized to one grid and concatenated."""

from collections.abc import Iterable
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.model.networks import build_network, gives_channels_last, output_indices
from sivt_lightning.model.settings import ModelSettings


class Backbone(nn.Module):
    """A timm network's outputs at `strides`, or of `blocks`, each resized to a grid of image_size / feature_stride.

    An output finer than the grid is brought down to it by averaging ("area"), or by the paper's "bilinear"
    interpolation, which looks at four neighbours only, so that most of a fine output is never seen; a coarser one is
    interpolated.

    Built without weights: `weights.load_weights` fills them before a training, a checkpoint at any other time. Always
    in eval mode and without gradients. Stages or blocks after the last one used are removed.

    >>> net = Backbone(ModelSettings(backbone="resnet18", strides=[4, 8], image_size=64))
    >>> net.channels, tuple(net(torch.zeros(2, 3, 64, 64)).shape)
    (192, (2, 192, 8, 8))
    """

    def __init__(self, settings: ModelSettings, restored: bool = False) -> None:
        """`restored`: a checkpoint fills it, so no random numbers are drawn that only a training has to repeat."""
        super().__init__()
        name, image_size = settings.backbone, settings.image_size
        self.name, self.image_size, self.grid, self.resize = name, image_size, settings.grid, settings.resize
        self.out_indices = output_indices(settings, restored)
        # Channels last: convolutions take two thirds of the time, on processors as on GPUs.
        self.net: Any = build_network(name, image_size, self.out_indices).to(memory_format=torch.channels_last)
        self.parts: list[int] = self.net.feature_info.channels()  # channels of each output
        self.channels = sum(self.parts)
        self.is_random = False
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", rearrange(torch.tensor(self.net.pretrained_cfg["mean"]), "c -> c 1 1"))
        self.register_buffer("std", rearrange(torch.tensor(self.net.pretrained_cfg["std"]), "c -> c 1 1"))
        self.requires_grad_(False)
        self.train(False)
        try:
            self(torch.zeros(1, 3, image_size, image_size))
        except Exception as error:  # networks refuse sizes with whatever exception comes their way
            raise SIVTError(
                f"backbone {name} takes no images of {image_size} x {image_size} ({first_line(error)}): "
                "choose another image_size."
            ) from error

    def train(self, mode: bool = True) -> "Backbone":
        """Stays in eval mode: batch-norm statistics are as frozen as the weights."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C H W"]:
        """F of RGB images with values in [0, 1], normalised here as the network was trained."""
        normalised = (images - self.mean) / self.std
        maps = self.net(normalised.contiguous(memory_format=torch.channels_last))
        if gives_channels_last(self.net):
            maps = [rearrange(m, "b h w c -> b c h w") for m in maps]
        return torch.cat([self._resized(m.to(self.mean.dtype)) for m in maps], dim=1)

    def _resized(self, output: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
        if self.resize == "area" and output.shape[-1] > self.grid:
            return interpolate(output, size=self.grid, mode="area")
        return interpolate(output, size=self.grid, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Float[Tensor, "_ 3 S S"]]) -> None:
        """Gives a randomly initialised network the batch-norm statistics of these images; trained ones are kept."""
        norms = [m for m in self.net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
        if not self.is_random or not norms:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all batches
            norm.train()
        for images in batches:
            self(images)
        self.train(False)
