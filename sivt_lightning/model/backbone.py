"""Images -> feature map F: a frozen timm network (or none), its strides resized to one grid and concatenated."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import timm
import torch
from einops import einsum, rearrange
from jaxtyping import Float
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import FeatureInfo, get_arch_pretrained_cfgs
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_unshuffle

from sivt_lightning.errors import SIVTError, did_you_mean, first_line
from sivt_lightning.model.settings import ModelSettings, Standardization

PIXELS = "pixels"
SHRINKAGE = 0.3  # of whitening; chosen on synthetic defects


class Backbone(nn.Module):
    """The outputs of a timm network at `strides`, each resized to a grid of image_size / feature_stride.

    An output finer than the grid is brought down to it by averaging ("area"), or by the paper's "bilinear"
    interpolation, which looks at four neighbours only, so that most of a fine output is never seen; a coarser one is
    interpolated.

    Built without weights: `weights.load_weights` fills them before a training, a checkpoint at any other time. Always
    in eval mode and without gradients. Stages after the last one used are removed.

    >>> net = Backbone(ModelSettings(backbone="resnet18", strides=[4, 8], image_size=64))
    >>> net.channels, tuple(net(torch.zeros(2, 3, 64, 64)).shape)
    (192, (2, 192, 8, 8))
    """

    def __init__(self, settings: ModelSettings, restored: bool = False) -> None:
        """`restored`: a checkpoint fills it, so no random numbers are drawn that only a training has to repeat."""
        super().__init__()
        name, image_size = settings.backbone, settings.image_size
        self.name, self.image_size, self.grid, self.resize = name, image_size, settings.grid, settings.resize
        self.out_indices = stride_indices(name, settings.strides, image_size, restored)
        # Channels last: convolutions take two thirds of the time, on processors as on GPUs.
        self.net: Any = build_network(name, image_size, self.out_indices).to(memory_format=torch.channels_last)
        self.channels: int = sum(self.net.feature_info.channels())
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
        if str(getattr(self.net, "output_fmt", "NCHW")).endswith("NHWC"):
            maps = [rearrange(m, "b h w c -> b c h w") for m in maps]
        return torch.cat([self._resized(m.to(self.mean.dtype)) for m in maps], dim=1)

    def _resized(self, output: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
        if self.resize == "area" and output.shape[-1] > self.grid:
            return interpolate(output, size=self.grid, mode="area")
        return interpolate(output, size=self.grid, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Float[Tensor, "_ 3 S S"]]) -> None:
        """Gives a randomly initialised network the batch-norm statistics of these images; trained ones are kept."""
        norms = [m for m in self.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not self.is_random or not norms:
            return
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over all batches
            norm.train()
        for images in batches:
            self(images)
        self.train(False)


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


class Pixels(nn.Module):
    """The image itself as a feature network: at stride s a position is a square of s x s pixels, 3 s^2 channels."""

    pretrained_cfg: Mapping[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}

    def __init__(self, out_indices: Sequence[int]) -> None:
        super().__init__()
        known = [{"num_chs": 3 * s * s, "reduction": s, "module": f"stride {s}"} for s in (2, 4, 8, 12, 16)]
        self.feature_info = FeatureInfo(known, tuple(out_indices))

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> list[Float[Tensor, "B _ _ _"]]:
        return [pixel_unshuffle(images, stride) for stride in self.feature_info.reduction()]


def build_network(
    name: str, image_size: int, out_indices: Sequence[int] | None = None, pretrained: bool = False
) -> Any:
    """A timm feature network, untrained or with timm's own weights, cut after its last output."""
    if name == PIXELS:
        return Pixels(range(5) if out_indices is None else out_indices)
    check_known(name)
    kwargs: dict = {} if out_indices is None else {"out_indices": tuple(out_indices)}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        kwargs["img_size"] = image_size  # vision transformers are built for one size
    try:
        net = timm.create_model(name, pretrained=pretrained, features_only=True, **kwargs)
    except Exception as error:  # timm raises what it likes here: assertion, runtime, type and value errors
        if pretrained:
            raise
        raise SIVTError(
            f"backbone {name} cannot give feature maps ({first_line(error)}): choose another timm network, such as "
            "resnet18."
        ) from error
    return _cut(net)


def check_known(name: str) -> None:
    """Raises SIVTError unless the network is one of timm's own, with or without the name of its weights.

    timm itself would also take names of other people's models (`hf-hub:`) and of folders, and so would a checkpoint
    that somebody sends ask the internet for them.
    """
    architecture, _, weights = name.partition(".")
    if not timm.is_model(architecture):
        hint = did_you_mean(name, timm.list_models(), 3, cutoff=0.5) or "timm.list_models() lists those there are."
        raise SIVTError(f"backbone {name} is not known to timm: {hint}")
    known = get_arch_pretrained_cfgs(architecture)
    if weights and name not in known:
        named = ", ".join(sorted(known)) or architecture
        raise SIVTError(f"backbone {name}: timm knows no weights {weights} of {architecture}. Choose one of {named}.")


def stride_indices(name: str, strides: Sequence[int], image_size: int, restored: bool) -> list[int]:
    """The network's output numbers for these strides; for a stride met several times the deepest one."""
    # timm tells a network's strides once it is built; on no device it takes no weights for that. But then it draws no
    # random numbers either, after which those of a training come: a seed stands for the same start as ever.
    with torch.device("meta") if restored else nullcontext():
        available = build_network(name, image_size).feature_info.reduction()
    position = {stride: index for index, stride in enumerate(available)}
    unknown = [stride for stride in strides if stride not in position]
    if unknown or not strides or len(set(strides)) < len(strides):
        raise SIVTError(
            f"strides {list(strides)}: {name} has outputs of strides {sorted(position)}; name one or more of these, "
            "each once."
        )
    return sorted(position[stride] for stride in strides)


def _cut(net: Any) -> Any:
    """EfficientNet-like feature networks compute all stages whatever is asked of them: drop those after the last."""
    modules = [info["module"] for info in net.feature_info.get_dicts()]
    if isinstance(getattr(net, "blocks", None), nn.Sequential) and modules[-1].startswith("blocks."):
        net.blocks = net.blocks[: int(modules[-1].split(".")[1]) + 1]
    return net
