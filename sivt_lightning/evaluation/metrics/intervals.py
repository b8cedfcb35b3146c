"""Scores as intervals with counts: what is known of scores that are no longer kept one by one.

An interval says how many scores of each kind lie between its two ends. One whose ends are equal is a point and says
exactly what they are. Intervals may overlap, and any set of them is a valid account of the same scores: to merge two
accounts is to concatenate them, to shorten one is to unite neighbours (`condense`). What a figure loses by it,
`figures` bounds from the intervals alone.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

FINEST = 2**-12  # share of the scores, from the highest on, above which `levels` stops dividing by rank


class Intervals(NamedTuple):
    """Each field holds one float64 number an interval."""

    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    negatives: Float[np.ndarray, " k"]  # scores of normal images or pixels
    positives: Float[np.ndarray, " k"]  # scores of anomalous ones
    weight: Float[np.ndarray, " k"]  # of the positives: 1 / area of its region for each pixel

    @property
    def point(self) -> np.ndarray:
        """Whether the scores are known exactly."""
        return self.low == self.high

    def take(self, rows: np.ndarray) -> "Intervals":
        """Those at positions `rows`, or where `rows` is true."""
        return Intervals(*(field[rows] for field in self))

    def sorted(self) -> "Intervals":
        """By `low`, among equal ones by `high`."""
        # Unlike lexsort, this sort makes use of long stretches that are in order already, and that is what there is.
        by_high = np.argsort(self.high, kind="stable")
        return self.take(by_high[np.argsort(self.low[by_high], kind="stable")])


def points(
    values: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None, *, positive: bool
) -> Intervals:
    """Scores of one kind, each distinct one as a point.

    >>> points(np.array([2.0, 1.0, 2.0]), positive=False).negatives
    array([1., 2.])
    """
    distinct, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends, number, nothing = distinct.astype(np.float64), counts.astype(np.float64), np.zeros(len(distinct))
    if not positive:
        return Intervals(ends, ends, number, nothing, nothing)
    return Intervals(ends, ends, nothing, number, np.bincount(which, weights=weight, minlength=len(distinct)))


def of_images(good: Float[np.ndarray, " n"], bad: Float[np.ndarray, " m"]) -> Intervals:
    """Scores of normal and anomalous images, of which each counts alike."""
    return concatenate(points(good, positive=False), points(bad, np.ones(len(bad)), positive=True))


def concatenate(*parts: Intervals) -> Intervals:
    """One account of the scores of all."""
    return Intervals(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def levels(share: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """How far down to divide the scores whose rank, counted from the highest, is `share` of all: from 0 to 1.

    Half of the divisions are spent on equal shares, which is what AUROC needs, half on equal ratios of ranks, for
    precision and low false-positive rates depend on the order at the very top.
    """
    return 0.5 * share + 0.5 * np.log1p(share / FINEST) / np.log1p(1 / FINEST)


def condense(intervals: Intervals, size: int | None = None) -> Intervals:
    """Sorted, equal ones made one, and where more than `size` are left, neighbours united by their `levels`."""
    intervals = intervals.sorted()
    new = (np.diff(intervals.low, prepend=-np.inf) > 0) | (np.diff(intervals.high, prepend=-np.inf) != 0)
    intervals = _unite(intervals, new)
    if size is None or len(intervals.low) <= size:
        return intervals
    mass = intervals.negatives + intervals.positives
    below = np.cumsum(mass)
    total = below[-1]
    end = np.floor(size * levels((total - below + mass) / total))  # level at the lower end, which falls with the score
    start = np.floor(size * levels((total - below) / total))
    heavy = end - start > 1  # a share that no division would cut stays alone, for it may be a single value
    new = np.diff(end, prepend=np.inf) != 0
    new |= heavy
    new[1:] |= heavy[:-1]
    return _unite(intervals, new)


def _unite(intervals: Intervals, new: np.ndarray) -> Intervals:
    """Rows sorted by `low`, each with those after it up to the next that is `new`."""
    first = np.flatnonzero(new)
    if not len(first):
        return intervals
    return Intervals(
        intervals.low[first],
        np.maximum.reduceat(intervals.high, first),
        *(np.add.reduceat(field, first) for field in intervals[2:]),
    )
