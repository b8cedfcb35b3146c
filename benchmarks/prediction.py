"""What `sivt predict` costs beside its model alone: images per second and memory, all files included.

    python benchmarks/prediction.py                                  (the paper's model, 200 JPEG photos of 1024 x 1024)
    python benchmarks/prediction.py --small true --images 2000 --precision bf16-mixed

Alternates between two ways over the same folder: reading and the model, with nothing written; and all that `predict`
does by default (table, masks, overlays, report). The model's weights are random and its thresholds such that one photo
in four is anomalous, which changes nothing about the time that the network takes.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from PIL import Image
from scipy import ndimage

from sivt_lightning.cli.quiet import quiet_lightning
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.evaluation.trained_model import TrainedModel
from sivt_lightning.inference.about import read_about
from sivt_lightning.inference.formats import FORMAT
from sivt_lightning.inference.thresholds import Thresholds, threshold_of
from sivt_lightning.prediction_files.writer import PredictionWriter
from sivt_lightning.training.module import SIVT

SMALL = {"width": 128, "encoder_depth": 4, "decoder_depth": 2, "heads": 4}
DIFFERENT = 20  # photos; the others are links to them


def write_photos(folder: Path, count: int, side: int, suffix: str) -> Path:
    """Coloured noise of several scales, in sub-folders of 100."""
    generator = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i // 100:03d}" / f"{i:05d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < DIFFERENT:
            noise = sum(
                np.kron(generator.normal(0, 20, (side // step, side // step, 3)), np.ones((step, step, 1)))
                for step in (2, 8, 64)
            )
            Image.fromarray((ndimage.uniform_filter(noise, (3, 3, 0)) + 120).clip(0, 255).astype(np.uint8)).save(path)
        else:
            os.link(folder / "000" / f"{i % DIFFERENT:05d}.{suffix}", path)
    return folder


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def write_checkpoint(model: SIVT, photos: SIVTDataModule, precision: str, path: Path) -> Path:
    """The model, with the threshold that a quarter of some photos are above."""
    with torch.no_grad():
        some = [model.detector(photos.predict_set[i].image[None]) for i in range(min(8, len(photos.predict_set)))]
    scores, maps = (np.concatenate([np.asarray(found[of]) for found in some]) for of in (0, 1))
    contents = {
        "format_number": FORMAT,
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "datamodule_hyper_parameters": dict(photos.hparams),
        "thresholds": asdict(Thresholds(0.75, threshold_of(scores, maps.reshape(-1), 0.75), {})),
        "precision": precision,
    }
    torch.save(contents, path)
    return path


def predict(path: Path, folder: Path, settings: argparse.Namespace, output: Path | None) -> tuple[float, list[int]]:
    """Images per second, and this process' memory twenty times on the way."""
    model = TrainedModel(str(path))
    data = SIVTDataModule(predict_path=str(folder), image_size=read_about(str(path)).image_size)
    callbacks: list[Any] = [] if output is None else [PredictionWriter(str(output))]
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        precision=settings.precision,
        logger=False,
        enable_progress_bar=False,
        callbacks=callbacks,
    )
    memory: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            memory.append(resident())

    watching = threading.Thread(target=watch)
    watching.start()
    start = time.perf_counter()
    trainer.predict(model, data, return_predictions=False)
    seconds = time.perf_counter() - start
    over.set()
    watching.join()
    return settings.images / seconds, memory[:: max(1, len(memory) // 20)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=1024, help="of a photo, in pixels")
    parser.add_argument("--suffix", choices=["jpg", "png"], default="jpg")
    parser.add_argument("--small", choices=["true", "false"], default="false", help="the model of configs/small.yaml")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--repeats", type=int, default=3)
    settings = parser.parse_args()
    quiet_lightning()
    model = SIVT(weights="random", **(SMALL if settings.small == "true" else {})).eval()
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_photos(Path(temporary, "photos"), settings.images, settings.side, settings.suffix)
        data = SIVTDataModule(predict_path=str(folder), image_size=model.hparams["image_size"])
        data.setup("predict")
        path = write_checkpoint(model, data, settings.precision, Path(temporary, "model.ckpt"))
        predict(path, folder / "000", argparse.Namespace(**vars(settings) | {"images": 100}), None)  # warms up
        rates: dict[str, list[float]] = {"alone": [], "all": []}
        for _ in range(settings.repeats):
            for name in rates:
                output = Path(temporary, "out") if name == "all" else None
                rate, memory = predict(path, folder, settings, output)
                rates[name].append(rate)
                told = " ".join(f"{size / 1e9:.2f}" for size in memory)
                print(f"{name:6} {rate:6.2f} images/s, GB on the way: {told}", flush=True)
                shutil.rmtree(Path(temporary, "out"), ignore_errors=True)
    shares = [b / a for a, b in zip(rates["alone"], rates["all"], strict=True)]
    print(f"with all files {statistics.median(shares):.3f} of the model's own rate (median of {len(shares)})")


if __name__ == "__main__":
    main()
