"""What each export of a model costs and changes: error, image AUROC, images per second.

    python benchmarks/exports.py                                   (the paper's model with random weights: error, speed)
    python benchmarks/exports.py best.ckpt --root FOLDER           (a trained model: also the change of its figures)

Errors are of the maps against the same model in float64, as shares of its highest value, and of the scores as shares
of themselves. Speed is from a decoded photo of 1024 x 1024 to the smoothed map; the gain is over the checkpoint's in
float32, one by one, in the same run. int8 is scaled by training images, or by noise where there are none.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from sivt_lightning.cli.quiet import quiet_lightning
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.images import to_tensor
from sivt_lightning.evaluation.metrics.ranking import ImageRanking
from sivt_lightning.export.kinds import PRECISIONS, SUFFIXES
from sivt_lightning.export.model_files import write_model
from sivt_lightning.inference.about import About, of_checkpoint
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.inference.checkpoint_model import restore_detector
from sivt_lightning.inference.models import open_model
from sivt_lightning.inference.thresholds import Threshold, Thresholds
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.detector import Detector
from sivt_lightning.model.precision import autocast
from sivt_lightning.system import keep_freed_memory
from sivt_lightning.training.module import SIVT

Run = Callable[[Tensor], Detection]
NONE = Thresholds(0.99, Threshold(0.0, 0.0, 1), {})


def in_float64(detector: Detector, images: Tensor) -> Detection:
    """What the model would say without rounding."""
    exact = copy.deepcopy(detector).double()
    return exact(images.double())


def eager(detector: Detector, precision: str = "32-true") -> Run:
    @torch.inference_mode()
    def run(images: Tensor) -> Detection:
        with autocast(precision, "cpu"):
            return detector(images)

    return run


def per_image(run: Run, photos: list[Image.Image], size: int, seconds: float) -> float:
    """Median seconds an image, of these photos as one batch."""
    times: list[float] = []
    while len(times) < 4 or sum(times) < seconds:
        start = time.perf_counter()
        run(torch.stack([to_tensor(photo, size) for photo in photos]))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / len(photos)


def mean_auroc(run: Run, data: SIVTDataModule, batch_size: int = 16) -> float:
    """Mean over the categories of the image AUROC."""
    rankings: dict[str, ImageRanking] = {}
    samples = data.test_set.samples
    for start in range(0, len(samples), batch_size):
        items = [data.test_set[i] for i in range(start, min(start + batch_size, len(samples)))]
        scores = run(torch.stack([item.image for item in items])).score
        for item, score in zip(items, scores, strict=True):
            sample = samples[item.position]
            ranking = rankings.setdefault(sample.category, ImageRanking())
            ranking.update(score[None], torch.tensor([sample.anomalous]))
    return statistics.mean(float(ranking.compute()["auroc"]) for ranking in rankings.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--root", help="labelled test images, for the change of the figures")
    parser.add_argument("--seconds", type=float, default=5.0, help="least time for each speed")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="*", help="such as openvino-int8")
    settings = parser.parse_args()
    quiet_lightning()
    keep_freed_memory()
    torch.manual_seed(0)
    if settings.checkpoint is None:
        module = SIVT(weights="random").eval()
        detector = module.detector
        about = About("checkpoint", "32-true", detector.backbone.image_size, None, None, NONE, {}, {}, {})
    else:
        checkpoint = read_checkpoint(settings.checkpoint)
        about = of_checkpoint(checkpoint)
        detector = restore_detector(Path(settings.checkpoint), checkpoint)
    size = detector.backbone.image_size
    data = SIVTDataModule(root=settings.root, image_size=size)
    generator = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(generator.normal(0, 900, (1024, 1024, 3)), (4, 4, 0)) + 128
    photos = [Image.fromarray(noise.clip(0, 255).astype(np.uint8))] * settings.batch
    calibration = [torch.from_numpy(generator.random((8, 3, size, size), dtype=np.float32))]
    if settings.root is not None:
        data.setup("fit")
        data.setup("test")
        calibration = list(data.calibration_batches())
    images = calibration[0][:8]
    with torch.no_grad():
        exact = in_float64(detector, images)
    runs: dict[str, Callable[[], Run]] = {
        "checkpoint fp32": lambda: eager(detector),
        "checkpoint bf16": lambda: eager(detector, "bf16-mixed"),
    }
    with tempfile.TemporaryDirectory() as folder:
        for kind, precisions in PRECISIONS.items():
            for precision in precisions:
                path = Path(folder, f"{kind}-{precision}{SUFFIXES[kind]}")
                if settings.only is None or path.stem in settings.only:
                    scaled = calibration if precision == "int8" else []
                    write_model(path, kind, precision, detector, about, scaled)  # type: ignore[arg-type]
                    runs[path.stem] = lambda path=path: open_model(path)  # type: ignore[misc]
        print(
            f"| model | map error | score error | change of AUROC | images/s, 1 | images/s, {settings.batch} | gain |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
        slow, auroc = 0.0, 0.0
        for name, make in runs.items():
            run = make()
            found = run(images)
            off = float((found.map.double() - exact.map).abs().max() / exact.map.max())
            score_off = float((found.score.double() / exact.score - 1).abs().max())
            one, many = (per_image(run, photos[:count], size, settings.seconds) for count in (1, settings.batch))
            slow = slow or one
            change = ""
            if settings.root is not None:
                figure = mean_auroc(run, data)
                auroc = auroc or figure
                change = f"{figure - auroc:+.4f}"
            gain = slow / min(one, many)
            print(
                f"| {name} | {off:.1e} | {score_off:.1e} | {change} | {1 / one:.1f} | {1 / many:.1f} | {gain:.2f} |",
                flush=True,
            )
            del run
    if settings.root is not None:
        print(f"AUROC of the first row: {auroc:.4f}")


if __name__ == "__main__":
    main()
