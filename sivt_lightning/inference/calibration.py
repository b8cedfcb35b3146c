"""What a model's numbers mean: which product a photo is of, and how often its good parts look like this."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from sivt_lightning.errors import SIVTError, listing
from sivt_lightning.inference.estimation import Sample, references_of
from sivt_lightning.inference.recognition import FEW, Recogniser, recogniser_of
from sivt_lightning.inference.reference import Reference
from sivt_lightning.model.detection import Detection

FALSE_ALARMS = 0.05  # share of good parts that may be called anomalous, where nothing else is asked for


@dataclass(frozen=True)
class Product:
    """How good parts of a product look to the model.

    Args:
        score: of the image.
        peak: the highest value of the anomaly map.
    """

    score: Reference
    peak: Reference


@dataclass(frozen=True)
class Calibration:
    """What turns scores into verdicts.

    Args:
        products: by name.
        recogniser: tells them apart.
        false_alarms: share of good parts that the thresholds let be called anomalous by default.
        source: folder of the photos, where they were not those of the training; else "".
    """

    products: dict[str, Product]
    recogniser: Recogniser
    false_alarms: float = FALSE_ALARMS
    source: str = ""

    def plain(self) -> dict[str, Any]:
        """For a checkpoint or a side-car."""
        return asdict(self)

    @classmethod
    def from_plain(cls, stored: Any) -> "Calibration":
        """Raises SIVTError where that is damaged."""
        try:
            products = {
                name: Product(*(Reference.from_plain(parts[part]) for part in ("score", "peak")))
                for name, parts in stored["products"].items()
            }
            recogniser = Recogniser.from_plain(stored["recogniser"])
            if products.keys() != recogniser.means.keys():
                raise ValueError("its products are not those of its recogniser")
            if not isinstance(stored["source"], str):
                raise ValueError("its source is no name")
            return cls(products, recogniser, check_share(stored["false_alarms"]), stored["source"])
        except SIVTError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SIVTError(f"The model's calibration is damaged ({error}): calibrate it again.") from error

    def limits(self) -> dict[str, dict[str, float]]:
        """Of each product at the default share: above which score and map value, and which distance, it is no good."""
        distances = self.recogniser.limits
        return {
            name: {
                "score": product.score.threshold(self.false_alarms),
                "pixel": product.peak.threshold(self.false_alarms),
                "distance": distances[name],
            }
            for name, product in self.products.items()
        }

    def renewed(self, new: "Calibration") -> "Calibration":
        """With what later photos say of their products, of which some may be new ones; the others stay as they are."""
        few = [name for name, product in new.products.items() if product.score.held_out < FEW]
        recogniser = self.recogniser.renewed(new.recogniser, few)
        return Calibration(self.products | new.products, recogniser, new.false_alarms, new.source)

    def promise(self, products: Iterable[str], share: float | None = None) -> str:
        """What the thresholds of these products rest on, where held-out photos alone do not promise the share, or "".

        >>> few = Reference([1.0, 2.0], [0.5, 0.1], 0.5, 3, 29)
        >>> recogniser = Recogniser({"bolt": [0.0]}, [1.0], {"bolt": 1.0})
        >>> print(Calibration({"bolt": Product(few, few)}, recogniser).promise(["bolt"]))
        At most 5 % of good parts are to be called anomalous. For bolt that is an estimate: its held-out good photos \
(3) are too few to promise it (19 would do), so photos of the training count, too. The true share may be up to 12 %. \
`sivt calibrate` with more good photos makes it sure.
        """
        share = self.false_alarms if share is None else share
        few = [name for name in sorted(set(products)) if not self.products[name].score.suffices(share)]
        if not few:
            return ""
        ends = [self.products[name].score.range(share)[1] for name in few]
        counts = [self.products[name].score.held_out for name in few]
        fewest, most = min(counts), max(counts)
        own = str(fewest) if len(few) == 1 else f"{fewest} each" if fewest == most else f"{fewest} to {most} each"
        trained = any(self.products[name].score.trained for name in few)
        return (
            f"At most {percent(share)} of good parts are to be called anomalous. For {listing(few)} that is an "
            f"estimate: {'its' if len(few) == 1 else 'their'} held-out good photos ({own}) are too few to promise it "
            f"({needed(share)} would do), so "
            f"{'photos of the training count, too' if trained else 'what is above their scores is a guess'}. The true "
            f"share may be up to {percent(max(ends))}. `sivt calibrate` with more good photos makes it sure."
        )


class Good(NamedTuple):
    """What a model says of good photos of one product."""

    scores: Float[np.ndarray, " photos"]
    peaks: Float[np.ndarray, " photos"]
    descriptors: Float[np.ndarray, "photos C"]

    @classmethod
    def of(cls, detection: Detection) -> "Good":
        """A batch of them, of what is inspected. Raises SIVTError where the model gives no descriptors."""
        if detection.descriptor is None:
            raise SIVTError(
                "The model gives no descriptor, by which products are told apart: it was exported by an earlier "
                "version of sivt_lightning. Export it again."
            )
        peaks = torch.stack([one.max() for one in detection.map])
        return cls(*(numbers.double().numpy() for numbers in (detection.score, peaks, detection.descriptor)))

    def beside(self, known: Product) -> "Good":
        """With the held-out numbers that a calibration has kept of photos; of these there are no descriptors."""
        scores, peaks = (
            np.concatenate([numbers, reference.sample()])
            for numbers, reference in ((self.scores, known.score), (self.peaks, known.peak))
        )
        return Good(scores, peaks, self.descriptors)


def calibrate(
    held_out: Mapping[str, Good], trained: Mapping[str, Good], false_alarms: float = FALSE_ALARMS, source: str = ""
) -> Calibration:
    """By good photos of each product: those that the model has not learned from, and some that it has.

    `source`: see `Calibration`.
    """
    none = np.zeros(0)
    names = sorted(held_out.keys() | trained.keys())

    def samples(part: str) -> dict[str, Sample]:
        return {
            name: Sample(*(getattr(of[name], part) if name in of else none for of in (held_out, trained)))
            for name in names
        }

    scores, peaks = references_of(samples("scores")), references_of(samples("peaks"))
    descriptors = {
        name: np.concatenate([of[name].descriptors for of in (held_out, trained) if name in of]) for name in names
    }
    products = {name: Product(scores[name], peaks[name]) for name in names}
    return Calibration(products, recogniser_of(descriptors), false_alarms, source)


def check_share(share: float) -> float:
    """Raises SIVTError where a share of good parts is none."""
    if not 0 < share < 1:
        raise SIVTError(
            f"false_alarms is {share}: give the share of good parts that may be called anomalous, such as 0.01 for 1 %."
        )
    return share


def needed(share: float) -> int:
    """Held-out photos that can promise a share.

    >>> needed(0.05), needed(0.01)
    (19, 99)
    """
    return round(np.ceil(round(1 / share, 6))) - 1


def percent(share: float) -> str:
    """
    >>> percent(0.05), percent(0.005), percent(0.1234)
    ('5 %', '0.5 %', '12 %')
    """
    return f"{100 * share:.2g} %"
