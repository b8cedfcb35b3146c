"""Any number of scores in little memory: the highest as they are, the others counted in bins that fit them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from sivt_lightning.evaluation.metrics.intervals import Intervals, concatenate, condense, levels, points

RAW = 2**20  # scores that are kept as they are before any is counted
TOP = 2**14  # the highest scores, which are kept as they are for good: up to four times as many
SIZE = 2**16  # divisions of the rest
CROWDED = 2**-13  # share of a round's scores in one bin, beyond which they are sorted instead
CELL_BITS = 15  # a cell is all float32 numbers that agree in all but these last bits


class Layout(NamedTuple):
    """Which bin a score falls into.

    The bits of non-negative float32 numbers, read as an integer, grow with the number. A cell is 2^15 integers in a
    row, within 0.4 % of one another, and is cut into as many equal bins, a power of two, as its scores are worth by
    `levels`.
    """

    start: Int[np.ndarray, " cells"]  # number of a cell's first bin
    shift: Int[np.ndarray, " cells"]  # a bin of the cell is 2^shift integers wide
    bins: int

    @classmethod
    def of(cls, mass: Float[np.ndarray, " cells"]) -> "Layout":
        """For scores that are spread over the cells as `mass` says."""
        share = np.cumsum(mass[::-1]) / mass.sum()
        worth = SIZE * np.diff(levels(share), prepend=0)[::-1]
        bits = np.ceil(np.log2(worth.clip(1, 1 << CELL_BITS))).astype(np.int32)
        ends = np.cumsum(1 << bits)
        return cls((ends - (1 << bits)).astype(np.int32), CELL_BITS - bits, int(ends[-1]))

    def bin_of(self, values: Float32[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The bin's number, growing with the score."""
        integers = values.view(np.int32)
        cell = (integers >> CELL_BITS).astype(np.intp)  # `take` is twice as fast with it
        bins = integers & ((1 << CELL_BITS) - 1)
        bins >>= self.shift.take(cell)
        bins += self.start.take(cell)
        return bins

    def ends(self, bins: Int[np.ndarray, " k"]) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Lowest and highest number of each bin."""
        cell = np.searchsorted(self.start, bins, side="right") - 1
        low = (cell << CELL_BITS) + ((bins - self.start[cell]) << self.shift[cell])
        high = low + (1 << self.shift[cell]) - 1
        low, high = (integers.astype(np.int32).view(np.float32).astype(np.float64) for integers in (low, high))
        return low, np.minimum(high, np.finfo(np.float32).max)


class _Scores(NamedTuple):
    """Scores as they are."""

    negatives: Float32[np.ndarray, " n"]
    positives: Float32[np.ndarray, " p"]
    weights: Float[np.ndarray, " p"]  # of the positives

    @property
    def count(self) -> int:  # type: ignore[override]  # hides tuple.count
        return len(self.negatives) + len(self.positives)

    def select(self, negatives: Bool[np.ndarray, " n"], positives: Bool[np.ndarray, " p"]) -> "_Scores":
        return _Scores(self.negatives[negatives], self.positives[positives], self.weights[positives])

    def above(self, limit: float) -> "_Scores":
        return self.select(self.negatives > limit, self.positives > limit)

    def points(self) -> Intervals:
        return concatenate(points(self.negatives, positive=False), points(*self[1:], positive=True))


NOTHING = _Scores(np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0))


def _join(parts: Sequence[_Scores]) -> _Scores:
    return _Scores(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def _lowest_of_top(scores: _Scores) -> float:
    return float(np.partition(np.concatenate(scores[:2]), -TOP)[-TOP])


def _cells(scores: _Scores) -> Float[np.ndarray, " cells"]:
    cells = np.concatenate(scores[:2]).view(np.int32) >> CELL_BITS
    return np.bincount(cells, minlength=1 << (31 - CELL_BITS)).astype(np.float64)


class RankSketch:
    """Takes in scores and forgets most of them; `intervals` is what is known of all.

    Scores are kept until there are 2^20 of them. Then the highest stay, and the others are counted in bins, which are
    laid out by the scores that there are at that time. Scores that crowd a bin, because they are equal or because none
    like them was there before, are sorted and become intervals of their own; where many do, the bins are laid out anew.

    Args:
        exact: keep all scores as they are.
    """

    def __init__(self, exact: bool = False) -> None:
        self.exact = exact
        self.new: list[_Scores] = []
        self.waiting = 0  # how many they are
        self.top: list[_Scores] = []
        self.limit = -np.inf  # scores above it belong to the top
        self.layout: Layout | None = None
        self.counts = np.zeros((3, 0))  # negatives, positives and weight of each bin
        self.cells = np.zeros(1 << (31 - CELL_BITS))  # scores that went into bins, by cell
        self.aside: list[Intervals] = []

    def add(
        self,
        negatives: Float32[np.ndarray, " n"],
        positives: Float32[np.ndarray, " p"],
        weights: Float[np.ndarray, " p"],
    ) -> None:
        """Finite scores of 0 or more; `weights` are those of the positives."""
        self.new.append(_Scores(negatives, positives, weights))
        self.waiting += len(negatives) + len(positives)
        if self.waiting > RAW and not self.exact:
            self._digest()

    def intervals(self) -> Intervals:
        """All scores so far."""
        if self.layout is not None and self.new:
            self._digest()
        return concatenate(_join([NOTHING, *self.new, *self.top]).points(), *self.aside, *self._binned())

    def _digest(self) -> None:
        """Keep the highest of the new scores, count the others."""
        scores, self.new, self.waiting = _join(self.new), [], 0
        if self.layout is None:
            self.limit = _lowest_of_top(scores)
        self._put_in_bins(scores)
        self.top.append(scores.above(self.limit))
        if sum(part.count for part in self.top) > 4 * TOP:
            top = _join(self.top)
            self.limit = _lowest_of_top(top)
            self._put_in_bins(top)
            self.top = [top.above(self.limit)]

    def _put_in_bins(self, scores: "_Scores") -> None:
        """Those up to the limit, which is moved up to the end of its bin, so that no bin is divided by it."""
        if self.layout is None:
            self._lay_out(_cells(scores))
        bins, counts = self._counted(scores)
        crowd = CROWDED * max(scores.count, RAW)
        crowded = counts[0] + counts[1] > crowd
        if counts[:2, crowded].sum() > scores.count / 4:
            self._lay_out(_cells(scores))
            bins, counts = self._counted(scores)
            crowded = counts[0] + counts[1] > crowd
        if crowded.any():
            self._set_aside(scores.select(*(crowded.take(b) for b in bins)).points())
            counts[:, crowded] = 0
        self.counts += counts

    def _counted(self, scores: "_Scores") -> tuple[list[np.ndarray], np.ndarray]:
        """The scores' bins; negatives, positives and weight in each bin up to the limit."""
        assert self.layout is not None
        *bins, last = (self.layout.bin_of(values) for values in (*scores[:2], np.array([self.limit], np.float32)))
        self.limit = float(self.layout.ends(last)[1][0])  # in another layout another end, higher or lower
        counts = np.zeros((3, self.layout.bins))
        counts[0] = np.bincount(bins[0], minlength=self.layout.bins)
        if len(bins[1]):
            counts[1] = np.bincount(bins[1], minlength=self.layout.bins)
            counts[2] = np.bincount(bins[1], scores.weights, minlength=self.layout.bins)
        counts[:, last[0] + 1 :] = 0
        return bins, counts

    def _lay_out(self, now: Float[np.ndarray, " cells"]) -> None:
        """For scores like those so far as well as for these."""
        if self.layout is not None:
            self._set_aside(*self._binned())
            self.cells += np.add.reduceat(self.counts[0] + self.counts[1], self.layout.start)
        self.layout = Layout.of(np.maximum(self.cells / max(self.cells.sum(), 1), now / now.sum()))
        self.counts = np.zeros((3, self.layout.bins))

    def _set_aside(self, *parts: Intervals) -> None:
        self.aside += parts
        if sum(len(part.low) for part in self.aside) > 2 * SIZE:
            self.aside = [condense(concatenate(*self.aside), SIZE)]

    def _binned(self) -> list[Intervals]:
        if self.layout is None:
            return []
        bins = np.flatnonzero(self.counts[0] + self.counts[1])
        return [Intervals(*self.layout.ends(bins), *self.counts[:, bins])]
