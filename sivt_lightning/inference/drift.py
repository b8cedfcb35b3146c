"""Whether the scores of normal parts have moved since the model was calibrated: a lamp ages, a camera is knocked."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.reference import ROUNDING
from sivt_lightning.inference.thresholds import Threshold

WINDOW = 100  # parts called normal that are compared at a time
FEWEST = 20  # scores on either side, below which nothing is said
ALARMS = 0.01  # chance that a line on which nothing moves is ever called moved, however long it runs
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)

TEST = (
    "Mann-Whitney U test, two-sided, of the scores of parts called normal against those of the held-out normal "
    f"images. Null hypothesis: both come from one distribution. Window k of a product is judged at {ALARMS} x 6 / "
    f"(pi k)^2: over all its windows these levels add up to {ALARMS}."
)

Verdict = Literal["steady", "moved up", "moved down", "cannot tell"]


def level_of(number: int) -> float:
    """At which the p value of a window is judged; windows are numbered from 1.

    >>> round(level_of(1), 5), round(sum(level_of(number) for number in range(1, 10_000)), 5)
    (0.00608, 0.01)
    """
    return ALARMS * 6 / (math.pi * number) ** 2


@dataclass(frozen=True)
class Window:
    """A stretch of production against calibration.

    Args:
        first: position of its first part, from 0; anomalous parts count, too.
        last: of its last part.
        normal: parts called normal in it, which are compared.
        anomalous: parts called anomalous in it, which are not.
        mean, deviation: of the scores of those called normal; None where there are none.
        quantiles: of these scores, at 5, 25, 50, 75 and 95 %.
        above: chance that one of them is above a score of calibration; 0.5 where nothing has moved.
        p: of the test; None where there are too few scores on either side.
        level: at which p is judged.
    """

    first: int
    last: int
    normal: int
    anomalous: int
    mean: float | None
    deviation: float | None
    quantiles: list[float] | None
    above: float | None
    p: float | None
    level: float

    @property
    def verdict(self) -> Verdict:
        if self.p is None or self.above is None:
            return "cannot tell"
        if self.p > self.level:
            return "cannot tell" if self.blind else "steady"
        return "moved up" if self.above > 0.5 else "moved down"

    @property
    def blind(self) -> bool:
        """Whether most parts are above the threshold: what little is compared lies below it, wherever the rest went."""
        return self.anomalous >= FEWEST and self.anomalous > self.normal

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"verdict": self.verdict}


class DriftMonitor:
    """Compares each window of production with the held-out normal images that the threshold was found on.

    Defective parts belong to production: whatever is above the threshold is left out, on both sides alike, so that the
    share of defects moves nothing. Defects that the model misses stay in. Where most parts are above it, they may be
    defective, or the camera was knocked: which of the two cannot be told from scores, and that is what it says.

    >>> monitor = DriftMonitor(Threshold(9.0, 1.0, 30, [i / 3 for i in range(30)]))
    >>> [window.verdict for i in range(200) if (window := monitor.add(float(i % 10), False))]
    ['steady', 'steady']
    >>> [window.verdict for i in range(100) if (window := monitor.add(6.0 + i % 4, False))]
    ['moved up']
    """

    def __init__(self, threshold: Threshold, window: int = WINDOW) -> None:
        # The threshold is one of these scores, with room for rounding. Those below that one are distributed as
        # production's at or below it are.
        at = threshold.image * (1 - 2 * ROUNDING)
        self.above = sum(score >= at for score in threshold.normal) / (len(threshold.normal) + 1)
        self.held = np.array([score for score in threshold.normal if score < at])
        self.window = window
        self.parts, self.defects, self.windows, self.judged = 0, 0, 0, 0
        self.moved: Window | None = None  # the first that has; held, whatever comes after
        self.blind: Window | None = None  # the first most of whose parts were above the threshold; held, too
        self.last: Window | None = None
        self._begin()

    def _begin(self) -> None:
        self.scores: list[float] = []
        self.anomalous = 0
        self.first = self.parts

    def add(self, score: float, is_anomalous: bool) -> Window | None:
        """The window that this part completes, or None. Raises SIVTError for a score that is no finite number.

        A window ends with as many anomalous parts, too: where all are, there would never be another.
        """
        if not math.isfinite(score):
            raise SIVTError(f"A score is {score}, which compares with none: leave out images without a result.")
        self.parts += 1
        if is_anomalous:
            self.anomalous += 1
            self.defects += 1
        else:
            self.scores.append(score)
        return self.close() if self.window in (len(self.scores), self.anomalous) else None

    def close(self) -> Window | None:
        """The window so far, or None where there is no part in it. The next part begins another."""
        if not self.scores and not self.anomalous:
            return None
        self.windows += 1
        scores = np.array(self.scores)
        above = p = None
        if min(len(scores), len(self.held)) >= FEWEST:
            from scipy.stats import mannwhitneyu  # takes most of a second, and a server answers before its first window

            test = mannwhitneyu(scores, self.held, method="asymptotic")
            above = float(test.statistic) / (len(scores) * len(self.held))
            p = float(test.pvalue) if not math.isnan(test.pvalue) else 1.0  # every score on both sides is the same
        self.last = Window(
            self.first,
            self.parts - 1,
            len(scores),
            self.anomalous,
            float(scores.mean()) if len(scores) else None,
            float(scores.std()) if len(scores) else None,
            _quantiles(scores),
            above,
            p,
            level_of(self.windows),
        )
        self.judged += p is not None
        if self.moved is None and self.last.verdict.startswith("moved"):
            self.moved = self.last
        if self.blind is None and self.last.blind:
            self.blind = self.last
        self._begin()
        return self.last

    @property
    def verdict(self) -> Verdict:
        """On all windows so far: that of the first that has moved; steady, if one was judged and none is blind."""
        if self.moved is not None:
            return self.moved.verdict
        return "steady" if self.judged and self.blind is None else "cannot tell"

    def calibration(self) -> dict[str, Any]:
        """What production is compared with."""
        return {"images": len(self.held), "quantiles": _quantiles(self.held), "anomalous_share": self.above}

    def sentence(self, paths: Sequence[str] = ()) -> str:
        """What to know of it, for people; "" where all is steady. `paths`: of the parts, where there are any."""
        if len(self.held) < FEWEST:
            return (
                f"Whether scores have moved cannot be told: the model knows {len(self.held)} held-out normal scores "
                f"below the threshold, and {FEWEST} are the fewest. `sivt calibrate` with more good photos brings them."
            )
        if self.moved is None and self.blind is not None:
            return (
                f"Whether scores have moved cannot be told: most parts ({self.blind.anomalous} of "
                f"{self.blind.normal + self.blind.anomalous}, from {_stretch(self.blind, paths)}) are above the "
                "threshold, and these are not compared. If they are good, look at light, lens and camera, and whether "
                "the model was trained on this product."
            )
        if not self.judged:
            unknown = "Whether scores have moved cannot be told"
            if self.last is None or self.scores:
                return (
                    f"{unknown} yet: {len(self.scores)} parts were called normal, {self.window} are judged at a time."
                )
            return f"{unknown}: {self.last.normal} parts were called normal, {FEWEST} are the fewest."
        if self.moved is None:
            return ""
        assert self.moved.quantiles is not None  # of a window that was compared
        now, then = self.moved.quantiles[2], float(np.median(self.held))
        return (
            f"Scores of normal parts have {self.moved.verdict} since calibration: their median is {now:.3g}, it was "
            f"{then:.3g} (from {_stretch(self.moved, paths)}, p = {self.moved.p:.1e}). Look at "
            "light, lens and camera; if the new look is right, calibrate with photos of it (`sivt calibrate`)."
        )


def _quantiles(scores: np.ndarray) -> list[float] | None:
    return [float(value) for value in np.quantile(scores, LEVELS)] if len(scores) else None


def _stretch(window: Window, paths: Sequence[str]) -> str:
    if paths:
        names = f"{paths[window.first]} to {paths[window.last]}"
        return "".join(c if c.isprintable() else "?" for c in names)  # a photo may have any name
    return f"part {window.first + 1} to {window.last + 1}"
