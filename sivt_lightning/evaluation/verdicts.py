"""What the verdicts of a test are worth: recall, false alarms, products recognised."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sivt_lightning.data.samples import Sample
from sivt_lightning.evaluation.metrics.intervals import Intervals, of_images
from sivt_lightning.evaluation.tally import mean_of
from sivt_lightning.report.tables import PRODUCTS, SHARES, Results


class Judged(NamedTuple):
    """What was made of an image; see `inference.judge.Judgement`. `nearest` is None where its product was told."""

    verdict: str
    product: str | None
    nearest: str | None
    calibrated: float | None


def operating_points(
    samples: Sequence[Sample], judged: Mapping[int, Judged], thresholds: Mapping[str, float | None]
) -> dict[str, Any]:
    """Recall and false alarms of each category's images, their mean, and those of all images ("pooled").

    An image that is unknown has not passed: it counts as called anomalous.

    Args:
        samples: of the test.
        judged: by their positions; none where the model has no thresholds.
        thresholds: of each category's scores, where it has one.
    """
    every = {
        name: [(sample, judged.get(i)) for i, sample in enumerate(samples) if sample.category == name]
        for name in sorted({sample.category for sample in samples})
    }
    named = {name: _point(pairs, thresholds[name]) for name, pairs in every.items()}
    pooled = _point([pair for pairs in every.values() for pair in pairs], None)
    used = set(thresholds.values())
    pooled["threshold"] = used.pop() if len(used) == 1 else None
    mean = pooled | {"threshold": None} | mean_of(list(named.values()), [*SHARES, *PRODUCTS])
    return {"categories": named, "mean": mean, "pooled": pooled}


def _point(pairs: Sequence[tuple[Sample, Judged | None]], threshold: float | None) -> dict[str, Any]:
    called = [(sample, what) for sample, what in pairs if what is not None and what.verdict != "normal"]
    anomalous, true = (sum(sample.anomalous for sample, _ in some) for some in (pairs, called))
    normal, false = len(pairs) - anomalous, len(called) - true
    known = [(sample, what) for sample, what in pairs if what is not None]
    calibrated = [what for _, what in known if what.calibrated is not None]
    unknown = sum(what.verdict == "unknown" for what in calibrated)
    recognising = [(sample, what) for sample, what in known if what.calibrated is not None and what.nearest is not None]
    recognised = sum(what.nearest == sample.category for sample, what in recognising)
    shares = {
        "recall": true / anomalous if anomalous and known else None,
        "false_alarm_rate": false / normal if normal and known else None,
        "f1": 2 * true / (anomalous + true + false) if anomalous and normal and known else None,
        "recognised": recognised / len(recognising) if recognising else None,
        "unknown": unknown / len(calibrated) if calibrated else None,
    }
    return {"normal_images": normal, "anomalous_images": anomalous, "threshold": threshold} | shares


def calibrated_scores(samples: Sequence[Sample], judged: Mapping[int, Judged]) -> Intervals:
    """Of all images, which compare between products."""
    scores = np.array([what.calibrated for what in judged.values()], dtype=np.float64)
    defective = np.array([samples[i].anomalous for i in judged], dtype=bool)
    return of_images(scores[~defective], scores[defective])


def said_of_products(results: Results) -> str:
    """How many were recognised, and what the pooled figures are of."""
    pooled, raw = results["operating_points"]["pooled"], results.get("pooled_raw", {})
    count = pooled["normal_images"] + pooled["anomalous_images"]
    recognised, unknown = pooled["recognised"], round(count * pooled["unknown"])
    own = "" if recognised is None else f"{round(count * recognised)} are nearest to their own, "  # else it was told
    auroc = raw.get("image_auroc")
    beside = "" if auroc is None else f" (of raw scores, which do not: image AUROC {auroc:.4f})"
    return (
        f"Products: of {count} images, {own}{unknown} were called unknown. pooled image figures are of calibrated "
        f"scores, which compare between products{beside}."
    )
