"""What tiles cost: photos a second and the most memory, of photos of 20 megapixels in so many tiles.

    python benchmarks/tiles.py best.ckpt

The model is a checkpoint without tiles; copies of it are told to cut photos. Each number of tiles is measured in a
process of its own, which loads the model, has one photo judged, and then others one by one; and `sivt predict`, with
all that it writes, of one photo.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sivt_lightning import Predictor
from sivt_lightning.cli import main as run_cli
from sivt_lightning.inference.checkpoint import read_checkpoint

TILES = ("1", "2x2", "3x3", "4x4")
WIDTH, HEIGHT = 5472, 3648


def main() -> None:
    """A line for each number of tiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--photos", type=int, default=5, help="judged in each process, after the first")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.measure:
        print(json.dumps(MEASURES[settings.measure](settings.checkpoint, settings.photos)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photo(folder / "photos/photo.jpg")
        for tiles in TILES:
            contents = read_checkpoint(str(settings.checkpoint))
            contents["datamodule_hyper_parameters"] = {**contents["datamodule_hyper_parameters"], "tiles": tiles}
            torch.save(contents, folder / f"{tiles}.ckpt")
            (rate, memory), (_, whole) = (run(folder / f"{tiles}.ckpt", kind, settings.photos) for kind in MEASURES)
            print(f"{tiles:>4} tiles: {rate:.2f} photos/s, {memory:.2f} GB; {whole:.2f} GB in predict")


def run(checkpoint: Path, kind: str, photos: int) -> list[float]:
    """Photos a second, and the most memory in GB, of a process of its own."""
    own = [sys.executable, __file__, str(checkpoint), "--measure", kind, "--photos", str(photos)]
    said = subprocess.run(own, check=True, capture_output=True, text=True)
    return [float(number) for number in json.loads(said.stdout.splitlines()[-1])]


def of_predictor(checkpoint: Path, photos: int) -> tuple[float, float]:
    """As `run` gives it, of Predictor."""
    predictor, photo = Predictor(checkpoint), checkpoint.parent / "photos/photo.jpg"
    predictor(photo)
    start = time.perf_counter()
    for _ in range(photos):
        predictor(photo)
    return photos / (time.perf_counter() - start), most()


def of_predict(checkpoint: Path, photos: int) -> tuple[float, float]:
    """As `run` gives it, of `sivt predict` of the one photo."""
    start, folder = time.perf_counter(), checkpoint.parent
    output = ["--output", str(folder / checkpoint.stem)]
    run_cli(["predict", "--ckpt_path", str(checkpoint), "--data.predict_path", str(folder / "photos"), *output])
    return 1 / (time.perf_counter() - start), most()


MEASURES = {"predictor": of_predictor, "predict": of_predict}


def most() -> float:
    """Memory in GB that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def write_photo(path: Path) -> None:
    path.parent.mkdir()
    noise = np.random.default_rng(0).normal(0, 20, (HEIGHT // 8, WIDTH // 8, 3))
    small = Image.fromarray((128 + noise).clip(0, 255).astype(np.uint8))
    small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=90)


if __name__ == "__main__":
    main()
