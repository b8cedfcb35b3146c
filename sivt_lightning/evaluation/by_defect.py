"""How well each kind of defect is told from good parts."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sivt_lightning.data.samples import Sample
from sivt_lightning.evaluation.metrics.figures import Ranking
from sivt_lightning.evaluation.metrics.intervals import of_images
from sivt_lightning.report.tables import KindFigures


def figures_by_defect(samples: Sequence[Sample], scores: Mapping[int, float]) -> dict[str, dict[str, KindFigures]]:
    """By category and kind: its "images", and the "image_auroc" of these beside all good ones of the category.

    Args:
        scores: of the samples, by position.
    """
    of: dict[str, dict[str, list[float]]] = {}
    for position in sorted(scores):
        sample = samples[position]
        kinds = of.setdefault(sample.category, {})
        kinds.setdefault(sample.defect if sample.anomalous else "", []).append(scores[position])
    return {
        category: {
            kind: _figures(of[category].get("", []), of[category][kind]) for kind in sorted(of[category]) if kind
        }
        for category in sorted(of)
    }


def _figures(good: Sequence[float], defects: Sequence[float]) -> KindFigures:
    auroc = Ranking(of_images(np.array(good), np.array(defects))).auroc().value
    return {"images": len(defects), "image_auroc": None if math.isnan(auroc) else auroc}
