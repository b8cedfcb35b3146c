"""What a training costs before and around its network: from thousands of photos to a hundred thousand.

    python benchmarks/many_photos.py 10000 100000

Each number is trained on for one epoch by `sivt fit` in a process of its own, with the image itself as features and the
smallest reconstructor, on links to a few photos of 16 x 16 pixels in one folder, read by this process alone. Prints
seconds of processor time, which other work on the machine changes little, and memory above that of an empty process;
and the last column as a multiple of the first, which should not be above that of the photos. What is generated is
deleted.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sivt_lightning.cli import main
from sivt_lightning.data.layouts import train_samples

DIFFERENT = 8  # photos; the others are links to them
SETTINGS = """
model: {backbone: pixels, strides: [4], image_size: 16, feature_stride: 4, patch_size: 1, width: 16, encoder_depth: 1,
  decoder_depth: 1, heads: 4, memory_bank: 0, smoothing_sigma: 0.0}
data: {batch_size: 256, eval_batch_size: 256, num_workers: 0}
trainer: {max_epochs: 1, accelerator: cpu}
synthetic: {per_image: 0}
panel: {every_n_epochs: 0}
"""


def write_photos(folder: Path, count: int) -> Path:
    """Of noise, all in one folder: a product."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        photo = folder / f"{number:06}.png"
        if number < DIFFERENT:
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).save(photo)
        else:
            os.link(folder / f"{number % DIFFERENT:06}.png", photo)
    return folder


def peak() -> float:
    """MB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(count: int, answers: Any) -> None:
    """In a process of its own, whose memory is that of this number."""
    from sivt_lightning.training.module import SIVT

    moments: dict[str, float] = {}

    def at(name: str) -> None:
        moments.setdefault(name, time.process_time())
        moments.setdefault(f"{name}, MB", peak())

    step, end = SIVT.training_step, SIVT.on_validation_start

    def training_step(self: SIVT, *given: Any) -> Any:
        at("step")
        return step(self, *given)

    def on_validation_start(self: SIVT) -> None:
        at("epoch")
        end(self)

    SIVT.training_step, SIVT.on_validation_start = training_step, on_validation_start  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        write_photos(Path("photos/part"), count)
        Path("many.yaml").write_text(SETTINGS)
        before, start = peak(), time.process_time()
        train_samples(Path("photos"), None)
        listed = time.process_time()
        assert main(["fit", "--config", "many.yaml", "--data.root", "photos"]) == 0
        done = time.process_time()
        answers.put(
            {
                "photos": count,
                "listing, s": listed - start,
                "until the first step, s": moments["step"] - listed,
                "first epoch, s": moments["epoch"] - moments["step"],
                "from its end to the command's, s": done - moments["epoch"],
                "memory at the first step, MB": moments["step, MB"] - before,
                "memory at the end, MB": peak() - before,
            }
        )


def measured(count: int) -> dict[str, float]:
    """What `measure` answers."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=measure, args=(count, answers))
    process.start()
    found = answers.get()
    process.join()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="+")
    rows = [measured(count) for count in parser.parse_args().counts]
    print(json.dumps(rows, indent=2))
    for name in rows[0]:
        print(f"{name:34}", *(f"{row[name]:10.1f}" for row in rows), f"{rows[-1][name] / rows[0][name]:8.2f} times")
