"""A sheet of test images beside their anomaly maps: where a model is right, and where it is not (paper, Fig. 3)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from sivt_lightning.report.overlay import FAINT, INK, PAPER, blended, font, normalised, outlined, scale_of, shortened

GAP, TITLE, CAPTION = 8, 16, 13
HEAD, FOOT = TITLE + GAP, CAPTION + GAP  # above a row its name, below each image its caption


class Exhibit(NamedTuple):
    """One test image: RGB in [0, 1], its anomaly map, its ground truth and a caption."""

    image: Float[np.ndarray, "s s 3"]
    map: Float[np.ndarray, "s s"]
    mask: Bool[np.ndarray, "s s"]
    caption: str


class Row(NamedTuple):
    """The exhibits of one category and the pixel threshold that its colours are scaled by."""

    name: str
    exhibits: Sequence[Exhibit]
    pixel_threshold: float


def draw_gallery(rows: Sequence[Row]) -> UInt8[np.ndarray, "height width 3"]:
    """A row for each category; an exhibit is the image with its defect outlined, and beside it the map over it."""
    side = rows[0].exhibits[0].map.shape[0]
    widest = max(len(row.exhibits) for row in rows)
    pair, tall = 2 * side + GAP, HEAD + side + FOOT + GAP
    sheet = Image.new("RGB", (widest * (pair + 2 * GAP), len(rows) * tall), PAPER)
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        draw.text((0, y * tall + 2), shortened(row.name, float(sheet.width), TITLE), INK, font(TITLE))
        scale, top = scale_of(row.pixel_threshold), y * tall + HEAD
        for x, (image, found, mask, caption) in enumerate(row.exhibits):
            photo = Image.fromarray((image * 255).round().clip(0, 255).astype(np.uint8))
            left = x * (pair + 2 * GAP)
            sheet.paste(outlined(photo, mask) if mask.any() else photo, (left, top))
            sheet.paste(blended(photo, normalised(found, scale)), (left + side + GAP, top))
            draw.text((left, top + side + 3), shortened(caption, float(pair), CAPTION), FAINT, font(CAPTION))
    return np.asarray(sheet)
