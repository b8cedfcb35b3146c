"""Which product a photo is of, or that it is of none, by its descriptor."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sivt_lightning.errors import SIVTError

# A photo is of no product where its distance from the nearest is beyond what that product's own photos reach (nine of
# ten of them, this many times; more where there is no other product to tell by), and is no small part of the distances
# between products: a defect takes a photo of a product that always looks the same far from it, but not to another.
# Chosen on good photos and synthetic defects alone, see docs/results-appendix.md.
OWN, OWN_ALONE, BETWEEN = 1.75, 3.0, 0.2
REACH = 0.9
FEW = 10  # photos, below which a product's own reach is held against that of the others
Descriptors = Float[np.ndarray, "photos C"]


class Recognised(NamedTuple):
    """What a photo shows.

    Args:
        product: the nearest.
        strangeness: distance from it over that at which a photo is of none of the products: above 1 it is unknown.
    """

    product: str
    strangeness: float


@dataclass(frozen=True)
class Recogniser:
    """Products by their mean descriptors, one variance for all: a diagonal linear discriminant.

    Args:
        means: of each product, by name.
        variance: of each channel, within products.
        reaches: of each product, the distance that nine of ten of its own photos keep within.
    """

    means: dict[str, list[float]]
    variance: list[float]
    reaches: dict[str, float]

    def __post_init__(self) -> None:
        numbers = [*self.variance, *self.reaches.values(), *(number for mean in self.means.values() for number in mean)]
        sizes = {len(mean) for mean in self.means.values()}
        if sizes != {len(self.variance)} or self.means.keys() != self.reaches.keys():
            raise ValueError("a recogniser whose products differ in size")
        if not all(map(math.isfinite, numbers)) or min(self.variance) <= 0 or min(self.reaches.values()) <= 0:
            raise ValueError("a recogniser with a number that cannot be")

    def __call__(self, descriptors: Descriptors, told: Sequence[str | None] | None = None) -> list[Recognised]:
        """Of each photo; where its product is told, it is held against that one alone.

        Raises SIVTError where the descriptors are of another model.
        """
        names, distances = list(self.means), self.distances(descriptors)
        nearest = [names[i] for i in distances.argmin(1)]
        chosen = [name or own for name, own in zip(told or [None] * len(nearest), nearest, strict=True)]
        return [
            Recognised(name, float(row[names.index(name)] / self.limits[name]))
            for name, row in zip(chosen, distances, strict=True)
        ]

    def distances(self, descriptors: Descriptors) -> Float[np.ndarray, "photos products"]:
        """Squared, in units of the variance, a mean over the channels.

        Raises SIVTError where the descriptors are of another model.
        """
        if descriptors.shape[1] != len(self.variance):
            raise SIVTError(
                f"The model's recogniser knows {len(self.variance)} channels, but its descriptors have "
                f"{descriptors.shape[1]}: calibrate it again."
            )
        return _distances(descriptors, *self._arrays)

    @cached_property
    def _arrays(self) -> tuple[Float[np.ndarray, "products C"], Float[np.ndarray, " C"]]:
        """Means and variance."""
        return np.array(list(self.means.values())), np.array(self.variance)

    @cached_property
    def limits(self) -> dict[str, float]:
        """Of each product, the distance from which a photo is of none."""
        if len(self.means) == 1:
            return {name: OWN_ALONE * reach for name, reach in self.reaches.items()}
        between = self.distances(self._arrays[0])
        np.fill_diagonal(between, np.inf)
        least = BETWEEN * math.exp(np.log(np.maximum(between.min(1), 1e-12)).mean())
        return {name: max(OWN * reach, least) for name, reach in self.reaches.items()}

    def renewed(self, new: "Recogniser", few: Collection[str] = ()) -> "Recogniser":
        """With what another says of its products, in whose variance its reaches are; the variance stays.

        `few`: products of which it has seen too few photos to say that they reach less far than before.
        """
        scale = float(np.mean(np.array(new.variance) / np.array(self.variance)))
        usual = float(np.median(list(self.reaches.values())))
        reaches = {
            name: max(reach * scale, self.reaches.get(name, usual) if name in few else 0.0)
            for name, reach in new.reaches.items()
        }
        return Recogniser(self.means | new.means, self.variance, self.reaches | reaches)

    @classmethod
    def from_plain(cls, stored: Any) -> "Recogniser":
        """What `dataclasses.asdict` made of it. Raises SIVTError where that is damaged."""
        try:
            return cls(**stored)
        except (AttributeError, TypeError, ValueError) as error:
            raise SIVTError(f"The model's recogniser is damaged ({error}): calibrate it again.") from error


def recogniser_of(photos: Mapping[str, Descriptors]) -> Recogniser:
    """By good photos of each product; each product counts alike, however many there are of it."""
    means = np.stack([some.mean(0, dtype=np.float64) for some in photos.values()])
    within = np.stack([some.var(0, dtype=np.float64) for some in photos.values()]).mean(0)
    variance = np.maximum(within, max(1e-6 * within.max(), 1e-12))  # a channel that never moves says nothing
    reaches = []
    for mean, some in zip(means, photos.values(), strict=True):
        # Of a photo that its product's mean had left out: the mean over the others is the farther from it.
        left_out = (len(some) / max(len(some) - 1, 1)) ** 2
        reaches.append(float(np.quantile(_distances(some, mean[None], variance)[:, 0] * left_out, REACH)))
    usual = max(float(np.median(reaches)), 1e-12)
    return Recogniser(
        {name: _short(mean) for name, mean in zip(photos, means, strict=True)},
        _short(variance),
        {
            name: max(reach, usual) if len(some) < FEW else max(reach, 1e-12)
            for reach, (name, some) in zip(reaches, photos.items(), strict=True)
        },
    )


def _short(numbers: Float[np.ndarray, " C"]) -> list[float]:
    """Six digits, which are more than a descriptor has in half precision."""
    return [float(f"{number:.6g}") for number in numbers]


def _distances(
    descriptors: Descriptors, means: Float[np.ndarray, "products C"], variance: Float[np.ndarray, " C"]
) -> Float[np.ndarray, "photos products"]:
    scaled, centres = descriptors / np.sqrt(variance), means / np.sqrt(variance)
    return np.stack([((scaled - centre) ** 2).mean(1) for centre in centres], axis=1)
