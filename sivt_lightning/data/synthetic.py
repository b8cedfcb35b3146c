"""Defects made in good photos, and harmless changes, to see without any label how a model would answer to some.

Defects are made as real ones look: what belongs elsewhere, or nowhere, joined without a seam, stains and cracks, rather
on the product than beside it. Good photos differ, too, in light, in place and by grain, and a model that minds that
raises false alarms.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from kornia.filters import gaussian_blur2d
from PIL import Image as Photo
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, affine_grid, grid_sample, interpolate

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
Inside = Bool[Tensor, "S S"] | None  # where a defect may be; None for anywhere


class Twins(NamedTuple):
    """A good photo changed as another good one might be, and the same with a defect."""

    good: Float[Tensor, "3 size size"]
    defective: Float[Tensor, "3 size size"]
    mask: Bool[Tensor, "size size"]  # where the defect shows; elsewhere both are the same, as far as it is inspected


def twins(
    photo: Photo.Image,
    other: Photo.Image,
    size: int,
    generator: torch.Generator,
    inspected: Bool[Tensor, "size size"] | None = None,
) -> Twins:
    """Of a good photo; some defects are made of another's material, and all where it is inspected, if not everywhere.

    Both changes are made in the photo, with up to 512 pixels a side, and resized with it: whatever `size` models have,
    they are given the same.
    """
    side = min(max(*photo.size, LEAST_SIDE), LONGEST_SIDE)
    with torch.autocast("cpu", enabled=False):  # the same whatever the precision of the model
        good = harmless(to_tensor(photo, side), generator)
        inside = None if inspected is None else mask_to_tensor(inspected.numpy(), side)
        defective, shows = add_defect(good, to_tensor(other, side), generator, inside)
    small = interpolate(torch.stack([good, defective]), size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
    # By the largest value, not the nearest: a small defect would be lost from its mask.
    kept = adaptive_max_pool2d(shows[None].float(), min(side, size))[0] > 0
    mask = mask_to_tensor(kept.numpy(), size)
    return Twins(small[0], small[1], mask if inspected is None else mask & inspected)


def harmless(image: Image, generator: torch.Generator) -> Image:
    """Turned by up to 1.5 degrees, 1.5 % nearer or farther, shifted by up to 0.8 % of the side; gamma, light by up to
    8 % and as much more or less to one side; grain."""
    angle, scale = math.radians(uniform(generator, -1.5, 1.5)), uniform(generator, 0.985, 1.015)
    shift = [uniform(generator, -0.016, 0.016) for _ in "xy"]  # of half a side
    moved = _moved(image, angle, scale, *shift) ** (2 ** uniform(generator, -0.2, 0.2))
    slope = torch.linspace(-0.5, 0.5, image.shape[-1])
    down, right = (slope * uniform(generator, -0.08, 0.08) for _ in "yx")
    lit = moved * (1 + uniform(generator, -0.08, 0.08) + down[:, None] + right)
    return (lit + uniform(generator, 0.0, 0.01) * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def add_defect(
    image: Image, other: Image, generator: torch.Generator, inside: Inside = None
) -> tuple[Image, Bool[Tensor, "S S"]]:
    """The image (values in [0, 1]) with one defect of a random kind and place, and where it shows `inside`.

    A defect that shows hardly anywhere is drawn again, up to 20 times: a plain image may have no place for some kinds.
    """
    names = list(KINDS)
    for _ in range(TRIES):
        kind = KINDS[names[integer(generator, 0, len(names) - 1)]]
        changed = kind(image, other, generator, inside).clamp(0, 1)
        shows = (changed - image).abs().mean(0) > VISIBLE
        if inside is not None:
            shows &= inside
        if shows.sum() >= LEAST_PIXELS * (image.shape[-1] / 256) ** 2:
            break
    return changed, shows


def stray_piece(image: Image, other: Image, generator: torch.Generator, inside: Inside = None) -> Image:
    """A piece of the photo, turned, at another place."""
    return _joined(image, _strewn(image, generator), _blob(image, generator, inside, 0.02, 0.2))


def missing(image: Image, other: Image, generator: torch.Generator, inside: Inside = None) -> Image:
    """A place that is as its surroundings would have it, without what was there."""
    return _joined(image, torch.zeros_like(image), _blob(image, generator, inside, 0.02, 0.2))


def doubled(image: Image, other: Image, generator: torch.Generator, inside: Inside = None) -> Image:
    """What stands beside it once more."""
    side = image.shape[-1]
    steps = [
        integer(generator, side // 12, side // 4) * (1 if uniform(generator, 0.0, 1.0) < 0.5 else -1) for _ in "yx"
    ]
    return _joined(image, image.roll(tuple(steps), (1, 2)), _blob(image, generator, inside, 0.05, 0.25))


def texture(image: Image, other: Image, generator: torch.Generator, inside: Inside = None) -> Image:
    """The texture of another photo shines through, in nearly the tone of this one."""
    spot = _blob(image, generator, inside, 0.02, 0.15)
    strange = _strewn(other, generator)
    tone = image[:, spot].mean(1) - strange[:, spot].mean(1) + uniform(generator, -0.15, 0.15)
    soft = _blurred(spot[None].float(), image.shape[-1] / 320) * uniform(generator, 0.25, 0.85)
    return torch.lerp(image, strange + tone[:, None, None], soft)


def stain(image: Image, other: Image, generator: torch.Generator, inside: Inside = None) -> Image:
    """A spot that is darker or, less often, lighter; tinted, unless the image is grey."""
    spot = _blob(image, generator, inside, 0.02, 0.15)
    soft = _blurred(spot[None].float(), image.shape[-1] * uniform(generator, 0.002, 0.01))
    colourful = (image.amax(0) - image.amin(0)).mean() > 0.01
    tint = 1 + 0.4 * torch.randn(3, 1, 1, generator=generator) * colourful
    return image + soft * _tone(generator, 0.06, 0.45) * tint


def crack(image: Image, other: Image, generator: torch.Generator, inside: Inside = None) -> Image:
    """A thin, uneven line."""
    side = image.shape[-1]
    row, column = _place(image, generator, inside)
    along, across = _turned(side, row, column, uniform(generator, 0.0, math.pi))
    away = across + _noise(side, 20, generator) * side * 0.015
    width = max(0.7, side / 256 * uniform(generator, 0.6, 1.8))  # a thinner line would fall between pixels
    line = torch.exp(-((away / width) ** 2))
    length = side * ratio(generator, 0.06, 0.35) / 2
    return image + line * torch.sigmoid((length - along.abs()) / (side / 128)) * _tone(generator, 0.1, 0.5)


KINDS: dict[str, Callable[..., Tensor]] = {
    "stray piece": stray_piece,
    "missing": missing,
    "doubled": doubled,
    "texture": texture,
    "stain": stain,
    "crack": crack,
}


def _tone(generator: torch.Generator, least: float, most: float) -> float:
    return ratio(generator, least, most) * (1 if uniform(generator, 0.0, 1.0) < 0.4 else -1)


def _blob(image: Image, generator: torch.Generator, inside: Inside, least: float, most: float) -> Bool[Tensor, "S S"]:
    """An uneven ellipse on the product, `least` to `most` of the side long."""
    side = image.shape[-1]
    row, column = _place(image, generator, inside)
    along, across = _turned(side, row, column, uniform(generator, 0.0, math.pi))
    radius = max(1.0, side * ratio(generator, least, most) / 2)
    thinner = 1 + 3 * uniform(generator, 0.0, 1.0) ** 2
    distance = ((along / radius) ** 2 + (across * thinner / radius) ** 2).sqrt()
    blob = distance * (1 + 0.3 * _noise(side, 12, generator).clamp(-2, 2)) < 1
    blob[[0, -1]] = False
    blob[:, [0, -1]] = False
    blob[row, column] = True
    return blob


def _joined(image: Image, source: Image, region: Bool[Tensor, "S S"]) -> Image:
    """The source's gradients in the region, from the image's values around it: no seam (Pérez et al., 2003)."""
    from scipy.sparse import csc_matrix  # takes long to load, and is for trainings only
    from scipy.sparse.linalg import spsolve

    rows, columns = np.nonzero(region.numpy())
    count = len(rows)
    number = np.full(region.shape, -1)
    number[rows, columns] = np.arange(count)
    values, pieces = image.double().numpy(), source.double().numpy()
    here = np.arange(count)
    entries = [(here, here, np.full(count, 4.0))]
    right = np.zeros((3, count))
    for down, beside in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        near = number[rows + down, columns + beside]
        inner = near >= 0
        entries.append((here[inner], near[inner], np.full(inner.sum(), -1.0)))
        right += pieces[:, rows, columns] - pieces[:, rows + down, columns + beside]
        right[:, ~inner] += values[:, rows + down, columns + beside][:, ~inner]
    line, column, weight = (np.concatenate(part) for part in zip(*entries, strict=True))
    solved = spsolve(csc_matrix((weight, (line, column)), (count, count)), right.T)
    result = image.clone()
    result[:, region] = torch.from_numpy(solved.reshape(count, 3).T.clip(0, 1)).to(image)
    return result


def _strewn(image: Image, generator: torch.Generator) -> Image:
    """The image turned by any angle, somewhat nearer or farther, and moved by up to 30 % of its side."""
    angle, scale = uniform(generator, 0.0, 2 * math.pi), uniform(generator, 0.7, 1.3)
    return _moved(image, angle, 1 / scale, *(uniform(generator, -0.6, 0.6) for _ in "xy"))


def _moved(image: Image, angle: float, scale: float, right: float, down: float) -> Image:
    """Mirrored beyond its border; the shift in halves of a side."""
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    matrix = torch.tensor([[[cosine, -sine, right], [sine, cosine, down]]])
    grid = affine_grid(matrix, [1, *image.shape], align_corners=False)
    return grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]


def _turned(side: int, row: int, column: int, angle: float) -> tuple[Plane, Plane]:
    """Pixel coordinates along and across a direction, from a point."""
    y, x = torch.meshgrid(torch.arange(side) - row, torch.arange(side) - column, indexing="ij")
    return x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)


def _noise(side: int, scale: int, generator: torch.Generator) -> Plane:
    """Smooth, of deviation 1 at knots that lie `scale` of 256 pixels apart."""
    count = max(2, 256 // scale)
    knots = torch.randn(1, 1, count, count, generator=generator)
    return interpolate(knots, size=(side, side), mode="bicubic", align_corners=False)[0, 0]


def _place(image: Image, generator: torch.Generator, inside: Inside) -> tuple[int, int]:
    """Row and column of a pixel, up to 31 times as likely where the image differs from the colour of its border."""
    margin = image.shape[-1] // MARGIN
    border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1).median(dim=1).values
    difference = (image - border[:, None, None]).abs().sum(0, keepdim=True)
    difference = _blurred(difference, image.shape[-1] / 64)[0]
    likely = (difference / (difference.mean() + 1e-6)).clamp(max=3) + 0.1
    if inside is not None:
        likely = likely * (inside + 1e-12)
        if not inside[margin:-margin, margin:-margin].any():  # it lies along the border
            margin = 1
    inner = likely[margin : len(likely) - margin, margin : len(likely) - margin]
    chosen = int(torch.multinomial(inner.flatten(), 1, generator=generator))
    return chosen // len(inner) + margin, chosen % len(inner) + margin


def _blurred(planes: Float[Tensor, "C S S"], sigma: float) -> Float[Tensor, "C S S"]:
    size = 2 * math.ceil(3 * sigma) + 1
    return gaussian_blur2d(planes[None], (size, size), (sigma, sigma), border_type="replicate")[0]
