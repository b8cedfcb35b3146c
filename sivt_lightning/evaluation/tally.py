"""Scores and maps of a test, and the figures they give by category, as mean and pooled."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from sivt_lightning.data.roi import at_size
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import listing
from sivt_lightning.evaluation.metrics.figures import IMAGE_FIGURES, PIXEL_FIGURES, Bounded, Curve, Ranking
from sivt_lightning.evaluation.metrics.intervals import Intervals, concatenate, condense
from sivt_lightning.evaluation.metrics.ranking import ImageRanking, PixelRanking
from sivt_lightning.processes import gather
from sivt_lightning.report.tables import FIGURES, Figures, row_name

Key = TypeVar("Key", bound=Hashable)

NAMES = {"image": IMAGE_FIGURES, "pixel": PIXEL_FIGURES}
POOLED = 2**18  # intervals of all categories' pixels together


class Outcome(NamedTuple):
    """What a test found, by category and of all images and pixels as one set."""

    categories: dict[str, dict[str, Bounded]]  # figures by name; NaN where undefined
    pooled: dict[str, Bounded]
    curves: dict[str, list[tuple[str, Curve]]]  # "image" or "pixel" -> of each category and last of all, where defined
    scores: dict[str, Intervals]  # of each category's images
    notes: list[str]

    def pool(self, scores: Intervals) -> Figures:
        """Takes these scores of all images for the pooled ones. What they replace."""
        before = plain(self.pooled, "value")
        curves = self.curves["image"]
        if not math.isnan(self.pooled["image_auroc"].value):
            curves.pop()
        self.pooled.update(_figures("image", "pooled", scores, curves))
        return before


class Tally:
    """Takes in what the model says of the images, and compares it with the labels at the end.

    Every process makes the metrics of every category, also those it meets no image of, so that all take part in each
    exchange in the same order. Pixels count where the truth about them is known: not in an anomalous image without a
    mask, and nowhere in a category whose anomalous images have none at all.

    Args:
        regions: of categories that are not inspected everywhere, what is; other pixels do not count.
    """

    def __init__(
        self, samples: Sequence[Sample], regions: Mapping[str, Bool[Tensor, "_ _"]] = MappingProxyType({})
    ) -> None:
        self.samples, self.regions = samples, regions
        self.categories = sorted({sample.category for sample in samples})
        anomalous = [sample for sample in samples if sample.anomalous]
        self.without_masks = sorted(
            {sample.category for sample in anomalous}
            - {sample.category for sample in anomalous if sample.mask_path is not None}
        )
        self.images = {name: ImageRanking() for name in self.categories}
        self.pixels = {name: PixelRanking() for name in self.categories}
        self.vanished: Counter[str] = Counter()  # anomalous images whose mask has no pixel left at its size here
        self.outside: list[int] = []  # anomalous images whose mask has none where it is inspected

    def update(
        self,
        index: Sequence[int],
        scores: Float[Tensor, " B"],
        maps: Sequence[Float[Tensor, "_ _"]] | Float[Tensor, "B S S"],
        masks: Sequence[Bool[Tensor, "_ _"]],
    ) -> None:
        """Take in the images at positions `index` of the samples; a map is compared at its mask's size."""
        samples = [self.samples[i] for i in index]
        for category, rows in _groups(sample.category for sample in samples).items():
            anomalous = torch.tensor([samples[row].anomalous for row in rows])
            self.images[category].update(scores[rows], anomalous)
        sizes = _groups((sample.category, mask.shape) for sample, mask in zip(samples, masks, strict=True))
        for (category, size), all_rows in sizes.items():
            rows = [row for row in all_rows if samples[row].mask_path is not None or not samples[row].anomalous]
            if not rows or category in self.without_masks:
                continue
            truth = torch.stack([masks[row] for row in rows])
            predicted = torch.stack([_at(maps[row], size) for row in rows])
            inspected = self._inspected(category, size)
            self.pixels[category].update(predicted, truth, inspected)
            empty = ~truth.flatten(1).any(1)
            if inspected is not None:
                missed = ~empty & ~truth[:, inspected].any(1)
                self.outside += [index[row] for row, m in zip(rows, missed, strict=True) if m]
            self.vanished[category] += sum(samples[row].anomalous for row, e in zip(rows, empty, strict=True) if e)

    def _inspected(self, category: str, size: torch.Size) -> Bool[Tensor, "height width"] | None:
        """What is inspected of a category's images, at the size of their masks."""
        region = self.regions.get(category)
        return None if region is None else at_size(region, *size)

    def outcome(self) -> Outcome:
        """The figures over all processes; the metrics are empty afterwards."""
        outcome = Outcome({name: {} for name in self.categories}, {}, {"image": [], "pixel": []}, {}, [])
        for kind, metrics in (("image", self.images), ("pixel", self.pixels)):
            pooled: list[Intervals] = []
            for name, metric in metrics.items():
                metric.sync(dist_sync_fn=lambda state, group=None: gather(state))
                account = metric.intervals()
                metric.reset()
                outcome.categories[name].update(_figures(kind, name, account, outcome.curves[kind]))
                pooled.append(account)
                if kind == "pixel" and sum(len(part.low) for part in pooled) > 4 * POOLED:
                    pooled = [condense(concatenate(*pooled), POOLED)]
                if kind == "image":
                    outcome.scores[name] = account
            whole = condense(concatenate(*pooled), POOLED if kind == "pixel" else None)
            outcome.pooled.update(_figures(kind, "pooled", whole, outcome.curves[kind]))
        outcome.notes.extend(self._notes(outcome))
        return outcome

    def _notes(self, outcome: Outcome) -> list[str]:
        """What a reader of the table has to know."""
        notes = ["mean: over the categories, each counting alike. pooled: all images, or pixels, as one set."]
        vanished = sum(gather(self.vanished), Counter())
        outside = sorted({index for part in gather(self.outside) for index in part})
        for name in self.categories:
            row = row_name(name)
            normal, anomalous = counts(outcome.scores[name])
            if not (normal and anomalous):
                only = "no" if not normal + anomalous else "only normal" if normal else "only anomalous"
                notes.append(f"{row}: {only} test images, so its image figures are undefined and not in the mean.")
            if name in self.without_masks:
                notes.append(f"{row}: no masks, so its pixel figures are undefined and in neither mean nor pooled.")
            elif math.isnan(outcome.categories[name]["pixel_auroc"].value):
                notes.append(f"{row}: pixels of one kind only, so its pixel figures are undefined and not in the mean.")
            if vanished[name]:
                notes.append(
                    f"{row}: {vanished[name]} of its masks have no pixel at the size they are compared at, so their "
                    "defects are not in its pixel figures. --eval.full_resolution true keeps what shrinking has lost."
                )
            if paths := [str(self.samples[i].path) for i in outside if self.samples[i].category == name]:
                notes.append(
                    f"{row}: outside the region that is inspected lies all of the masks of {listing(paths)}, so their "
                    "defects cannot be found and are not in its pixel figures; as images they count as anomalous."
                )
        return notes


def _at(anomaly_map: Float[Tensor, "_ _"], size: torch.Size) -> Float[Tensor, "height width"]:
    """A map at the size of a mask."""
    if anomaly_map.shape == size:
        return anomaly_map
    return interpolate(anomaly_map[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def _groups(keys: Iterable[Key]) -> dict[Key, list[int]]:
    """
    >>> _groups("abba")
    {'a': [0, 3], 'b': [1, 2]}
    """
    groups: dict[Key, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return groups


def _figures(kind: str, name: str, account: Intervals, curves: list[tuple[str, Curve]]) -> dict[str, Bounded]:
    ranking = Ranking(account)
    if ranking.defined:
        curves.append((name, ranking.curve()))
    return {f"{kind}_{figure}": value for figure, value in ranking.figures(NAMES[kind]).items()}


def counts(scores: Intervals) -> tuple[int, int]:
    """Normal and anomalous images."""
    return int(scores.negatives.sum()), int(scores.positives.sum())


def plain(figures: Mapping[str, Bounded], field: str) -> Figures:
    """The field "value" or "error" of each figure, None where it is undefined."""
    values = {name: getattr(figures[name], field) for name in FIGURES}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def mean_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The mean of each named value over the rows in which it is defined, None where it is in none.

    >>> mean_of([{"a": 1.0, "b": None}, {"a": 2.0, "b": None}], ["a", "b"])
    {'a': 1.5, 'b': None}
    """
    mean: dict[str, Any] = {}
    for name in names:
        defined = [row[name] for row in rows if row[name] is not None]
        mean[name] = sum(defined) / len(defined) if defined else None
    return mean
