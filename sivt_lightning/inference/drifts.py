"""Drift of several products, each against its own calibration."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sivt_lightning.inference.drift import FEWEST, TEST, WINDOW, DriftMonitor, Verdict, Window
from sivt_lightning.inference.judge import Judge
from sivt_lightning.inference.judge import Verdict as Called


class Drifts:
    """A monitor for each product, from its first part on. What is unknown is part of none, and is counted.

    Where most of 100 parts are unknown, a lens may be covered, say: then nothing is called steady.

    Args:
        judge: whose thresholds the products have.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.monitors: dict[str | None, DriftMonitor] = {}
        self.parts, self.unknown = 0, 0
        self.counted = 0  # of the unknown ones: those of earlier hundreds
        self.strange = ""  # what to say of the first hundred that was mostly unknown; held
        self.news = ""  # what the last part has told

    def add(self, verdict: Called, product: str | None, score: float) -> Window | None:
        """The window of its product that this part completes, or None. Raises as `DriftMonitor.add` does."""
        self.news, window = "", None
        if verdict == "unknown":
            self.unknown += 1
        else:
            threshold = self.judge.threshold(product)
            if product not in self.monitors:
                self.monitors[product] = DriftMonitor(threshold)
            monitor = self.monitors[product]
            # Whatever is above the threshold is not compared, also where its regions are too small for a defect.
            window = monitor.add(score, verdict == "anomalous" or score > threshold.image)
            if window and window in (monitor.moved, monitor.blind):
                self.news = _named(product, monitor.sentence())
        self.parts += 1
        if self.parts % WINDOW == 0:
            self._count(WINDOW)
        return window

    def close(self) -> dict[str | None, Window]:
        """The windows so far of all products, as `DriftMonitor.close` gives them."""
        self._count(self.parts % WINDOW)
        windows = {name: monitor.close() for name, monitor in self.monitors.items()}
        return {name: window for name, window in windows.items() if window is not None}

    def _count(self, parts: int) -> None:
        now, self.counted = self.unknown - self.counted, self.unknown
        if not self.strange and now >= FEWEST and 2 * now > parts:
            self.news = self.strange = (
                f"Whether scores have moved cannot be told: most parts ({now} of {parts}, from part "
                f"{self.parts - parts + 1} to {self.parts}) look like none of the products, and these are not "
                "compared. Look at light, lens and camera, and whether the model was trained on these products."
            )

    @property
    def verdict(self) -> Verdict:
        """Of the first product that has moved; steady where all are."""
        verdicts = [monitor.verdict for monitor in self.monitors.values()]
        if said := [verdict for verdict in verdicts if verdict.startswith("moved")]:
            return said[0]
        return "steady" if {*verdicts} == {"steady"} and not self.strange else "cannot tell"

    def sentences(self, paths: Mapping[str | None, Sequence[str]] = MappingProxyType({})) -> list[str]:
        """What to know, for people; none where all is steady. `paths`: of each product's parts, where there are any."""
        if not self.parts:
            return ["Whether scores have moved cannot be told yet: no parts."]
        said = {name: monitor.sentence(paths.get(name, ())) for name, monitor in self.monitors.items()}
        return [*filter(None, [self.strange]), *(_named(name, text) for name, text in said.items() if text)]

    def report(self, windows: Mapping[str | None, Sequence[Window]], paths: Mapping[str | None, Sequence[str]]) -> str:
        """JSON of each product (None: of all), with its windows and, by position, its photos."""
        compared = [
            {
                "category": name,
                "calibration": monitor.calibration(),
                "parts": monitor.parts,
                "anomalous": monitor.defects,
                "verdict": monitor.verdict,
                "windows": [
                    window.plain() | {"first_path": paths[name][window.first], "last_path": paths[name][window.last]}
                    for window in windows[name]
                ],
            }
            for name, monitor in self.monitors.items()
        ]
        contents = {"test": TEST, "window": WINDOW, "unknown": self.unknown, "compared": compared}
        return json.dumps(contents, indent=2) + "\n"


def _named(product: str | None, sentence: str) -> str:
    return sentence if product is None else f"{product}: {sentence}"
