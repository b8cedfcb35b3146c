"""Masks that do not say what they should."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from sivt_lightning.check.finding import Finding, Kind
from sivt_lightning.check.looks import Look
from sivt_lightning.data.masks import LARGE, of_one_shape, read_mask
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError


def doubtful_masks(samples: Sequence[Sample], looks: Mapping[Path, Look]) -> list[Finding]:
    """A finding for each mask that cannot be read, is empty or inverted, or is not of its photo."""
    return [finding for sample in samples if sample.mask_path and (finding := _doubt(sample, looks[sample.path]))]


def _doubt(sample: Sample, look: Look) -> Finding | None:
    try:
        mask = read_mask(sample.mask_path)  # type: ignore[arg-type]  # it has one
    except SIVTError as error:
        return Finding("unreadable", sample.category, str(error), [sample.path])
    height, width = mask.pixels.shape
    wrong = ""
    if not of_one_shape((width, height), (look.width, look.height)):
        wrong = (
            f"The mask is of another shape than the photo, {width} x {height} beside {look.width} x {look.height}: it "
            "is another photo's, or cut off."
        )
    elif mask.pixels.mean() > LARGE and _border(mask.pixels).mean() > LARGE:
        wrong = "Its mask seems inverted: it covers most of the photo and of its border. White has to be the defect."
    elif not mask.pixels.any():
        wrong = mask.doubt
    if not wrong and not mask.doubt:
        return None
    kind: Kind = "wrong mask" if wrong else "doubtful mask"
    return Finding(kind, sample.category, f"{sample.path}: {wrong or mask.doubt}", [sample.path])


def _border(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, " pixels"]:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
