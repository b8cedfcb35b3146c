"""What verdicts are worth on labelled photos: products recognised, others noticed, false alarms as promised, recall.

    python benchmarks/verdicts.py CHECKPOINT [--root FOLDER] [--output FILE.json]

Takes data and split from a checkpoint of `sivt fit`, and calibrates it once more on the photos of its training. Then:
of the test photos, how many are nearest to their own product, and how many are called unknown; of each product's test
photos how many are, had the recogniser not known that product; image AUROC of raw and of calibrated scores, pooled,
and as a mean over products; recall and false alarms at several promised shares. False alarms are counted on test
photos, which may differ from those of the training in more than defects, and on held-out ones: half of each product's,
drawn 100 times, calibrate, and the others are judged.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom, rankdata

from sivt_lightning.inference.calibration import Good, calibrate
from sivt_lightning.inference.good_photos import GoodPhotos
from sivt_lightning.inference.models import open_model
from sivt_lightning.inference.recognition import Recogniser, recogniser_of

SHARES = (0.005, 0.01, 0.02, 0.05, 0.1)
DRAWS = 100

Said = Mapping[str, Good]  # by product


def auroc(good: np.ndarray, bad: np.ndarray) -> float:
    """Chance that a score of the second is above one of the first."""
    ranks = rankdata(np.concatenate([good, bad]))
    return float((ranks[len(good) :].sum() - len(bad) * (len(bad) + 1) / 2) / (len(good) * len(bad)))


def strange(recogniser: Recogniser, said: Said) -> tuple[int, int, int]:
    """(photos, of them nearest to their own product, of them unknown)."""
    what = [(name, one) for name, good in said.items() for one in recogniser(good.descriptors)]
    return len(what), sum(one.product == name for name, one in what), sum(one.strangeness > 1 for _, one in what)


def left_out(photos: Said, test: Said) -> dict[str, float]:
    """Share of each product's test photos that are unknown to a recogniser of the others."""
    shares = {}
    for name in test:
        recogniser = recogniser_of({other: good.descriptors for other, good in photos.items() if other != name})
        count, _, unknown = strange(recogniser, {name: test[name]})
        shares[name] = unknown / count
    return shares


def drawn(held: Said, trained: Said) -> dict[float, float]:
    """False alarms on held-out photos that chose nothing, at each promised share; products count alike."""
    generator = np.random.default_rng(0)
    rates: dict[float, list[float]] = {share: [] for share in SHARES}
    for _ in range(DRAWS):
        chosen = {name: generator.permutation(len(good.scores)) for name, good in held.items()}
        first = {name: _part(held[name], order[: (len(order) + 1) // 2]) for name, order in chosen.items()}
        calibration = calibrate(first, trained)
        for share in SHARES:
            above = [
                (held[name].scores[order[(len(order) + 1) // 2 :]] > calibration.products[name].score.threshold(share))
                for name, order in chosen.items()
            ]
            rates[share].append(float(np.concatenate(above).mean()))
    return {share: float(np.mean(values)) for share, values in rates.items()}


def _part(good: Good, positions: np.ndarray) -> Good:
    return Good(*(numbers[positions] for numbers in good))


def _counted(called: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {name: f"{one.sum()} of {len(one)}" for name, one in called.items()}


def joined(*parts: Said) -> dict[str, Good]:
    """All photos of each product."""
    return {
        name: Good(
            *(np.concatenate(numbers) for numbers in zip(*(part[name] for part in parts if name in part), strict=True))
        )
        for name in parts[0]
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--root")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    model = open_model(given.checkpoint)
    photos = GoodPhotos.of_training(model.about, given.root)
    photos.data.setup("test")
    samples = photos.data.test_set.samples
    held, trained = photos.said(model, photos.held_out), photos.said(model, photos.trained)
    good, bad = (photos.said(model, [s for s in samples if s.anomalous == kind]) for kind in (False, True))
    calibration = calibrate(held, trained)
    report: dict[str, Any] = {"photos": {}, "shares": {}}
    for kind, said in (("good", good), ("defective", bad)):
        count, own, unknown = strange(calibration.recogniser, said)
        report["photos"][kind] = {"count": count, "nearest to their own": own / count, "unknown": unknown / count}
    report["unknown, left out"] = left_out(joined(held, trained), joined(good, bad))
    levels = [
        {name: calibration.products[name].score.rarity(one.scores) for name, one in said.items()}
        for said in (good, bad)
    ]
    scores = [{name: one.scores for name, one in said.items()} for said in (good, bad)]
    own = {name: auroc(scores[0][name], scores[1][name]) for name in good}
    weights = {name: len(one.scores) for name, one in bad.items()}
    report["image AUROC"] = {
        "mean over products": float(np.mean(list(own.values()))),
        # What pooling gives where good parts of all products are distributed alike: see docs/results-appendix.md.
        "mean over defective photos": sum(own[name] * weights[name] for name in own) / sum(weights.values()),
        "pooled, calibrated": auroc(*(np.concatenate(list(part.values())) for part in levels)),
        "pooled, raw": auroc(*(np.concatenate(list(part.values())) for part in scores)),
    }
    peaks = {name: calibration.products[name].peak.rarity(one.peaks) for name, one in good.items()}
    inner = drawn(held, trained)
    for share in SHARES:
        alarms, found = ({name: level > -np.log10(share) for name, level in part.items()} for part in levels)
        every, defects = (np.concatenate(list(part.values())) for part in (alarms, found))
        report["shares"][share] = {
            "false alarms, held out": inner[share],
            "false alarms, test": float(every.mean()),
            "by chance, test": [float(end) / len(every) for end in binom.interval(0.95, len(every), share)],
            "recall": float(defects.mean()),
            "regions on good photos, test": float((np.concatenate(list(peaks.values())) > -np.log10(share)).mean()),
            "regions by product": _counted({name: level > -np.log10(share) for name, level in peaks.items()}),
            "false alarms by product": _counted(alarms),
            "recall by product": {name: float(one.mean()) for name, one in found.items()},
        }
    text = json.dumps(report, indent=2)
    print(text)
    if given.output is not None:
        given.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
