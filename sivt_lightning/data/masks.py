"""One ground-truth mask file to pixels, and what looks wrong with it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from PIL import Image
from scipy import ndimage
from torch import Tensor

from sivt_lightning.data.folders import images_in
from sivt_lightning.data.images import to_rgb
from sivt_lightning.data.opening import Opened, decode, stored_values, turn_upright
from sivt_lightning.errors import SIVTError

JPEG_THRESHOLD = 127  # JPEG smears faint values around every edge, so there "positive" means the upper half
SHAPE = 0.02  # difference of two proportions that rounding can make
LARGE = 0.5  # share of an image that a defect seldom has
SOFT_EDGE = 2  # pixels over which a drawn shape may fade
FAINT_VALUES = 4
EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


class Mask(NamedTuple):
    """A decoded mask."""

    pixels: Bool[np.ndarray, "height width"]  # True where anomalous
    doubt: str  # what looks wrong with it, or ""


def read_mask(path: Path) -> Mask:
    """The ground-truth mask, upright: anomalous is where any stored value is positive. Those of a folder are united.

    A palette image's stored values are its indices. A JPEG, which cannot store exact values, is cut at half its range.
    Where transparency varies, only what is visible is anomalous: all of it, if its colours show no shape of their own.
    Raises SIVTError naming the file when it cannot be read.
    """
    files = images_in(path) if path.is_dir() else [path]
    if not files:
        raise SIVTError(f"{path} is a folder without masks. Add one, or take the photo out.")
    shown, values = zip(*(decode(file, _positive) for file in files), strict=True)
    for file, pixels in zip(files, shown, strict=True):
        if pixels.shape != shown[0].shape:
            raise SIVTError(
                f"{file} is of another size than {files[0]}, a mask of the same photo. Replace one of them."
            )
    anomalous = np.logical_or.reduce(shown)
    return Mask(anomalous, _doubt(anomalous, np.maximum.reduce(values)))


def of_one_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes, as width and height, have the same proportions.

    >>> of_one_shape((700, 700), (256, 256)), of_one_shape((100, 60), (60, 100))
    (True, False)
    """
    across, along = one[0] * other[1], one[1] * other[0]
    return abs(across - along) <= max(across, along) * SHAPE


def mask_to_tensor(mask: Bool[np.ndarray, "_ _"], height: int, width: int | None = None) -> Bool[Tensor, "{height} _"]:
    """A mask resized to so many pixels, by default a square, each taking its nearest neighbour's value."""
    resized = Image.fromarray(mask.astype(np.uint8)).resize((width or height, height), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized) > 0)


def _positive(opened: Opened) -> tuple[Bool[np.ndarray, "height width"], Shaped[np.ndarray, "height width"]]:
    """(where it is anomalous, the values stored there)."""
    threshold = JPEG_THRESHOLD if opened.image.format == "JPEG" else 0
    channels, with_alpha = _channels(opened)
    colours = channels[..., :-1] if with_alpha else channels
    values = colours.max(axis=2)
    anomalous = values > threshold
    if with_alpha:
        anomalous = _within(anomalous, channels[..., -1] > 0)
    return anomalous, values * anomalous


def _channels(opened: Opened) -> tuple[Shaped[np.ndarray, "height width channels"], bool]:
    """The values as they are stored, and whether the last channel is opacity."""
    if opened.is_deep_colour:
        values = stored_values(opened)
        return values, values.shape[2] in (2, 4)
    image = opened.image
    image.load()
    turn_upright(image)
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):  # channels in which black is not all zeros
        image = to_rgb(image).image
    # LA, PA, RGBA and their premultiplied kin
    return np.asarray(image).reshape(image.height, image.width, -1), image.mode[-1] in "Aa"


def _within(
    positive: Bool[np.ndarray, "height width"], visible: Bool[np.ndarray, "height width"]
) -> Bool[np.ndarray, "height width"]:
    """What is anomalous of a picture of which not all is visible."""
    shown = positive[visible]
    if visible.all() or not visible.any():
        return positive
    return visible if shown.all() or not shown.any() else positive & visible


def _doubt(anomalous: Bool[np.ndarray, "height width"], values: np.ndarray) -> str:
    share = anomalous.mean()
    if not share:
        return "Its mask is empty."
    if share > LARGE:
        return f"Its mask covers {share:.0%} of it."
    strong = values > values.max() / 2
    faint = values[anomalous & ~ndimage.binary_dilation(strong, EIGHT_NEIGHBOURS, iterations=SOFT_EDGE)]
    if len(np.unique(faint)) >= FAINT_VALUES:  # a few values are the numbers of several kinds of defect
        return (
            f"Its mask is speckled as by JPEG: {len(faint)} pixels away from its shapes have faint values "
            f"({faint.min():g} to {faint.max():g}), which count as anomalous."
        )
    return ""
