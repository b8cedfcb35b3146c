"""How often the drift test is wrong, and what it finds: simulated lines.

    python benchmarks/drift.py

Scores are gamma-distributed (shape 4), as skewed as those of real parts; a shift is in their standard deviations.
"""

import numpy as np

from sivt_lightning.drift import WINDOW, DriftMonitor
from sivt_lightning.thresholds import Threshold, threshold_of

SCALE = 5.0
DEVIATION = 2 * SCALE  # of a gamma distribution of shape 4


def held_out(generator: np.random.Generator, images: int) -> Threshold:
    scores = generator.gamma(4, SCALE, images)
    return threshold_of(scores, scores, 0.99)


def line(threshold: Threshold, scores: np.ndarray) -> DriftMonitor:
    monitor = DriftMonitor(threshold)
    for score in scores:
        monitor.add(float(score), bool(score > threshold.image))
    return monitor


def main() -> None:
    print("| held-out images | shift | parts after it | called moved |")
    print("|---:|---:|---:|---:|")
    for images in (30, 90, 400):
        generator = np.random.default_rng(0)
        wrong = [line(held_out(generator, images), generator.gamma(4, SCALE, 21 * WINDOW)).moved for _ in range(1000)]
        print(f"| {images} | 0 | {21 * WINDOW} | {sum(one is not None for one in wrong)} of 1000 |", flush=True)
        for shift in (-1.0, -0.7, 0.7, 1.0, 1.5):
            for parts in (1, 4, 10):
                found = 0
                for _ in range(200):
                    before = generator.gamma(4, SCALE, 5 * WINDOW)
                    after = generator.gamma(4, SCALE, round(1.05 * WINDOW * parts)) + shift * DEVIATION
                    monitor = line(held_out(generator, images), np.concatenate([before, after]))
                    moved = monitor.moved
                    verdict = "moved up" if shift > 0 else "moved down"
                    found += moved is not None and moved.last >= 5 * WINDOW and moved.verdict == verdict
                print(f"| {images} | {shift:+} | {round(1.05 * WINDOW * parts)} | {found} of 200 |", flush=True)


if __name__ == "__main__":
    main()
