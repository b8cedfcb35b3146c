"""Thresholds as models without a calibration have them: one for all images, and one for each category."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from sivt_lightning.data.roi import at_size
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.reference import ROUNDING

MOST_KEPT = 512  # scores that a threshold remembers
MOST_PIXELS = 2**18  # of what is inspected of a photo; without a region STRIDE thins them
STRIDE = 4  # maps are smooth: every fourth pixel in both directions says the same of their values in 1/16 of the memory


@dataclass(frozen=True)
class Threshold:
    """Scores above which an image, or a pixel, counts as anomalous, found on `images` held-out normal images.

    `normal` is how their scores are distributed: in ascending order, thinned evenly where they are many.
    """

    image: float
    pixel: float
    images: int
    normal: list[float] = field(default_factory=list, repr=False)  # none in checkpoints of earlier versions

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.image, self.pixel, *self.normal)):  # NaN: all is normal
            raise ValueError("a threshold that is no finite number")


@dataclass(frozen=True)
class Thresholds:
    """The threshold of all categories pooled, and that of each; `quantile` of the normal scores stay at or below it."""

    quantile: float
    pooled: Threshold
    categories: dict[str, Threshold]

    @classmethod
    def from_plain(cls, stored: Any) -> "Thresholds":
        """What `dataclasses.asdict` made of them, as a checkpoint or a side-car holds it."""
        try:
            categories = {name: Threshold(**values) for name, values in stored["categories"].items()}
            return cls(stored["quantile"], Threshold(**stored["pooled"]), categories)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SIVTError(
                "The model's thresholds are damaged, or those of another version of sivt_lightning: export the model "
                "again, or train it again."
            ) from error

    def of(self, category: str | None, given: float | None = None) -> Threshold:
        """That of a category, or the pooled one for None; `given` replaces the image's threshold.

        Raises SIVTError for a category that was not trained.
        """
        if category is not None and category not in self.categories:
            raise SIVTError(
                f"There is no threshold for category {category!r}, since the model was trained on "
                f"{', '.join(sorted(self.categories))}: choose one of these, or take the pooled threshold, the default."
            )
        threshold = self.pooled if category is None else self.categories[category]
        return threshold if given is None else replace(threshold, image=given)

    def doubt(self, categories: Iterable[str | None]) -> str:
        """What to know where chosen thresholds (None: the pooled one) rest on too few images for the quantile, or "".

        >>> few = Threshold(image=1.0, pixel=1.0, images=9)
        >>> print(Thresholds(0.99, few, {}).doubt([None]))
        The threshold rests on fewer held-out normal images than quantile 0.99 takes (100), so it is simply the \
highest of their scores. Expect it to be exceeded by about 1 good image in 10. Train with more images, or set \
--threshold.
        """
        needed = math.ceil(round(1 / (1 - self.quantile), 6))
        few = {name: images for name in categories if (images := self.of(name).images) < needed}
        if not few:
            return ""
        names = [name for name in few if name is not None]
        of = f" of {', '.join(names)}" if names else ""
        # The expected share of new normal scores above the highest of n is 1 / (n + 1), whatever their distribution.
        often = sorted({images + 1 for images in few.values()})
        shares = str(often[0]) if len(often) == 1 else f"{often[0]} to {often[-1]}"
        noun, are = ("thresholds", "rest") if len(few) > 1 else ("threshold", "rests")
        each = "each is" if len(few) > 1 else "it is"
        return (
            f"The {noun}{of} {are} on fewer held-out normal images than quantile {self.quantile:g} takes ({needed}), "
            f"so {each} simply the highest of their scores. Expect it to be exceeded by about 1 good image in "
            f"{shares}. Train with more images, or set --threshold."
        )


def check_given(threshold: float | None) -> float | None:
    """Raises SIVTError where a threshold given by hand is no score."""
    if threshold is not None and not 0 <= threshold < math.inf:
        raise SIVTError(f"threshold is {threshold}: scores are 0 or more, so give such a number.")
    return threshold


def threshold_of(
    scores: Float[np.ndarray, " images"], pixels: Float[np.ndarray, " pixels"], quantile: float
) -> Threshold:
    """The quantile of the scores and of the maps' values over normal images; a value above it is anomalous.

    Method "higher" answers with a value that occurred, never with one interpolated below it: strictly above the
    threshold, that value with room for rounding, is then at most the share 1 - quantile of the normal images.

    >>> threshold_of(np.arange(10.0), np.arange(100.0), 0.9)
    Threshold(image=9.00009, pixel=90.0009, images=10)
    """
    exact = (float(np.quantile(values, quantile, method="higher")) for values in (scores, pixels))
    image, pixel = (value * (1 + ROUNDING) for value in exact)
    kept = np.linspace(0, len(scores) - 1, min(len(scores), MOST_KEPT)).round().astype(int)
    return Threshold(image, pixel, len(scores), np.sort(scores)[kept].tolist())


class Held(NamedTuple):
    """What a model says of a held-out normal image."""

    category: str
    score: float
    pixels: Float[np.ndarray, " pixels"]  # of its thinned map


def held_of(
    categories: Sequence[str],
    scores: Float[Tensor, " B"],
    maps: Sequence[Float[Tensor, "_ _"]] | Float[Tensor, "B S S"],
    regions: Mapping[str, Bool[Tensor, "_ _"]] = MappingProxyType({}),
) -> list[Held]:
    """A batch of them; of categories with a region, the pixels that are inspected."""
    pixels = [one[::STRIDE, ::STRIDE].float().flatten().cpu().numpy() for one in maps]
    for position, name in enumerate(categories):
        if name in regions:
            one = maps[position].float().cpu()
            inspected = one[at_size(regions[name].cpu(), *one.shape)]  # all: a narrow part may lie between every fourth
            pixels[position] = inspected[:: max(1, len(inspected) // MOST_PIXELS)].numpy()
    return [Held(*image) for image in zip(categories, scores.float().tolist(), pixels, strict=True)]


def thresholds_of(held: Sequence[Held], quantile: float) -> Thresholds:
    """Of all images pooled, and of each category. Raises SIVTError where a score is no finite number."""
    categories = {
        name: _threshold([image for image in held if image.category == name], quantile)
        for name in sorted({image.category for image in held})
    }
    return Thresholds(quantile, _threshold(held, quantile), categories)


def _threshold(held: Sequence[Held], quantile: float) -> Threshold:
    scores, pixels = np.array([image.score for image in held]), np.concatenate([image.pixels for image in held])
    if not (np.isfinite(scores).all() and np.isfinite(pixels).all()):  # else nothing would ever be anomalous
        raise SIVTError(
            "No threshold can be set: an anomaly score of a held-out image is not a finite number: the model diverged "
            "in training, or the precision is too narrow for it. Train with a lower learning rate, or in 32-true."
        )
    return threshold_of(scores, pixels, quantile)
