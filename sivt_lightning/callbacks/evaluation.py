"""Figures of the test: AUROC and average precision of images and of pixels, by category, as mean and pooled."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

from sivt_lightning.callbacks.common import NOT_FINITE, gather, writable_folder, write_whole
from sivt_lightning.data.layouts import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.report.tables import FIGURES, Figures, Results, console_table, csv_table, markdown_table

KINDS = ("image", "pixel")


def ranking_metrics() -> MetricCollection:
    """Exact AUROC and AP over one shared list of scores and labels.

    `normalization=None`: torchmetrics otherwise takes scores outside [0, 1] for logits and applies a sigmoid, batch by
    batch. The empty update fixes the state's types, because a process without any sample of a category would send
    float labels.
    """
    settings: dict[str, Any] = {
        "thresholds": None,
        "normalization": None,
        "validate_args": False,  # it sorts all labels of every update
        "dist_sync_fn": lambda state, group=None: gather(state),
    }
    metrics = MetricCollection(
        {"auroc": BinaryAUROC(**settings), "ap": BinaryAveragePrecision(**settings)}, compute_groups=[["auroc", "ap"]]
    )
    metrics.update(torch.empty(0), torch.empty(0, dtype=torch.bool))
    return metrics


class Tally:
    """Scores and labels of all categories on the CPU, and the figures they give.

    Every process makes the metrics of every category, also those it meets no image of, so that all take part in each
    exchange in the same order. Pixels count where the truth about them is known: not in an anomalous image without a
    mask, and nowhere in a category whose anomalous images have none at all.
    """

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.categories = sorted({sample.category for sample in samples})
        anomalous = [sample for sample in samples if sample.anomalous]
        self.without_masks = sorted(
            {sample.category for sample in anomalous}
            - {sample.category for sample in anomalous if sample.mask_path is not None}
        )
        self.metrics = {kind: {name: ranking_metrics() for name in self.categories} for kind in KINDS}

    def update(
        self,
        index: Sequence[int],
        scores: Float[Tensor, " B"],
        maps: Float[Tensor, "B S S"],
        masks: Bool[Tensor, "B S S"],
    ) -> None:
        """Take in the images at positions `index` of the samples."""
        samples = [self.samples[i] for i in index]
        for category in sorted({sample.category for sample in samples}):
            rows = [row for row, sample in enumerate(samples) if sample.category == category]
            labels = torch.tensor([samples[row].anomalous for row in rows])
            self.metrics["image"][category].update(scores[rows], labels)
            known = [row for row in rows if samples[row].mask_path is not None or not samples[row].anomalous]
            if known and category not in self.without_masks:
                self.metrics["pixel"][category].update(maps[known], masks[known])

    def counts(self, kind: str) -> dict[str, tuple[int, int]]:
        """Normal and anomalous images, or pixels, of each category over all processes."""
        local = {}
        for category, metrics in self.metrics[kind].items():
            labels = metrics.metric_state["auroc"]["target"]
            anomalous = sum(int(part.sum()) for part in labels)
            local[category] = (sum(part.numel() for part in labels) - anomalous, anomalous)
        ranks = gather(local)
        return {name: (sum(rank[name][0] for rank in ranks), sum(rank[name][1] for rank in ranks)) for name in local}

    def results(self) -> Results:
        """Figures by category, their mean where defined, and those of all images and pixels pooled.

        A figure is undefined (None) where only normal or only anomalous images, or pixels, were seen.
        """
        values: dict[str, Figures] = {name: dict.fromkeys(FIGURES) for name in self.categories}
        pooled: Figures = dict.fromkeys(FIGURES)
        for kind in KINDS:
            counts = self.counts(kind)
            for name, metrics in self.metrics[kind].items():
                values[name].update(_figures(kind, metrics, counts[name]))
            total = (sum(normal for normal, _ in counts.values()), sum(anomalous for _, anomalous in counts.values()))
            pooled.update(_figures(kind, _pool(self.metrics[kind].values()), total))
        return {"categories": values, "mean": _mean(values), "pooled": pooled}

    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        notes = ["mean: over the categories, each counting alike. pooled: all images, or pixels, as one set."]
        for name, (normal, anomalous) in self.counts("image").items():
            if not (normal and anomalous):
                only = "no" if not normal + anomalous else "only normal" if normal else "only anomalous"
                notes.append(f"{name}: {only} test images, so its image figures are undefined and not in the mean.")
        for name in self.without_masks:
            notes.append(f"{name}: no masks, so its pixel figures are undefined and in neither mean nor pooled.")
        return notes


def _figures(kind: str, metrics: MetricCollection, counts: tuple[int, int]) -> Figures:
    if not all(counts):
        return {f"{kind}_auroc": None, f"{kind}_ap": None}
    # torchmetrics computes in float32, whose further digits mean nothing
    return {f"{kind}_{name}": round(value.item(), 6) for name, value in metrics.compute().items()}


def _pool(parts: Any) -> MetricCollection:
    """One collection over the states of all; the tensors are shared, not copied."""
    pooled = ranking_metrics()
    for metrics in parts:
        state = metrics.metric_state["auroc"]
        for scores, labels in zip(state["preds"], state["target"], strict=True):
            pooled.update(scores, labels)
    return pooled


def _mean(values: Mapping[str, Figures]) -> Figures:
    mean: Figures = {}
    for figure in FIGURES:
        defined = [value for figures in values.values() if (value := figures[figure]) is not None]
        mean[figure] = sum(defined) / len(defined) if defined else None
    return mean


class Evaluation(Callback):
    """Collect the test's scores and maps; write `metrics.json`, `.csv` and `.md`, and print the table.

    It starts in `setup` and ends in `teardown`, because a process without any image (more devices than images) is
    given none of the test's own hooks, but the others wait for its part.

    Args:
        output: folder of the files.
    """

    def __init__(self, output: str = "test") -> None:
        self.output = output
        self.results: Results | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a folder that cannot be written before the work, not after it."""
        if stage == "test":
            self.folder = writable_folder(Path(self.output))
            self.tally = Tally(trainer.datamodule.test_set.samples)  # type: ignore[attr-defined]

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep what the model said; the data module has stopped at an image that cannot be read."""
        scores, maps = outputs.score.float().cpu(), outputs.map.float().cpu()
        index = batch.index.tolist()
        for i, good in zip(index, (scores.isfinite() & maps.isfinite().all(-1).all(-1)).tolist(), strict=True):
            if not good:
                raise SIVTError(f"No figures: an anomaly score of {self.tally.samples[i].path} is {NOT_FINITE}")
        self.tally.update(index, scores, maps, batch.masks.cpu())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compute on every process, write and print on the first."""
        if stage != "test":
            return
        self.results = self.tally.results()
        counts, notes = self.tally.counts("image"), self.tally.notes()
        del self.tally  # gigabytes of pixels
        if trainer.is_global_zero:
            self._write(self.results, counts, notes)

    def _write(self, results: Results, counts: Mapping[str, tuple[int, int]], notes: Sequence[str]) -> None:
        write_whole(self.folder / "metrics.json", json.dumps(results, indent=2) + "\n")
        write_whole(self.folder / "metrics.csv", csv_table(results, counts))
        write_whole(self.folder / "metrics.md", markdown_table(results, counts, notes))
        Console().print(console_table(results, counts, "Test, in fractions of 1"))
        for note in notes:
            print(note)
        print("Written:", *(self.folder / f"metrics.{suffix}" for suffix in ("json", "csv", "md")))
