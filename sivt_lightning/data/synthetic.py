"""Defects made in good images, to see without any label how a model would answer to some.

Small, faint and soft-edged like most real ones, and rather on the product than beside it: glaring ones are told by any
model that reconstructs at all, and say nothing about which is the better.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from kornia.filters import gaussian_blur2d
from PIL import Image as Photo
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, grid_sample, interpolate

from sivt_lightning.data.images import to_tensor
from sivt_lightning.data.masks import mask_to_tensor
from sivt_lightning.seeding import integer, ratio, uniform

VISIBLE = 0.02  # mean change over the channels, in [0, 1], from which a pixel counts as defective
LEAST_PIXELS = 6  # of 256 x 256; with fewer nobody could see a defect
TRIES = 20
LEAST_SIDE, LONGEST_SIDE = 64, 512  # pixels in which a defect is made; with more, it would take seconds
MARGIN = 12  # the border that no defect is centred on is this part of the side

Image = Float[Tensor, "3 S S"]
Plane = Float[Tensor, "S S"]


def with_defect(
    photo: Photo.Image, size: int, generator: torch.Generator
) -> tuple[Float[Tensor, "3 {size} {size}"], Bool[Tensor, "{size} {size}"]]:
    """What `to_tensor` makes of the photo had it a defect, and where that shows; elsewhere it is the same.

    The defect is made in the photo, with up to 512 pixels a side, and resized with it: whatever `size` models have,
    they are given the same defects.
    """
    side = min(max(*photo.size, LEAST_SIDE), LONGEST_SIDE)
    original = to_tensor(photo, side)
    changed, shows = add_defect(original, generator)
    change = interpolate((changed - original)[None], size=(size, size), mode="bilinear", antialias=True)[0]
    # By the largest value, not the nearest: a small defect would be lost from its mask.
    kept = adaptive_max_pool2d(shows[None].float(), min(side, size))[0] > 0
    return (to_tensor(photo, size) + change).clamp(0, 1), mask_to_tensor(kept.numpy(), size)


def add_defect(image: Image, generator: torch.Generator) -> tuple[Image, Bool[Tensor, "S S"]]:
    """The image (values in [0, 1]) with one defect of a random kind and place, and where it shows.

    A defect that shows hardly anywhere is drawn again, up to 20 times: a plain image may have no place for some kinds.
    """
    names = list(KINDS)
    with torch.autocast(image.device.type, enabled=False):  # the defect is the same whatever the model's precision
        for _ in range(TRIES):
            kind = KINDS[names[integer(generator, 0, len(names) - 1)]]
            changed = kind(image, generator).clamp(0, 1)
            shows = (changed - image).abs().mean(0) > VISIBLE
            if shows.sum() >= LEAST_PIXELS * (image.shape[-1] / 256) ** 2:
                break
    return changed, shows


def stain(image: Image, generator: torch.Generator) -> Image:
    """A spot of 3 to 10 % of the side that is a little darker or lighter."""
    return _toned(image, _spot(image, generator, 0.03, 0.1), generator, 0.05, 0.25)


def speck(image: Image, generator: torch.Generator) -> Image:
    """A small spot that is much darker or lighter."""
    return _toned(image, _spot(image, generator, 0.006, 0.02), generator, 0.15, 0.6)


def scratch(image: Image, generator: torch.Generator) -> Image:
    """A thin, bent line."""
    side = image.shape[-1]
    along, across = _turned(image, generator)
    length, width = side * ratio(generator, 0.05, 0.25), max(0.7, side * ratio(generator, 0.003, 0.01))
    away = (across - uniform(generator, -1.0, 1.0) / length * along.square()).abs()
    line = torch.sigmoid((width - away) / (0.4 * width)) * torch.sigmoid((length / 2 - along.abs()) / 2)
    return _toned(image, line, generator, 0.1, 0.4)


def wear(image: Image, generator: torch.Generator) -> Image:
    """A place whose texture is rubbed off."""
    spot = _spot(image, generator, 0.02, 0.08)
    return torch.lerp(image, _blurred(image, max(1.0, image.shape[-1] * uniform(generator, 0.008, 0.02))), spot)


def bend(image: Image, generator: torch.Generator) -> Image:
    """A place pushed to one side, its surroundings drawn along."""
    side = image.shape[-1]
    push = _blurred(_spot(image, generator, 0.03, 0.08)[None], side / 100)[0] * 2 * ratio(generator, 0.01, 0.03)
    angle = uniform(generator, 0.0, 2 * math.pi)
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    source = torch.stack([x + math.cos(angle) * push, y + math.sin(angle) * push], dim=-1)
    return grid_sample(image[None], source[None], align_corners=True, padding_mode="border")[0]


def stray_piece(image: Image, generator: torch.Generator) -> Image:
    """A piece of the image shows through at another place."""
    side = image.shape[-1]
    spot = _spot(image, generator, 0.015, 0.06)
    rows, columns = (integer(generator, side // 10, 9 * side // 10) for _ in "yx")
    return torch.lerp(image, image.roll((rows, columns), (1, 2)), spot * uniform(generator, 0.5, 1.0))


KINDS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "stain": stain,
    "speck": speck,
    "scratch": scratch,
    "wear": wear,
    "bend": bend,
    "stray piece": stray_piece,
}


def _toned(image: Image, region: Plane, generator: torch.Generator, least: float, most: float) -> Image:
    """Darker or, less often, lighter by `least` to `most`; tinted, unless the image is grey."""
    tone = ratio(generator, least, most) * (1 if uniform(generator, 0.0, 1.0) < 0.4 else -1)
    colourful = (image.amax(0) - image.amin(0)).mean() > 0.01
    tint = 1 + 0.3 * torch.randn(3, 1, 1, generator=generator) * colourful
    return image + region * tone * tint


def _spot(image: Image, generator: torch.Generator, least: float, most: float) -> Plane:
    """An uneven ellipse with a soft edge, its longer half axis `least` to `most` of the side: 1 inside, 0 outside."""
    side = image.shape[-1]
    along, across = _turned(image, generator)
    radius = max(1.0, side * ratio(generator, least, most))
    distance = ((along / radius) ** 2 + (across / (radius * ratio(generator, 0.4, 1.0))) ** 2).sqrt()
    knots = torch.randn(1, 1, max(2, side // 8), max(2, side // 8), generator=generator).clamp(-2, 2)
    uneven = interpolate(knots, size=(side, side), mode="bicubic", align_corners=False)[0, 0]
    return torch.sigmoid((1 - distance * (1 + 0.25 * uneven)) / uniform(generator, 0.05, 0.25))


def _turned(image: Image, generator: torch.Generator) -> tuple[Plane, Plane]:
    """Pixel coordinates along and across a random direction, from a random point of the product."""
    side = image.shape[-1]
    row, column = _place(image, generator)
    angle = uniform(generator, 0.0, math.pi)
    y, x = torch.meshgrid(torch.arange(side) - row, torch.arange(side) - column, indexing="ij")
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _place(image: Image, generator: torch.Generator) -> tuple[int, int]:
    """Row and column of a pixel, up to 31 times as likely where the image differs from the colour of its border."""
    margin = image.shape[-1] // MARGIN
    border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1).median(dim=1).values
    difference = (image - border[:, None, None]).abs().sum(0, keepdim=True)
    difference = _blurred(difference, image.shape[-1] / 64)[0]
    likely = (difference / (difference.mean() + 1e-6)).clamp(max=3) + 0.1
    inner = likely[margin : len(likely) - margin, margin : len(likely) - margin]
    chosen = int(torch.multinomial(inner.flatten(), 1, generator=generator))
    return chosen // len(inner) + margin, chosen % len(inner) + margin


def _blurred(planes: Float[Tensor, "C S S"], sigma: float) -> Float[Tensor, "C S S"]:
    size = 2 * math.ceil(3 * sigma) + 1
    return gaussian_blur2d(planes[None], (size, size), (sigma, sigma), border_type="replicate")[0]
