"""Feature networks by name: timm's, or the image itself.

What is used of timm's inside stands here, as in timm 1.0.31: `feature_info` and `pretrained_cfg` of a network, the form
of its outputs, the blocks of an EfficientNet.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import FeatureInfo, get_arch_pretrained_cfgs
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from sivt_lightning.errors import SIVTError, did_you_mean, first_line
from sivt_lightning.model.settings import ModelSettings

PIXELS = "pixels"


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


def output_indices(settings: ModelSettings, restored: bool) -> list[int]:
    """The numbers of the network's outputs that are used."""
    name, size = settings.backbone, settings.image_size
    # timm tells a network's outputs once it is built; on no device it takes no weights for that. But then it draws no
    # random numbers either, after which those of a training come: a seed stands for the same start as ever.
    with torch.device("meta") if restored else nullcontext():
        info = build_network(name, size).feature_info
    if settings.blocks is None:
        return _at_strides(name, settings.strides, info)
    return _of_blocks(name, settings.blocks, size, [part["reduction"] for part in info.info])


def _at_strides(name: str, strides: Sequence[int], info: FeatureInfo) -> list[int]:
    """For a stride met several times the deepest of the outputs that timm gives unasked."""
    position = {stride: index for index, stride in enumerate(info.reduction())}
    unknown = [stride for stride in strides if stride not in position]
    if unknown and len(position) == 1 and len(info.info) > 1:
        raise SIVTError(
            f"strides {list(strides)}: all outputs of {name} have stride {max(position)}; choose some of its blocks 0 "
            f"to {len(info.info) - 1} by the setting blocks instead."
        )
    if unknown or not strides or len(set(strides)) < len(strides):
        raise SIVTError(
            f"strides {list(strides)}: {name} has outputs of strides {sorted(position)}; name one or more of these, "
            "each once."
        )
    return sorted(position[stride] for stride in strides)


def _of_blocks(name: str, blocks: Sequence[int], image_size: int, strides: Sequence[int]) -> list[int]:
    """`strides` of all outputs: those of a transformer's blocks are its patch."""
    if len(strides) == 1 or len(set(strides)) > 1:
        raise SIVTError(f"blocks {blocks}: {name} is no vision transformer; choose its outputs by the setting strides.")
    known = range(len(strides))
    if not blocks or any(block not in known for block in blocks) or len(set(blocks)) < len(blocks):
        raise SIVTError(
            f"blocks {list(blocks)}: {name} has blocks 0 to {known[-1]}; name one or more of these, each once."
        )
    if image_size % (patch := strides[0]):
        below = image_size // patch * patch
        raise SIVTError(
            f"image_size {image_size} is no multiple of {patch}, the patch of {name}, which would not see the image's "
            f"edge: choose {f'{below} or ' if below else ''}{below + patch}."
        )
    return sorted(blocks)


def gives_channels_last(net: Any) -> bool:
    """Whether its feature maps are B H W C."""
    return str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")


def _cut(net: Any) -> Any:
    """EfficientNet-like feature networks compute all stages whatever is asked of them: drop those after the last."""
    modules = [info["module"] for info in net.feature_info.get_dicts()]
    if isinstance(getattr(net, "blocks", None), nn.Sequential) and modules[-1].startswith("blocks."):
        net.blocks = net.blocks[: int(modules[-1].split(".")[1]) + 1]
    return net
