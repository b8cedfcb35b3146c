"""AUROC, average precision, F1-max and AUPRO of intervals, each with a bound on its error.

A score is known only to lie in its interval. So the number of scores at a threshold or above it lies between that of
the intervals that begin there or above, which is certain, and that of those that end there or above, which is possible.
Each figure is computed for the worst and the best that this allows. On points both are the figure itself.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sivt_lightning.evaluation.metrics.intervals import Intervals

IMAGE_FIGURES = ("auroc", "ap", "f1max")
PIXEL_FIGURES = (*IMAGE_FIGURES, "aupro")
FPR_LIMIT = 0.3  # of AUPRO, as in the evaluation of MVTec AD (Bergmann et al., 2021)

EPSILON = float(np.finfo(np.float64).eps)


class Bounded(NamedTuple):
    """A figure, and how far it is at most from that of the scores themselves."""

    value: float
    error: float


class Curve(NamedTuple):
    """What a threshold gives, from the highest threshold to the lowest."""

    fpr: Float[np.ndarray, " t"]
    recall: Float[np.ndarray, " t"]
    precision: Float[np.ndarray, " t"]
    overlap: Float[np.ndarray, " t"]  # per region


class Ranking:
    """The intervals of one set of scores in order, and what lies above each of their ends.

    All figures are NaN where there is no positive or no negative.
    """

    def __init__(self, intervals: Intervals) -> None:
        self.rows = rows = intervals.sorted()
        self.point = rows.point
        self.by_high = np.argsort(rows.high, kind="stable")
        self.highs = rows.high[self.by_high]
        self.negatives, self.positives, self.weight = (float(field.sum()) for field in rows[2:])
        self._certain_sums: dict[str, np.ndarray] = {}
        self._possible_sums: dict[str, np.ndarray] = {}
        self.defined = self.negatives > 0 and self.positives > 0
        # Sums and means of that many numbers are rounded by no more; weights were summed over single scores before.
        self.rounding = 4 * max(len(rows.low), 16) * EPSILON

    def figures(self, names: Sequence[str]) -> dict[str, Bounded]:
        """Those of `names`, a selection of PIXEL_FIGURES."""
        return {name: getattr(self, name)() for name in names}

    def auroc(self) -> Bounded:
        """Area under the receiver operating characteristic; equal scores count half."""
        return self._area("positives", 1.0)

    def aupro(self, limit: float = FPR_LIMIT) -> Bounded:
        """Area under the per-region overlap up to a false-positive rate of `limit`, as a share of `limit`.

        The overlap is the mean over all regions of the share of the region's pixels at the threshold or above; the
        curve is interpolated linearly, at `limit` too. `weight` must be 1 / area of a positive's region.
        """
        return self._area("weight", limit)

    def ap(self) -> Bounded:
        """Mean over the positives of the precision at their own score, equal scores being taken together."""
        if not self.defined:
            return Bounded(np.nan, np.nan)
        rows = np.flatnonzero(self.rows.positives)
        point, count = self.point[rows], self.rows.positives[rows]
        # Positives above: of a point itself and those equal to it, of an interval all that are sure to be above it.
        sure = self._certain("positives")[self._from_at_high[rows]]
        most = self._possible("positives")[self._to_at_low[rows]]
        false_least = self._certain("negatives")[self._from_at_high[rows]]
        false_most = self._possible("negatives")[self._to_at_low[rows]]
        # In the worst order of an interval its j-th positive has `sure + j` positives and all negatives above it. That
        # precision is concave in j, so the mean of its ends is no more than its mean.
        worst_first, worst_last = np.where(point, sure, sure + 1), np.where(point, sure, sure + count)
        low = 0.5 * (worst_first / (worst_first + false_most) + worst_last / (worst_last + false_most))
        high = most / (most + false_least)
        middle = 0.5 * (worst_first + most)
        value = middle / (middle + 0.5 * (false_least + false_most))
        return self._bounded(*(float(count @ x) / self.positives for x in (low, value, high)))

    def f1max(self) -> Bounded:
        """Largest F1 over all thresholds: what a threshold chosen with the labels would reach."""
        if not self.defined:
            return Bounded(np.nan, np.nan)
        rows = np.flatnonzero(self.rows.positives)
        certain, possible = ([above("positives"), above("negatives")] for above in (self._certain, self._possible))

        def f1(true: np.ndarray, false: np.ndarray) -> float:
            return float((2 * true / (self.positives + true + false)).max())

        # With the threshold at a positive interval's beginning: all that is certain against all that is possible.
        begins, ends = self._from_at_low[rows], self._to_at_low[rows]
        true, false = certain[0][begins], possible[1][ends]
        low = f1(true, false)
        middle = f1(0.5 * (true + possible[0][ends]), 0.5 * (false + certain[1][begins]))
        # And at its end, the highest threshold at which its positives are possible.
        high = f1(possible[0][self._to_at_high[rows]], certain[1][self._from_at_high[rows]])
        return self._bounded(low, middle, high)

    def curve(self, thresholds: int = 1000) -> "Curve":
        """False-positive rate, recall, precision and per-region overlap, at thresholds spread over the intervals."""
        rows = np.unique(np.linspace(0, len(self.rows.low) - 1, thresholds).round().astype(int))[::-1]
        middle = {
            name: 0.5 * (self._certain(name)[self._from_at_low[rows]] + self._possible(name)[self._to_at_low[rows]])
            for name in Intervals._fields[2:]
        }
        true, false = middle["positives"], middle["negatives"]
        overlap = middle["weight"] / self.weight
        return Curve(false / self.negatives, true / self.positives, true / (true + false), overlap)

    # -- what lies above ---------------------------------------------------------------------------------------------
    # For each row the index of the first of the sorted beginnings ("from") or ends ("to") that is at or above ("_at"),
    # or only above ("_above"), the row's own low or high end.

    @cached_property
    def _from_at_low(self) -> Int[np.ndarray, " k"]:
        return _first_equal(self.rows.low)

    @cached_property
    def _from_at_high(self) -> Int[np.ndarray, " k"]:
        return np.searchsorted(self.rows.low, self.rows.high)

    @cached_property
    def _from_above_high(self) -> Int[np.ndarray, " k"]:
        return np.searchsorted(self.rows.low, self.rows.high, "right")

    @cached_property
    def _to_at_low(self) -> Int[np.ndarray, " k"]:
        return np.searchsorted(self.highs, self.rows.low)

    @cached_property
    def _to_above_low(self) -> Int[np.ndarray, " k"]:
        return np.searchsorted(self.highs, self.rows.low, "right")

    @cached_property
    def _to_at_high(self) -> Int[np.ndarray, " k"]:
        places = np.empty(len(self.highs), np.int64)
        places[self.by_high] = _first_equal(self.highs)
        return places

    def _certain(self, field: str) -> Float[np.ndarray, " k_and_1"]:
        """At index i: sum of that field over the intervals from the i-th lowest beginning on."""
        if field not in self._certain_sums:
            self._certain_sums[field] = _sums_from(getattr(self.rows, field))
        return self._certain_sums[field]

    def _possible(self, field: str) -> Float[np.ndarray, " k_and_1"]:
        """At index i: sum of that field over the intervals from the i-th lowest end on."""
        if field not in self._possible_sums:
            self._possible_sums[field] = _sums_from(getattr(self.rows, field)[self.by_high])
        return self._possible_sums[field]

    def _area(self, gain: str, limit: float) -> Bounded:
        """Area under the share of the field `gain` above the negatives, over the share of negatives, up to `limit`.

        A negative adds the gain above its score to the area. Equal ones share the gain that is equal to them, the
        first having none of it above and the last all: a ramp, linear as the curve between its points.
        """
        if not self.defined:
            return Bounded(np.nan, np.nan)
        rows = np.flatnonzero(self.rows.negatives)
        point, count = self.point[rows], self.rows.negatives[rows]
        certain, possible = self._certain(gain), self._possible(gain)
        low_start = certain[self._from_above_high[rows]]
        low_end = np.where(point, certain[self._from_at_high[rows]], low_start)
        high_end = possible[self._to_at_low[rows]]
        high_start = np.where(point, possible[self._to_above_low[rows]], high_end)
        reach = limit * self.negatives
        low, high = (
            _ramp_area(count, start, end, reach) / (reach * getattr(self, gain))
            for start, end in ((low_start, low_end), (high_start, high_end))
        )
        rounding = self.positives * EPSILON if gain == "weight" else 0.0
        return self._bounded(low, 0.5 * (low + high), high, rounding)

    def _bounded(self, low: float, value: float, high: float, rounding: float = 0.0) -> Bounded:
        value = min(max(value, low), high)
        return Bounded(value, float(max(high - value, value - low) + self.rounding + rounding))


def _sums_from(counts: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k_and_1"]:
    """
    >>> _sums_from(np.array([1.0, 2.0, 3.0]))
    array([6., 5., 3., 0.])
    """
    return np.append(np.cumsum(counts[::-1])[::-1], 0.0)


def _first_equal(ordered: Float[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
    """For each the index of the first that is equal to it.

    >>> _first_equal(np.array([1.0, 1.0, 2.0, 3.0, 3.0]))
    array([0, 0, 2, 3, 3])
    """
    first = np.diff(ordered, prepend=-np.inf) != 0
    return np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))


def _ramp_area(
    count: Float[np.ndarray, " k"], start: Float[np.ndarray, " k"], end: Float[np.ndarray, " k"], reach: float
) -> float:
    """The least area that `reach` of the negatives can have: those with the least gain above them."""
    if reach < count.sum():
        order = np.lexsort((end, start))
        count, start, end = count[order], start[order], end[order]
        done = np.cumsum(count)
        last = int(np.searchsorted(done, reach))
        ramp = (start == start[last]) & (end == end[last])  # rows of one score share a ramp
        first = int(np.argmax(ramp))
        part = reach - (done[first - 1] if first else 0.0)
        area = part * start[last] + 0.5 * (end[last] - start[last]) * part**2 / count[ramp].sum()
        return float(area + 0.5 * (count[:first] @ (start[:first] + end[:first])))
    return float(0.5 * (count @ (start + end)))
