"""Training steps and their parts: of the plain loop and of this package, and as settings grow."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from sivt_lightning.benchmark.counts import operations
from sivt_lightning.benchmark.machine import Machine
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.demo import write_demo_data
from sivt_lightning.data.urls import path_of
from sivt_lightning.errors import SIVTError
from sivt_lightning.features.store import DiskStore, FeatureDataset, FeatureStore, MemoryStore, collate_features
from sivt_lightning.model.detector import Detector
from sivt_lightning.model.partition import draw_partition
from sivt_lightning.model.precision import autocast
from sivt_lightning.model.reconstructor import Reconstructor
from sivt_lightning.seeding import generator_for
from sivt_lightning.system import keep_freed_memory
from sivt_lightning.training.draws import gains_of, partitions_of, pieces_of
from sivt_lightning.training.module import SIVT
from sivt_lightning.training.optimizer import build_optimizer
from sivt_lightning.training.recording import BatchLoss, RecordedLoss

PARTS = ("data", "features", "forward", "backward", "optimizer")
GROWTH = {"image_size": (256, 384, 512), "groups": (2, 4, 6, 8), "patch_size": (4, 2, 1), "batch_size": (2, 4, 8, 16)}
KEY = (0, 0)  # seed and epoch of what a step draws
PAPER_RUN = (400, 3629)  # epochs, and training images of MVTec AD


def measure_training(
    module: SIVT, machine: Machine, images: DataLoader[Any], folder: Path, report: dict[str, Any]
) -> dict[str, Any]:
    """A training step and its parts: of the plain loop (float32, nothing kept or recorded), and of this package's."""
    detector, batch_size = module.detector, images.batch_size or 1
    shape = (detector.backbone.channels, detector.backbone.grid, detector.backbone.grid)
    kept = [(kind, feature_loader(kind, folder, shape, batch_size)) for kind in ("memory", "disk")]
    rows = []
    for cache, loader in (("plain", images), ("off", images), *kept):
        is_plain = cache == "plain"
        where = replace(machine, precision="32-true") if is_plain else machine
        keep_freed_memory(not is_plain)
        measured = TrainingStep(detector, detector.reconstructor, module, where, not is_plain).measure(loader)
        row = {"cache": cache, "precision": where.precision} | measured
        seconds = (row["ms"]["forward"] + row["ms"]["backward"]) / 1e3
        work = 3 * batch_size * report["multiply_adds"]["reconstructor_fast"]
        # The rate was measured in another precision than the plain loop's.
        row["share_of_matrix_rate"] = None if is_plain else work / seconds / report["machine"]["multiply_adds_per_s"]
        rows.append(row)
    epochs, count = PAPER_RUN
    for row in rows:
        row["hours_of_the_paper"] = epochs * count / row["images_per_s"] / 3600
        row["times_plain"] = row["images_per_s"] / rows[0]["images_per_s"]
    return {"batch_size": batch_size, "training": rows}


def image_loader(data: dict[str, Any], folder: Path) -> tuple[DataLoader[Any], str]:
    """Training images of data.root, or where there are none generated ones; and which these are."""
    root = data["root"]
    if root is None or not path_of(root).exists():
        write_demo_data(folder / "demo", 0, "normal", good=1, defective=1)  # no test is made
        data = data | {"root": str(folder / "demo"), "categories": None, "layout": None}
        root = "those of sivt demo-data" + (f", for want of {root}" if root else "")
    module = SIVTDataModule(**(data | {"cache": "off", "seed": 0}))
    module.setup("fit")
    if len(module.train_set) < module.batch_size:
        raise SIVTError(f"{root} has {len(module.train_set)} training images, fewer than data.batch_size: lower that.")
    return module.train_dataloader(), str(root)


def feature_loader(kind: str, folder: Path, shape: tuple[int, int, int], batch_size: int) -> DataLoader[Any]:
    """Kept features: made-up ones, which are read no faster than true ones."""
    count = 4 * batch_size
    store: FeatureStore = MemoryStore(count, shape, torch.float16)
    if kind == "disk":
        paths = [folder / f"{number}.txt" for number in range(count)]
        for path in paths:
            path.write_text(path.name)
        store = DiskStore(paths, folder, shape, torch.float16)
    for number in range(count):
        store.put(number, torch.randn(shape, generator=generator_for(number)))
    dataset = FeatureDataset(count)
    dataset.store = store
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, collate_fn=collate_features)


class TrainingStep:
    """The steps of `fit` without Lightning around them."""

    def __init__(
        self, detector: Detector, reconstructor: Reconstructor, module: SIVT, machine: Machine, recorded: bool = True
    ) -> None:
        self.detector, self.reconstructor, self.machine = detector, reconstructor, machine
        self.settings = module.settings
        kind = RecordedLoss if machine.device.type == "cuda" and recorded else BatchLoss
        self.loss = kind(reconstructor, self.settings.cosine_weight)
        # So small a rate that nothing is learned: made-up features could make the loss anything.
        self.optimizer = build_optimizer(reconstructor, self.settings.optimizer, 1e-6, 0.0)
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision == "16-mixed")

    def measure(self, loader: DataLoader[Any]) -> dict[str, Any]:
        """Median time of a step's parts, images per second and the most memory in use."""
        batches, times = forever(loader), list[dict[str, float]]()
        self.machine.reset_peak()
        self.run(batches)
        begin = time.perf_counter()
        while time.perf_counter() - begin < self.machine.seconds or len(times) < 5:
            times.append(self.run(batches))
        ms = {part: 1e3 * statistics.median(run[part] for run in times) for part in PARTS}
        step = sum(ms.values())
        return {
            "ms": ms,
            "step_ms": step,
            "images_per_s": 1e3 * (loader.batch_size or 1) / step,
            "peak_bytes": self.machine.peak_bytes(),
        }

    def run(self, batches: Iterator[Any]) -> dict[str, float]:
        """One step; seconds of its parts."""
        marks = [time.perf_counter()]

        def mark() -> None:
            self.machine.synchronize()
            marks.append(time.perf_counter())

        batch = next(batches)
        mark()
        with autocast(self.machine.precision, self.machine.device.type):
            if hasattr(batch, "images"):
                features = self.detector.features(batch.images.to(self.machine.device))
            else:
                features = batch.features.to(self.machine.device).float()
            mark()
            partitions = partitions_of(self.reconstructor, batch.index, KEY)
            gains = gains_of(self.reconstructor, self.settings.latent_dropout, batch.index, KEY)
            seen = pieces_of(features, self.settings.pasted, batch.index, KEY)
            loss = self.loss(features, partitions, gains, seen)
        mark()
        self.scaler.scale(loss).backward()
        mark()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.reconstructor.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        mark()
        return dict(zip(PARTS, (end - start for start, end in pairwise(marks)), strict=True))


def forever(loader: DataLoader[Any]) -> Iterator[Any]:
    """Full batches, epoch after epoch."""
    while True:
        yield from (batch for batch in loader if len(batch.index) == loader.batch_size)


def measure_growth(module: SIVT, machine: Machine, batch_size: int) -> dict[str, Any]:
    """A training step on kept features, with one setting varied at a time; beside it the operations it needs."""
    rows = []
    for setting, values in GROWTH.items():
        for value in values:
            row: dict[str, Any] = {"setting": setting, "value": value}
            try:
                rows.append(row | _growth_row({setting: value}, batch_size, module, machine))
            except SIVTError as error:
                rows.append(row | {"error": str(error)})
    return {"growth": rows}


def _growth_row(changed: dict[str, Any], batch_size: int, module: SIVT, machine: Machine) -> dict[str, Any]:
    batch_size = changed.pop("batch_size", batch_size)
    settings = replace(module.settings, **changed)
    channels, grid = module.detector.backbone.channels, settings.grid
    model = Reconstructor(channels, settings).to(machine.device)
    loader = feature_loader("memory", Path(), (channels, grid, grid), batch_size)
    sample = torch.randn(1, channels, grid, grid, device=machine.device)
    partition = draw_partition(model.length, model.groups, generator_for(0))[None].to(machine.device)
    needed = operations(lambda: model(sample, partition))
    measured = TrainingStep(module.detector, model, module, machine).measure(loader)
    return {
        "multiply_adds": 3 * batch_size * needed,
        "step_ms": measured["step_ms"],
        "peak_bytes": measured["peak_bytes"],
    }
