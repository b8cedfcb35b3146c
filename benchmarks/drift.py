"""How often the drift test is wrong, and what it finds: simulated lines.

    python benchmarks/drift.py

Scores are gamma-distributed (shape 4), as skewed as those of real parts; a shift is in their standard deviations.
"""

from collections.abc import Iterator

import numpy as np
from scipy.stats import mannwhitneyu

from sivt_lightning.inference.drift import WINDOW, DriftMonitor, level_of
from sivt_lightning.inference.thresholds import Threshold, threshold_of

SCALE = 5.0
DEVIATION = 2 * SCALE  # of a gamma distribution of shape 4
WINDOWS = 1000
LINES = 1000


def held_out(generator: np.random.Generator, images: int) -> Threshold:
    scores = generator.gamma(4, SCALE, images)
    return threshold_of(scores, scores, 0.99)


def line(threshold: Threshold, scores: np.ndarray, after: int = 0) -> DriftMonitor:
    """Its windows are judged as those that come `after` so many."""
    monitor = DriftMonitor(threshold)
    monitor.windows = after
    for score in scores:
        monitor.add(float(score), bool(score > threshold.image))
    return monitor


def normal_parts(generator: np.random.Generator, threshold: Threshold, parts: int) -> np.ndarray:
    """So many scores at or below the threshold."""
    scores = np.empty(0)
    while len(scores) < parts:
        drawn = generator.gamma(4, SCALE, parts)
        scores = np.concatenate([scores, drawn[drawn <= threshold.image]])
    return scores[:parts]


def false_alarms(generator: np.random.Generator, images: int) -> int:
    """Lines on which nothing moves and a window of a thousand is called moved; as the monitor does, but at once."""
    levels = np.array([level_of(number) for number in range(1, WINDOWS + 1)])
    alarms = 0
    for _ in range(LINES):
        threshold = held_out(generator, images)
        windows = normal_parts(generator, threshold, WINDOWS * WINDOW).reshape(WINDOWS, WINDOW)
        p = mannwhitneyu(windows, DriftMonitor(threshold).held[None], axis=1, method="asymptotic").pvalue
        alarms += bool((p <= levels).any())
    return alarms


def found(generator: np.random.Generator, images: int) -> Iterator[tuple[int, float, int]]:
    """Windows before the shift, the shift, and how many of 200 lines are called moved that way in 400 parts."""
    for after in (5, 100, 1000):
        for shift in (-1.0, -0.7, 0.7, 1.0, 1.5):
            moved = 0
            for _ in range(200):
                scores = generator.gamma(4, SCALE, 4 * WINDOW) + shift * DEVIATION
                verdict = line(held_out(generator, images), scores, after).verdict
                moved += verdict == ("moved up" if shift > 0 else "moved down")
            yield after, shift, moved


def main() -> None:
    for images in (30, 90, 400):
        generator = np.random.default_rng(0)
        wrong = false_alarms(generator, images)
        print(f"\n{images} held-out images: {wrong} of {LINES} lines called moved by mistake in {WINDOWS} windows\n")
        print("| windows before | shift | found within 400 parts |")
        print("|---:|---:|---:|", flush=True)
        for after, shift, moved in found(generator, images):
            print(f"| {after} | {shift:+} | {moved} of 200 |", flush=True)


if __name__ == "__main__":
    main()
