"""The scales of F's channels, and what they say alike, measured on the training images."""

from collections.abc import Iterable

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sivt_lightning.errors import SIVTError
from sivt_lightning.model.settings import Standardization

SHRINKAGE = 0.3  # of whitening; chosen on synthetic defects


class Standardize(nn.Module):
    """Takes F to mean 0 and deviation 1 by its statistics over the training images.

    Raw channels differ in scale by orders of magnitude: a squared distance would hear only the loudest. "channel"
    scales each. "whiten" then also takes out most of their correlation (ZCA with shrinkage), so that what many channels
    say alike does not drown what few say. "none" leaves F as it is.
    """

    def __init__(self, channels: int, kind: Standardization) -> None:
        super().__init__()
        self.kind = kind
        self.mean: Tensor
        self.std: Tensor
        self.mix: Tensor
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        if kind == "whiten":
            self.register_buffer("mix", torch.eye(channels))

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """In float32, whatever the precision of the network."""
        scaled = (features - self.mean) / self.std
        if self.kind != "whiten":
            return scaled
        with torch.autocast(features.device.type, enabled=False):
            return einsum(self.mix, scaled.to(self.mix.dtype), "d c, b c h w -> b d h w")

    def measure(self, feature_maps: Iterable[Float[Tensor, "_ C H W"]]) -> None:
        """Takes mean, deviation and correlation of the channels over all positions of all maps."""
        if self.kind == "none":
            return
        channels = len(self.mean)
        count, total, products = 0, torch.zeros(channels).double(), torch.zeros(channels, channels).double()
        for features in feature_maps:
            values = rearrange(features, "b c h w -> c (b h w)").cpu().double()  # no float64 on Apple's GPUs
            count, total, products = count + values.shape[1], total + values.sum(1), products + values @ values.T
        if count == 0:
            raise SIVTError("No training image to measure the feature channels on: check data.root.")
        mean = total / count
        covariance = products / count - torch.outer(mean, mean)
        deviation = covariance.diag().clamp(min=0).sqrt()
        # A dead channel carries nothing: leave it at zero instead of blowing up its rounding noise.
        deviation[deviation < 1e-6 * deviation.max()] = 1.0
        self.mean.copy_(rearrange(mean, "c -> c 1 1"))
        self.std.copy_(rearrange(deviation, "c -> c 1 1"))
        if self.kind == "whiten":
            self.mix.copy_(whitening(covariance / torch.outer(deviation, deviation)))


def whitening(correlation: Float[Tensor, "C C"]) -> Float[Tensor, "C C"]:
    """The symmetric matrix that decorrelates channels of this correlation, shrunk towards that of independent ones.

    >>> whitening(torch.eye(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    values, vectors = torch.linalg.eigh(correlation)
    # Without shrinkage the directions in which features hardly vary, which are noise, would count like any other.
    return (vectors * ((1 - SHRINKAGE) * values.clamp(min=0) + SHRINKAGE).rsqrt()) @ vectors.T
