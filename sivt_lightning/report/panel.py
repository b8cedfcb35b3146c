"""Images and their anomaly maps on one sheet, for watching a training."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from sivt_lightning.report.overlay import blended, normalised, outlined, scale_of

GAP = 4


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
    sheet = np.full((pairs * (side + GAP) - GAP, 4 * (side + GAP) - GAP, 3), 255, dtype=np.uint8)
    for row, mask in enumerate(masks):
        cells = []
        for i in (row, pairs + row):
            photo = Image.fromarray((images[i] * 255).round().clip(0, 255).astype(np.uint8))
            cells += [outlined(photo, mask) if i >= pairs else photo, blended(photo, normalised(maps[i], scale))]
        for column, cell in enumerate(cells):
            top, left = row * (side + GAP), column * (side + GAP)
            sheet[top : top + side, left : left + side] = np.asarray(cell)
    return sheet
