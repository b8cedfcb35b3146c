"""What the test's pixel metrics cost beside torchmetrics' exact ones, on maps of the size of MVTec AD's test set.

    python benchmarks/metrics.py            (about two minutes on 2 cores, and 4 GB for torchmetrics)
    python benchmarks/metrics.py --images 345 --torchmetrics false

1,725 smooth maps of 256 x 256 in 15 categories, 1,258 of them with a defect. Both are given the same maps, batch by
batch; ours gives AUROC, AP, F1-max and AUPRO of each category and pooled, torchmetrics AUROC and AP pooled. Memory is
the process' peak while a metric works, above that before it.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchmetrics
from kornia.filters import gaussian_blur2d
from torch import Tensor

from sivt_lightning.data.samples import Sample
from sivt_lightning.evaluation.tally import Tally
from sivt_lightning.system import keep_freed_memory

SIDE, CATEGORIES, IMAGES, BATCH = 256, 15, 1725, 15
REPEATS = 3  # of ours, which takes so little time that a busy machine shows; the median counts
BASES = 60  # different maps; the others are these, scaled, so that the maps themselves take little memory


class Maps:
    """Batches of maps and masks, the same ones each time they are gone through."""

    def __init__(self, images: int) -> None:
        generator = torch.Generator().manual_seed(0)
        rough = torch.rand(BASES, 1, SIDE, SIDE, generator=generator).pow(4)
        self.base = 10 * gaussian_blur2d(rough, (33, 33), (4.0, 4.0))[:, 0]
        self.masks = torch.zeros(BASES, SIDE, SIDE, dtype=torch.bool)
        for i in range(round(BASES * 1258 / 1725)):
            for _ in range(1 + i % 3):
                y, x = (int(v) for v in torch.randint(0, SIDE - 50, (2,), generator=generator))
                height, width = (int(v) for v in torch.randint(8, 50, (2,), generator=generator))
                self.masks[i, y : y + height, x : x + width] = True
        self.base[self.masks] *= 1.5
        self.scale = 0.5 + torch.rand(images, generator=generator)
        names = [f"category {i * CATEGORIES // images:02d}" for i in range(images)]
        bad = [bool(self.masks[i % BASES].any()) for i in range(images)]
        mask = Path("mask.png")
        self.samples = [
            Sample(Path("a.png"), n, b, mask_path=mask if b else None) for n, b in zip(names, bad, strict=True)
        ]

    def __iter__(self) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        for start in range(0, len(self.samples), BATCH):
            index = list(range(start, min(start + BATCH, len(self.samples))))
            which = [i % BASES for i in index]
            yield index, self.base[which] * self.scale[index, None, None], self.masks[which]


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measured(work: Callable[[], Any], before: int) -> dict[str, Any]:
    """Seconds, and the peak of memory above `before` bytes, looked at every 5 ms."""
    done, peak = threading.Event(), [before]

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return {"seconds": seconds, "megabytes": (peak[0] - before) / 1e6, "result": result}


def ours(maps: Maps) -> dict[str, dict[str, float]]:
    """All figures of each category and pooled; the pooled ones are returned, with the bounds on their errors."""
    tally = Tally(maps.samples)
    for index, batch, masks in maps:
        tally.update(index, batch.amax((1, 2)), batch, list(masks))
    return {name: dict(bounded._asdict()) for name, bounded in tally.outcome().pooled.items()}


def theirs(maps: Maps) -> dict[str, float]:
    """Pooled AUROC and AP."""
    settings: dict[str, Any] = {"thresholds": None, "normalization": None, "validate_args": False}
    metrics = {
        "pixel_auroc": torchmetrics.classification.BinaryAUROC(**settings),
        "pixel_ap": torchmetrics.classification.BinaryAveragePrecision(**settings),
    }
    values = {}
    for name, metric in metrics.items():
        for _, batch, masks in maps:
            metric.update(batch, masks)
        values[name] = metric.compute().item()
        metric.reset()
    return values


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--torchmetrics", choices=("true", "false"), default="true")
    arguments = parser.parse_args()
    keep_freed_memory()
    maps = Maps(arguments.images)
    before = resident()
    ours(Maps(CATEGORIES))  # whatever is loaded at the first use; its memory counts
    walking = measured(lambda: [None for _ in maps], before)["seconds"]  # making the batches is no metric's cost
    runs = [measured(lambda: ours(maps), before) for _ in range(REPEATS)]
    report = {"images": arguments.images, "ours": sorted(runs, key=lambda run: run["seconds"])[REPEATS // 2]}
    report["ours"] |= {
        "seconds": report["ours"]["seconds"] - walking,
        "all seconds": [run["seconds"] - walking for run in runs],
        "megabytes": max(run["megabytes"] for run in runs),
    }
    if arguments.torchmetrics == "true":
        report["torchmetrics"] = measured(lambda: theirs(maps), resident())
        report["torchmetrics"]["seconds"] -= 2 * walking
        report["times faster"] = report["torchmetrics"]["seconds"] / report["ours"]["seconds"]
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
