"""Regions of interest: which part of a product's photos is inspected. What lies outside counts for nothing.

A picture, in which it is white, or polygons in fractions of width and height:

    {"inspect": [[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]], "ignore": []}
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate

from sivt_lightning.data.folders import entries, is_image, is_roi
from sivt_lightning.data.masks import mask_to_tensor, of_one_shape, read_mask
from sivt_lightning.data.samples import Sample, Tile
from sivt_lightning.data.survey import read_headers
from sivt_lightning.errors import SIVTError
from sivt_lightning.processes import divide

FINER = 4  # pixels of the canvas that polygons are drawn on, to one of the image; and of a region that is cut
PARTS = ("inspect", "ignore")
EXAMPLE = '{"inspect": [[[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]], "ignore": []}'

Regions = dict[str, Bool[Tensor, "_ _"]]  # by product, True where it is inspected; none of one that is all so


def find_roi(folder: Path) -> Path | None:
    """The file in a product's folder, where there is one. Raises SIVTError where there are two."""
    files = [entry for entry in entries(folder) if is_roi(entry) and not entry.is_dir()]
    if len(files) > 1:
        names = " and ".join(file.name for file in files)
        raise SIVTError(f"{folder} holds {names}, which each say what is inspected: keep one.")
    return files[0] if files else None


def regions_of(samples: Sequence[Sample], size: int) -> tuple[Regions, list[str]]:
    """Those of all products, at `size` x `size` pixels; and sentences on them. All processes call it.

    Raises SIVTError where one cannot be read, is empty, or a picture has not the shape of its product's photos.
    """
    regions, said = Regions(), []
    for name, path in _files(samples):
        region = read_roi(path, size)
        if is_image(path):
            _refuse_other_shape(path, [sample.path for sample in samples if sample.category == name])
        share = float(region.float().mean())
        said.append(f"{name}: {share:.0%} of each photo is inspected, by {path}.")
        if share < 1:
            regions[name] = region
    return regions, said


def other_regions(samples: Sequence[Sample], regions: Mapping[str, Tensor], size: int) -> list[str]:
    """A sentence for each product whose file says another part than the `regions` that a model keeps."""
    said = []
    for name, path in _files(samples):
        kept = regions.get(name)
        now = read_roi(path, size if kept is None else len(kept))
        if not (now.all() if kept is None else torch.equal(now, kept)):
            said.append(
                f"{name}: {path} says another part than the model was trained to inspect, and is taken no notice of. "
                "Train again with it."
            )
    return said


def _files(samples: Sequence[Sample]) -> list[tuple[str, Path]]:
    """Of each product that has one."""
    return sorted({sample.category: sample.roi_path for sample in samples if sample.roi_path}.items())


def read_roi(path: Path, size: int) -> Bool[Tensor, "{size} {size}"]:
    """True where it is inspected. Raises SIVTError where it cannot be read, or nothing is."""
    region = mask_to_tensor(read_mask(path).pixels, size) if is_image(path) else _drawn(path, size)
    if not region.any():
        raise SIVTError(
            f"{path} leaves nothing to inspect (at {size} x {size} pixels, to which photos are resized): what is "
            "inspected is white in a picture, and lies within the polygons of inspect and outside those of ignore. "
            "Correct it, or remove it to inspect all."
        )
    return region


def at_size(region: Bool[Tensor, "_ _"], height: int, width: int) -> Bool[Tensor, "{height} {width}"]:
    """It for photos, maps or masks of another size; each pixel takes its nearest neighbour's value.

    Something is always inspected: what lies between all pixels is in those that it touches.
    """
    if region.shape == (height, width):
        return region
    plane = region[None, None].float()
    found = interpolate(plane, size=(height, width), mode="nearest-exact") > 0
    return (found if found.any() else adaptive_max_pool2d(plane, (height, width)) > 0)[0, 0]


@lru_cache(maxsize=256)  # all photos of a product have the same; regions are told apart as objects
def seen_of(region: Bool[Tensor, "_ _"], tile: Tile | None, size: int) -> Bool[Tensor, "{size} {size}"]:
    """What is inspected of a photo as a whole, or of its `tile`."""
    if tile is None or tile.grid.is_whole(tile.number):
        return at_size(region, size, size)
    return tile.grid.tile(at_size(region, *tile.grid.canvas(size)), size, tile.number)


def _refuse_other_shape(path: Path, photos: Sequence[Path]) -> None:
    width, height = read_mask(path).pixels.shape[::-1]
    for photo, header in zip(photos, divide(read_headers, photos), strict=True):
        if header is None:  # told by whoever decodes it
            continue
        if not of_one_shape((width, height), (header.width, header.height)):
            raise SIVTError(
                f"{path} is {width} x {height} pixels, which is not the shape of the photo {photo} ({header.width} x "
                f"{header.height}). Draw the region on a photo of the product."
            )


def _drawn(path: Path, size: int) -> Bool[Tensor, "{size} {size}"]:
    polygons, side = _polygons(path), FINER * size
    canvas = Image.new("L", (side, side), 0 if polygons["inspect"] else 255)
    draw = ImageDraw.Draw(canvas)
    for part, value in zip(PARTS, (255, 0), strict=True):
        for polygon in polygons[part]:
            draw.polygon([(x * side - 0.5, y * side - 0.5) for x, y in polygon], fill=value)
    return mask_to_tensor(np.asarray(canvas) > 0, size)


def _polygons(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        polygons = {part: [] for part in PARTS} | content
        points = [point for part in PARTS for polygon in polygons[part] for point in polygon]
        shaped = all(len(polygon) >= 3 for part in PARTS for polygon in polygons[part])
        fractions = all(isinstance(value, int | float) and 0 <= value <= 1 for point in points for value in point)
        if polygons.keys() != set(PARTS) or not (shaped and fractions) or {len(point) for point in points} != {2}:
            raise ValueError("it holds something else")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise SIVTError(
            f"{path} cannot be read as a region of interest: give polygons of three or more points, in fractions of "
            f"width and height from 0 to 1: {EXAMPLE}."
        ) from error
    return polygons
