"""Photos a second from JPEG files of 1024 x 1024 to verdicts, of several models in one run.

    python benchmarks/end_to_end.py                       (edge, small and sivt in int8 by OpenVINO, sivt as torch is)
    python benchmarks/end_to_end.py edge:openvino-int8 edge:torch-fp32 --models FOLDER

A model is the name of a configuration, with random weights, and what it is exported as. `Predictor` is given lists of
photos, which it reads while it computes. The models take turns, and the median of their turns counts, so that what else
the machine does meets all of them. "processor time" is what a photo takes of one core, waiting at barriers included.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import yaml
from serving import make_photos

from sivt_lightning.export.kinds import SUFFIXES
from sivt_lightning.export.model_files import write_model
from sivt_lightning.inference.about import About
from sivt_lightning.inference.predictor import Predictor
from sivt_lightning.inference.thresholds import Threshold, Thresholds
from sivt_lightning.system import keep_freed_memory
from sivt_lightning.training.module import SIVT

CONFIGS = Path(__file__).parents[1] / "configs"
MODELS = ["edge:openvino-int8", "small:openvino-int8", "sivt:openvino-int8", "sivt:torch-fp32"]
BATCHES = 4  # of each list, of which the first is waited for until it is read


def exported(name: str, folder: Path) -> Path:
    """The model's file, written unless it is there."""
    config, kind, precision = name.replace(":", "-").split("-")
    path = folder / f"{config}-{precision}{SUFFIXES[kind]}"  # type: ignore[index]
    if path.is_file():
        return path
    torch.manual_seed(0)
    settings = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())["model"]
    detector = SIVT(**settings | {"weights": "random"}).eval().detector
    size = detector.backbone.image_size
    thresholds = Thresholds(0.99, Threshold(1.0, 1.0, 1), {})
    about = About("checkpoint", "32-true", size, None, None, thresholds, {}, {}, {})
    images = [torch.rand(8, 3, size, size)] if precision == "int8" else []
    write_model(path, kind, precision, detector, about, images)  # type: ignore[arg-type]
    return path


def turn(predictor: Predictor, photos: list[bytes], seconds: float) -> tuple[float, float]:
    """Photos a second, and seconds of processor time for each."""
    some = (photos * predictor.batch_size)[: BATCHES * predictor.batch_size]
    count, start, worked = 0, time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - start) < seconds:
        predictor(some)
        count += len(some)
    return count / passed, (time.process_time() - worked) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--models", dest="folder", type=Path, help="where exports are kept for the next run")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn, at least")
    parser.add_argument("--turns", type=int, default=3)
    settings = parser.parse_args()
    keep_freed_memory()
    photos = make_photos(4, 1024)
    with tempfile.TemporaryDirectory() as temporary:
        folder = settings.folder or Path(temporary)
        predictors = {name: Predictor(exported(name, folder)) for name in settings.models}
        for predictor in predictors.values():  # which read their files when they are first needed
            predictor(photos * 2)
    turns = [
        {name: turn(predictor, photos, settings.seconds) for name, predictor in predictors.items()}
        for _ in range(settings.turns)
    ]
    print("| model | photos/s | of the turns | processor time |\n|---|---:|---:|---:|")
    for name in predictors:
        rates, worked = zip(*(one[name] for one in turns), strict=True)
        span = f"{min(rates):.1f} to {max(rates):.1f}"
        print(f"| {name} | {statistics.median(rates):.1f} | {span} | {1000 * statistics.median(worked):.1f} ms |")


if __name__ == "__main__":
    main()
