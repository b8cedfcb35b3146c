"""References of products, estimated by what a model says of their good photos; few photos of one draw on the others."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.reference import LARGEST, LEAST, MOST_KNOTS, Numbers, Reference

TAIL = 0.1  # share of the highest numbers, by which the tail falls
# Weight of the tail that products have in common, in numbers above the tail's beginning; and decay where none is known.
COMMON, UNKNOWN = 10, 0.3
FEW = 10  # numbers, of the training or not, below which they tell little of how widely new ones lie
BORROWED = 4  # degrees of freedom of their spread, that other products' are worth
GAUSSIAN = 0.6  # decay of normally distributed numbers, in their deviations, from one of four to one of twenty
BESIDE = 1e-6  # a step in the logarithm, too small to be seen
# Of how widely held-out numbers lie, a product counts for at most so many times what the middle one says: a defect
# among three good photos of one must not widen all.
MOST_SPREAD = 4


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
    usual = [s for name, s in spreads.items() if s > 0 and len(joined[name]) >= FEW]
    decays = {}
    for name in joined:
        count = counts.get(name, 0)
        ratio = (count * excess.get(name, 0.0) + COMMON * common) / (count + COMMON)
        if name in alone:
            decay = max(ratio, GAUSSIAN) * _spread_of_new(joined[name], usual)
        else:
            decay = ratio * (spreads[name] if name in counts else spread)
        decays[name] = max(decay, 1e-3)
    return decays


def _spread_of_new(numbers: Numbers, usual: Sequence[float]) -> float:
    """How widely new numbers lie for all that these tell, by Student's distribution; and `usual`, of other products."""
    from scipy.stats import norm, t  # takes most of a second, and a server needs it not

    own = len(numbers) - 1
    borrowed = BORROWED if usual else 0 if own else 2
    variance = float(((numbers - numbers.mean()) ** 2).sum()) + borrowed * np.median(usual or [UNKNOWN]) ** 2
    degrees = own + borrowed
    widened = t.ppf(0.95, degrees) / norm.ppf(0.95) * math.sqrt(1 + 1 / len(numbers))
    return float(widened * math.sqrt(variance / degrees))


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
