"""Defects made in good images, to see without any label how a model would answer to some."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LEAST_CHANGE = 0.02  # mean difference of pixel values inside the defect: below it nobody could see one
TRIES = 20


def add_defect(
    image: Float[Tensor, "3 S S"], generator: torch.Generator
) -> tuple[Float[Tensor, "3 S S"], Bool[Tensor, "S S"]]:
    """The image (values in [0, 1]) with one defect of a random kind and place, and where it was changed.

    A defect that cannot be told from what it covers is drawn again, up to 20 times: a plain image may have no place
    for some kinds.
    """
    names = list(KINDS)
    for _ in range(TRIES):
        kind = KINDS[names[_integer(generator, 0, len(names) - 1)]]
        changed, region = kind(image, generator)
        changed = torch.where(region, changed.clamp(0, 1), image)
        if region.any() and (changed - image).abs()[:, region].mean() > LEAST_CHANGE:
            break
    return changed, (changed != image).any(0)


def cut_and_paste(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A piece of the image shows at another place."""
    side = image.shape[-1]
    region = _blob(side, generator)
    rows, columns = (_integer(generator, side // 4, 3 * side // 4) for _ in range(2))
    return image.roll((rows, columns), (1, 2)), region


def scar(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A thin straight line of one colour."""
    side = image.shape[-1]
    length, width = side * _uniform(generator, 0.1, 0.3), max(1.5, side * _uniform(generator, 0.006, 0.02))
    along, across = _turned(side, generator, 0.2)
    region = (along.abs() < length / 2) & (across.abs() < width / 2)
    return torch.rand(3, 1, 1, generator=generator).expand_as(image), region


def noise_patch(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coarse grain over a piece of the image."""
    side = image.shape[-1]
    grain = torch.randn(3, side // 4, side // 4, generator=generator)
    coarse = torch.nn.functional.interpolate(grain[None], size=(side, side), mode="nearest")[0]
    return image + _uniform(generator, 0.1, 0.3) * coarse, _blob(side, generator)


def missing_patch(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A piece gone, with the colour of the image's border in its place."""
    border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1)
    return border.median(dim=1).values[:, None, None].expand_as(image), _blob(image.shape[-1], generator)


def displaced_part(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A piece moved by a little."""
    side = image.shape[-1]
    region = _blob(side, generator, 1.5)
    moves = [
        _integer(generator, side // 32, side // 10) * (1 if _uniform(generator, 0.0, 1.0) < 0.5 else -1) for _ in "yx"
    ]
    return image.roll((moves[0], moves[1]), (1, 2)), region


Kind = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
KINDS: dict[str, Kind] = {
    "cut and paste": cut_and_paste,
    "scar": scar,
    "noise patch": noise_patch,
    "missing patch": missing_patch,
    "displaced part": displaced_part,
}


def _blob(side: int, generator: torch.Generator, scale: float = 1.0) -> Bool[Tensor, "S S"]:
    """A turned ellipse, its half axes 2 to 8 % of the side."""
    along, across = _turned(side, generator, 0.2)
    axes = [max(1.5, side * scale * _uniform(generator, 0.02, 0.08)) for _ in range(2)]
    return (along / axes[0]) ** 2 + (across / axes[1]) ** 2 < 1


def _turned(side: int, generator: torch.Generator, margin: float) -> tuple[Tensor, Tensor]:
    """Pixel coordinates along and across a random direction, from a random point not within `margin` of the border."""
    row, column = (side * _uniform(generator, margin, 1 - margin) for _ in range(2))
    angle = _uniform(generator, 0.0, math.pi)
    y, x = torch.meshgrid(torch.arange(side) - row, torch.arange(side) - column, indexing="ij")
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _integer(generator: torch.Generator, low: int, high: int) -> int:
    """From low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
