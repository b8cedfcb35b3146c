"""Images beside their anomaly maps on one sheet: of a test (paper, Fig. 3), and for watching a training."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from sivt_lightning.report.overlay import FAINT, INK, PAPER, blended, font, normalised, outlined, scale_of, shortened

GAP, TITLE, CAPTION = 8, 16, 13
NARROW = 4  # between the images of a panel
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
        for x, (image, anomaly_map, mask, caption) in enumerate(row.exhibits):
            photo = Image.fromarray((image * 255).round().clip(0, 255).astype(np.uint8))
            left = x * (pair + 2 * GAP)
            sheet.paste(outlined(photo, mask) if mask.any() else photo, (left, top))
            sheet.paste(blended(photo, normalised(anomaly_map, scale)), (left + side + GAP, top))
            draw.text((left, top + side + 3), shortened(caption, float(pair), CAPTION), FAINT, font(CAPTION))
    return np.asarray(sheet)


def panel(
    images: Float[np.ndarray, "two_n s s 3"],
    maps: Float[np.ndarray, "two_n s s"],
    masks: Bool[np.ndarray, "n s s"],
    pixel_threshold: float,
) -> UInt8[np.ndarray, "height width 3"]:
    """A row for each pair: image, its map, its defective twin with the defect outlined, the twin's map.

    The first half of `images` and `maps` (values in [0, 1] and anomaly scores) are the normal ones, the second half
    their twins in the same order. The maps share the colours of the overlays that `predict` would draw.
    """
    pairs, side = len(masks), images.shape[1]
    scale = scale_of(pixel_threshold)
    sheet = np.full((pairs * (side + NARROW) - NARROW, 4 * (side + NARROW) - NARROW, 3), 255, dtype=np.uint8)
    for row, mask in enumerate(masks):
        cells = []
        for i in (row, pairs + row):
            photo = Image.fromarray((images[i] * 255).round().clip(0, 255).astype(np.uint8))
            cells += [outlined(photo, mask) if i >= pairs else photo, blended(photo, normalised(maps[i], scale))]
        for column, cell in enumerate(cells):
            top, left = row * (side + NARROW), column * (side + NARROW)
            sheet[top : top + side, left : left + side] = np.asarray(cell)
    return sheet
