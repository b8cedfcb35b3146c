"""Connected regions of a mask, for the per-region overlap."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)  # as in the evaluation of MVTec AD


def region_weights(mask: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, " anomalous"]:
    """For each True pixel in row-major order, 1 / area of its region; so the weights of a region add up to 1.

    Pixels that touch at a side or corner belong together.

    >>> region_weights(np.array([[1, 0, 0, 0], [0, 1, 0, 1]], dtype=bool))
    array([0.5, 0.5, 1. ])
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.empty(0)
    part = mask[
        rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1
    ]  # a defect is small, and the rest is quickly left out
    labels, regions = ndimage.label(part, EIGHT_NEIGHBOURS)
    inside = labels[part] - 1
    return 1 / np.bincount(inside, minlength=regions)[inside]
