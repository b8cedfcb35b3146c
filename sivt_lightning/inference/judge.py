"""From what a model says of a photo to the verdict on it: one way for tests, predictions, Python and the server."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.calibration import Calibration, check_share
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.inference.recognition import Descriptors, Recognised
from sivt_lightning.inference.reference import ROUNDING, Numbers
from sivt_lightning.inference.thresholds import Threshold, Thresholds, check_given
from sivt_lightning.model.detection import Detection

By = Literal["product", "category", "pooled"]
Verdict = Literal["normal", "anomalous", "unknown"]

WITHOUT = (
    "The model's file has no calibration, so no product is recognised and one threshold serves all: it is of an "
    "earlier version of sivt_lightning, or of a training that was stopped. `sivt calibrate --ckpt_path FILE` adds it, "
    "without training; an earlier version's export has to be exported again."
)


@dataclass(frozen=True)
class Asked:
    """What verdicts are asked for.

    Args:
        by: whose threshold a photo is held against: that of the product that the model recognises ("product"), of the
            one that a folder's name tells ("category"), or one for all ("pooled"); None for the first, or the last
            where a model recognises none.
        category: the product of all photos, where it is told.
        threshold: the score above which a photo is anomalous, instead of those of the model.
        false_alarms: share of good parts that may be called anomalous, instead of the calibration's.
        unknown: whether a photo of none of the products is called so.
        smallest_region: pixels of a photo; a smaller anomalous region is none, and a photo without any is normal.

    Raises SIVTError where they contradict one another.
    """

    by: By | None = None
    category: str | None = None
    threshold: float | None = None
    false_alarms: float | None = None
    unknown: bool = True
    smallest_region: int = 0

    def __post_init__(self) -> None:
        check_given(self.threshold)
        if self.smallest_region < 0:
            raise SIVTError(f"smallest_region is {self.smallest_region}: give a number of pixels, or 0 for any region.")
        if self.false_alarms is not None:
            check_share(self.false_alarms)
        if self.category is not None and self.by is not None:
            raise SIVTError(
                f"category {self.category} is the product of all photos, threshold_by {self.by} says how each is "
                "found: give one."
            )
        if self.threshold is not None and self.false_alarms is not None:
            raise SIVTError(
                f"threshold {self.threshold:g} is a score, false_alarms {self.false_alarms:g} decides what score it "
                "is: give one."
            )


class Judgement(NamedTuple):
    """What is made of a photo's score.

    Args:
        verdict: "unknown" for a photo of none of the products.
        threshold: of its product, or of all.
        product: recognised or told; None where it is unknown, or the model recognises none.
        calibrated: log10 N, where about 1 of N good parts of the product scores as high or higher; None where the model
            has no calibration.
        nearest: the product that it was held against; that of an unknown photo, too.
        inspected: what counts of the photo, at a size of its own; None for all.
        smallest_region: see `Asked`.
    """

    verdict: Verdict
    threshold: Threshold
    product: str | None = None
    calibrated: float | None = None
    nearest: str | None = None
    inspected: Bool[Tensor, "_ _"] | None = None
    smallest_region: int = 0


@runtime_checkable  # the tests check signatures
class Judge(Protocol):
    """Turns scores into verdicts.

    Args:
        recognises: whether products are recognised and scores calibrated.
        false_alarms: share of good parts that is promised, None where it is another number or a score.
    """

    recognises: bool
    false_alarms: float | None

    @property
    def products(self) -> Collection[str]:
        """That have a threshold of their own."""
        ...

    def inspected(self, detection: Detection, told: Sequence[str | None]) -> Detection:
        """What of a batch's scores and maps counts, by the product that each photo is held against."""
        ...

    def __call__(self, detection: Detection, told: Sequence[str | None]) -> list[Judgement]:
        """Of each photo of a batch, by scores of what is `inspected`; `told` is its product, where that is known."""
        ...

    def threshold(self, product: str | None) -> Threshold:
        """Of a product. Raises SIVTError where there is none."""
        ...

    def doubt(self, products: Iterable[str | None]) -> str:
        """What to know where the thresholds of these products do not promise what they say, or ""."""
        ...


class ProductJudge:
    """Holds each photo against good parts of its own product.

    >>> from sivt_lightning.inference.calibration import Product, Recogniser, Reference
    >>> scores = Reference([1.0, 2.0], [0.5, 0.05], 0.5, 19)
    >>> known = Calibration({"bolt": Product(scores, scores)}, Recogniser({"bolt": [0.0]}, [1.0], {"bolt": 9.0}))
    >>> import torch
    >>> batch = Detection(torch.tensor([1.0, 3.0, 1.0]), torch.zeros(3, 2, 2), torch.tensor([[0.0], [1.0], [6.0]]))
    >>> [judged.verdict for judged in ProductJudge(known, Asked())(batch, [None] * 3)]
    ['normal', 'anomalous', 'unknown']
    """

    recognises = True

    def __init__(self, calibration: Calibration, asked: Asked, inspection: Inspection | None = None) -> None:
        self.calibration, self.asked, self.inspection = calibration, asked, inspection or Inspection()
        share = calibration.false_alarms if asked.false_alarms is None else asked.false_alarms
        self.false_alarms = None if asked.threshold is not None else share
        self.thresholds = {name: self._threshold(name, share) for name in calibration.products}
        if asked.category is not None:
            self.threshold(asked.category)

    def _threshold(self, name: str, share: float) -> Threshold:
        product, given = self.calibration.products[name], self.asked.threshold
        score = product.score.threshold(share) if given is None else given
        return Threshold(score, product.peak.threshold(share), product.score.held_out, product.score.sample())

    @property
    def products(self) -> Collection[str]:
        """All that the model knows."""
        return self.thresholds.keys()

    def threshold(self, product: str | None) -> Threshold:
        """Of a product. Raises SIVTError for one that the model does not know."""
        if product not in self.thresholds:
            raise SIVTError(
                f"There is no threshold for category {product!r}: the model knows "
                f"{', '.join(sorted(self.thresholds))}. Choose one of these, or have it recognised (threshold_by "
                "product), the default."
            )
        return self.thresholds[product]

    def inspected(self, detection: Detection, told: Sequence[str | None]) -> Detection:
        recognised = self._recognised(_descriptors(detection), told)
        return self.inspection(detection, [what.product for what in recognised])

    def __call__(self, detection: Detection, told: Sequence[str | None]) -> list[Judgement]:
        return self.judged(detection.score.double().numpy(), _descriptors(detection), told)

    def judged(self, scores: Numbers, descriptors: Descriptors, told: Sequence[str | None]) -> list[Judgement]:
        """Of photos whose maps are not kept."""
        recognised = self._recognised(descriptors, told)
        return [self._judged(float(score), what) for score, what in zip(scores, recognised, strict=True)]

    def _recognised(self, descriptors: Descriptors, told: Sequence[str | None]) -> list[Recognised]:
        return self.calibration.recogniser(descriptors, [self.asked.category or name for name in told])

    def _judged(self, score: float, recognised: Recognised) -> Judgement:
        threshold = self.thresholds[recognised.product]
        # The threshold has room for rounding, so what is held against it has the same.
        reference = self.calibration.products[recognised.product].score
        calibrated = float(reference.rarity(np.array([score / (1 + ROUNDING)]))[0])
        product = recognised.product
        told = (calibrated, product, self.inspection.of(product), self.asked.smallest_region)
        if self.asked.unknown and not recognised.strangeness <= 1:  # NaN is no product, either
            return Judgement("unknown", threshold, None, *told)
        share = self.false_alarms
        above = score > threshold.image if share is None else calibrated > -math.log10(share)
        return Judgement("anomalous" if above else "normal", threshold, product, *told)

    def doubt(self, products: Iterable[str | None]) -> str:
        """See `Calibration.promise`."""
        if self.false_alarms is None:
            return ""
        return self.calibration.promise([name for name in products if name is not None], self.false_alarms)


class PooledJudge:
    """Holds photos against thresholds as models without a calibration have them: one for all, or the one told."""

    recognises = False

    def __init__(self, thresholds: Thresholds, asked: Asked, inspection: Inspection | None = None) -> None:
        self.thresholds, self.asked, self.inspection = thresholds, asked, inspection or Inspection()
        self.false_alarms: float | None = None  # nothing is promised
        if asked.by == "product" or asked.false_alarms is not None:
            what = "threshold_by product" if asked.false_alarms is None else f"false_alarms {asked.false_alarms:g}"
            raise SIVTError(f"{what}: {WITHOUT}")
        if asked.category is not None:
            self.threshold(asked.category)

    @property
    def products(self) -> Collection[str]:
        """All that the model was trained on."""
        return self.thresholds.categories.keys()

    def threshold(self, product: str | None) -> Threshold:
        """Of a category, or of all for None. Raises SIVTError for one that was not trained."""
        return self.thresholds.of(product, self.asked.threshold)

    def inspected(self, detection: Detection, told: Sequence[str | None]) -> Detection:
        """All of a photo whose product is not told."""
        return self.inspection(detection, [self.asked.category or name for name in told])

    def __call__(self, detection: Detection, told: Sequence[str | None]) -> list[Judgement]:
        products = [self.asked.category or name for name in told]
        return [self._judged(*of) for of in zip(detection.score.double().tolist(), products, strict=True)]

    def _judged(self, score: float, product: str | None) -> Judgement:
        threshold, seen = self.threshold(product), self.inspection.of(product)
        verdict: Verdict = "anomalous" if score > threshold.image else "normal"
        return Judgement(verdict, threshold, product, None, product, seen, self.asked.smallest_region)

    def doubt(self, products: Iterable[str | None]) -> str:
        """See `Thresholds.doubt`; and what the model's file lacks."""
        said = "" if self.asked.threshold is not None else self.thresholds.doubt(products)
        return " ".join(filter(None, [said, WITHOUT]))


def _descriptors(detection: Detection) -> Descriptors:
    if detection.descriptor is None:
        raise SIVTError("The model gives no descriptor, by which products are recognised. Export it again.")
    return detection.descriptor.numpy()


def judge_of(known: Calibration | Thresholds, asked: Asked, inspection: Inspection | None = None) -> Judge:
    """By what a model's file holds. Raises SIVTError where that cannot give what is asked for."""
    if isinstance(known, Thresholds):
        return PooledJudge(known, asked, inspection)
    if asked.by == "pooled":
        raise SIVTError(
            "threshold_by pooled: a score compares with scores of the same product only, so this model has no "
            "threshold for all. Give false_alarms, the share of good parts that may be called anomalous, or threshold."
        )
    return ProductJudge(known, asked, inspection)
