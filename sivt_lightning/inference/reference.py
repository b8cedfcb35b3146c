"""How a number that a model gives is distributed over the good parts of a product, and what a new one's is worth by it.

The number is 0 or more: an image's score, or the highest value of its anomaly map. All is done on its logarithm, since
scores of one product lie within factors, not within sums.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sivt_lightning.errors import SIVTError

MOST_KNOTS = 512
TAIL = 0.1  # share of the highest numbers, by which the tail falls
# Weight of the tail that products have in common, in numbers above the tail's beginning; and decay where none is known.
COMMON, UNKNOWN = 10, 0.3
FEW = 10  # numbers, of the training or not, below which they tell little of how widely new ones lie
GAUSSIAN = 0.6  # decay of normally distributed numbers, in their deviations, from one of four to one of twenty
BESIDE = 1e-6  # a step in the logarithm, too small to be seen
LEAST = 1e-12  # what stands for 0, which has no logarithm
LARGEST = 100.0  # logarithm of what no float32 reaches
# Of how widely held-out numbers lie, a product counts for at most so many times what the middle one says: a defect
# among three good photos of one must not widen all.
MOST_SPREAD = 4
# A score's last digits depend on how many images are computed together, and on the processor: of float32 by up to 2e-7
# of itself, a pixel's by 2e-6. Without room for them a part that looks like one held out could be called anomalous.
ROUNDING = 1e-5
Numbers = Float[np.ndarray, " numbers"]


@dataclass(frozen=True)
class Reference:
    """The share of good parts above a number: between knots, and beyond the last, a straight line in both logarithms.

    Args:
        values: of the knots, ascending.
        shares: of new good parts expected above each, descending.
        decay: beyond the last knot the share falls by e where the number grows by the factor exp(decay).
        held_out: good images that the model has not learned from, on which the shares rest down to 1 / (held_out + 1).
        trained: images that it has learned from, on which lower shares rest.
        shift: by the logarithm of how much the latter's numbers were raised.
        doubt: standard error of that logarithm.
    """

    values: list[float]
    shares: list[float]
    decay: float
    held_out: int
    trained: int = 0
    shift: float = 0.0
    doubt: float = 0.0

    def __post_init__(self) -> None:
        numbers = [*self.values, *self.shares, self.decay, self.shift, self.doubt]
        if not self.values or len(self.values) != len(self.shares) or not all(map(math.isfinite, numbers)):
            raise ValueError("a reference without numbers")  # NaN: all would be normal
        if min(self.held_out, self.trained) < 0:
            raise ValueError("a reference that rests on fewer than no photos")
        rising = all(a < b for a, b in zip(self.values, self.values[1:], strict=False))
        falling = all(a > b > 0 for a, b in zip(self.shares, self.shares[1:], strict=False))
        if not (rising and falling and 0 < self.shares[0] < 1 and self.values[0] > 0 and self.decay > 0):
            raise ValueError("a reference whose knots are in disorder")

    def rarity(self, numbers: Numbers) -> Numbers:
        """log10 N, where about 1 of N new good parts has this number or a higher one.

        >>> Reference([1.0, 2.0], [0.5, 0.1], 0.5, 9).rarity(np.array([0.0, 1.0, 2.0, 4.0])).round(3)
        array([0.   , 0.301, 1.   , 1.602])
        """
        values, levels = np.log(self.values), -np.log(self.shares)
        at = np.log(np.maximum(numbers, LEAST))
        inside = np.interp(at, values, levels)
        below = levels[0] * np.minimum(
            np.maximum(numbers, 0) / self.values[0], 1
        )  # so that an order is left there, too
        beyond = levels[-1] + (at - values[-1]) / self.decay
        rare = np.where(at < values[0], below, np.where(at > values[-1], beyond, inside))
        return rare / math.log(10)

    def threshold(self, share: float) -> float:
        """The number that this share of new good parts is expected above.

        >>> Reference([1.0, 2.0], [0.5, 0.1], 0.5, 9).threshold(0.1)
        2.00002
        """
        values, levels, level = np.log(self.values), -np.log(self.shares), -math.log(share)
        if level < levels[0]:
            number = self.values[0] * level / levels[0]
        elif level > levels[-1]:
            number = math.exp(min(values[-1] + self.decay * (level - levels[-1]), 2 * LARGEST))
        else:
            number = math.exp(np.interp(level, levels, values))
        return float(number * (1 + ROUNDING))

    def sample(self) -> list[float]:
        """The numbers of held-out images, at most 512, which new ones are spread as; those of the training are not.

        >>> Reference([1.0, 2.0, 4.0], [0.75, 0.5, 0.25], 0.5, 3, 90).sample()
        [1.0, 2.0, 4.0]
        """
        count = min(self.held_out, MOST_KNOTS)
        return [self.threshold(1 - (k + 1) / (count + 1)) / (1 + ROUNDING) for k in range(count)]

    def suffices(self, share: float) -> bool:
        """Whether held-out images alone can promise it."""
        return (self.held_out + 1) * share >= 1 - 1e-9

    def range(self, share: float) -> tuple[float, float]:
        """In which, nine times of ten, the true share of good parts above `threshold(share)` lies."""
        from scipy.stats import beta  # takes most of a second, and a server needs it not

        alone = self.suffices(share)
        images = self.held_out if alone else self.held_out + self.trained
        least, most = beta.ppf((0.05, 0.95), (images + 1) * share, (images + 1) * (1 - share))
        if not alone and self.doubt:
            at = self.threshold(share) * np.exp(1.645 * self.doubt * np.array([1, -1]))
            lower, higher = 10 ** -self.rarity(at)
            least, most = min(least, lower), max(most, higher)
        return float(least), float(min(most, 1))

    @classmethod
    def from_plain(cls, stored: Any) -> "Reference":
        """What `dataclasses.asdict` made of it. Raises SIVTError where that is damaged."""
        try:
            return cls(**stored)
        except (TypeError, ValueError) as error:
            raise SIVTError(f"The model's calibration is damaged ({error}): calibrate it again.") from error


class Sample(NamedTuple):
    """Numbers of good images of one product."""

    held_out: Numbers  # which the model has not learned from
    trained: Numbers  # which it has


def references_of(samples: Mapping[str, Sample]) -> dict[str, Reference]:
    """Of each product, some of whose properties are estimated over all of them.

    Expected exceedances of order statistics are exact whatever the distribution: of n held-out numbers the k-th lowest
    is exceeded by the share (n + 1 - k) / (n + 1) of new ones (conformal prediction). That is all that n numbers can
    tell. Lower shares are read off the images of the training, whose numbers are lower because the model knows them:
    by what factor, the held-out ones of all products tell (random effects, DerSimonian and Laird 1986). Beyond all of
    them the tail falls as those of all products do (Hill 1975). None is below the highest held-out number.

    Raises SIVTError where a number is not finite.
    """
    logs = {name: Sample(*(_log(part) for part in sample)) for name, sample in samples.items()}
    shifts = _shifts(logs)
    spread = _spread(logs)
    joined = {
        name: np.sort(np.concatenate([s.held_out, _raised(s.trained, shifts[name][0], spread)]))
        for name, s in logs.items()
    }
    decays = _decays(joined, {name for name, s in logs.items() if not len(s.trained) or len(joined[name]) < FEW})
    return {name: _reference(logs[name], joined[name], decays[name], *shifts[name]) for name in samples}


def _log(numbers: Numbers) -> Numbers:
    if not np.isfinite(numbers).all():  # else nothing would ever be anomalous
        raise SIVTError(
            "No threshold can be set: an anomaly score of a good image is not a finite number: the model diverged "
            "in training, or the precision is too narrow for it. Train with a lower learning rate, or in 32-true."
        )
    return np.log(np.maximum(numbers.astype(np.float64), LEAST))


def _shifts(logs: Mapping[str, Sample]) -> dict[str, tuple[float, float]]:
    """Of each product: by how much held-out numbers are higher than those of the training, and its standard error."""
    known = {name: s for name, s in logs.items() if len(s.held_out) and len(s.trained) > 1}
    if not known:
        return dict.fromkeys(logs, (0.0, 0.0))
    raw = np.array([s.held_out.mean() - s.trained.mean() for s in known.values()])
    noise = np.array([s.trained.var() * (1 / len(s.held_out) + 1 / len(s.trained)) for s in known.values()]) + 1e-12
    weights = 1 / noise
    fixed = (weights * raw).sum() / weights.sum()
    spare = weights.sum() - (weights**2).sum() / weights.sum()
    between = 0.0
    if len(raw) > 1 and spare > 0:
        between = max(0.0, ((weights * (raw - fixed) ** 2).sum() - (len(raw) - 1)) / spare)
    weights = 1 / (noise + between)
    common = (weights * raw).sum() / weights.sum()
    own = between / (between + noise)
    errors = np.sqrt(own * noise + (1 - own) ** 2 / weights.sum())
    found = {
        name: (float(common + o * (r - common)), float(e))
        for name, o, r, e in zip(known, own, raw, errors, strict=True)
    }
    return dict.fromkeys(logs, (float(common), float(math.sqrt(between + 1 / weights.sum())))) | found


def _spread(logs: Mapping[str, Sample]) -> float:
    """How many times as widely held-out numbers lie as those of the training: of all products, at least 1."""
    known = [s for s in logs.values() if len(s.held_out) > 1 and len(s.trained) > 1 and s.trained.var() > 0]
    if not known:
        return 1.0
    degrees = np.array([len(s.held_out) - 1 for s in known])
    ratios = np.array([s.held_out.var(ddof=1) / s.trained.var(ddof=1) for s in known])  # of variances
    usual = max(1.0, float(np.median(ratios / (1 - 2 / (9 * degrees)) ** 3)))  # whose median is below their mean
    return max(1.0, math.sqrt(np.average(np.minimum(ratios, MOST_SPREAD * usual), weights=degrees)))


def _raised(trained: Numbers, shift: float, spread: float) -> Numbers:
    if not len(trained):
        return trained
    return (trained.mean() + shift + spread * (trained - trained.mean())).clip(-LARGEST, LARGEST)


def _decays(joined: Mapping[str, Numbers], alone: Collection[str]) -> dict[str, float]:
    """Hill's estimate for each product, drawn towards that of all in units of each one's own spread.

    `alone`: products whose few numbers have to tell how widely all lie, for want of photos of the training.
    """
    excess, counts, spreads = {}, {}, {}
    for name, numbers in joined.items():
        count = max(1, round(TAIL * len(numbers)))
        spreads[name] = float(numbers.std()) if len(numbers) > 1 else 0.0
        if len(numbers) < 5 or spreads[name] < 1e-6:
            continue
        excess[name] = float((numbers[-count:] - numbers[-count - 1]).mean()) / spreads[name]
        counts[name] = count
    total = sum(counts.values())
    common = sum(counts[name] * excess[name] for name in counts) / total if total else UNKNOWN
    spread = float(np.median([s for s in spreads.values() if s > 0] or [UNKNOWN]))
    decays = {}
    for name in joined:
        count = counts.get(name, 0)
        ratio = (count * excess.get(name, 0.0) + COMMON * common) / (count + COMMON)
        if name in alone:
            ratio = max(ratio, GAUSSIAN) * _widened(len(joined[name]))
        decays[name] = max(ratio * (spreads[name] if spreads[name] > 1e-6 else spread), 1e-3)
    return decays


def _widened(count: int) -> float:
    """How many times as widely as so many numbers do new ones may lie, by Student's distribution."""
    from scipy.stats import norm, t  # takes most of a second, and a server needs it not

    count = count if count > 1 else 3  # of one number the deviation is borrowed, which is half known
    return float(t.ppf(0.95, count - 1) / norm.ppf(0.95) * math.sqrt((count + 1) / (count - 1)))


def _reference(sample: Sample, joined: Numbers, decay: float, shift: float, doubt: float) -> Reference:
    held = _ranked(np.sort(sample.held_out))
    least = held[-1][1] if held else 1.0
    # At the highest held-out number itself the share is what held-out numbers say; just above it, what all say.
    floor = held[-1][0] + BESIDE if held else -math.inf
    # Of a shift that is not sure, and in a tail that falls by e each `decay`, as many more are above as are fewer with
    # this on top.
    room = min(doubt**2 / (2 * decay), 3 * doubt)
    rarer = [(max(number + room, floor), share) for number, share in _ranked(joined) if share < least * (1 - 1e-9)]
    knots: list[tuple[float, float]] = []
    for number, share in _thinned([*held, *rarer]):
        if knots and number <= knots[-1][0]:
            knots.pop()  # of equal numbers the last, above which fewest are
        knots.append((number, share))
    values, shares = [math.exp(number) for number, _ in knots], [share for _, share in knots]
    return Reference(values, shares, decay, len(held), len(sample.trained), shift, doubt)


def _ranked(numbers: Numbers) -> list[tuple[float, float]]:
    """Sorted numbers, each with the share of new ones expected above it."""
    count = len(numbers)
    return [(float(number), (count - rank) / (count + 1)) for rank, number in enumerate(numbers)]


def _thinned(knots: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Fewer where they are many; the rarest quarter all."""
    if len(knots) <= MOST_KNOTS:
        return knots
    top = MOST_KNOTS // 4
    kept = np.linspace(0, len(knots) - top - 1, MOST_KNOTS - top).round().astype(int)
    return [*(knots[i] for i in kept), *knots[-top:]]
