"""A model on golden photos: what it says, and what it takes for it."""

import platform
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sivt_lightning.golden.recorded import Record, Run, Said
from sivt_lightning.inference.predictor import Predictor
from sivt_lightning.inference.side_car import sha256_of
from sivt_lightning.system import peak_memory

# What decodes, resizes and computes; of the runtimes the one that the model's kind asks for.
ALWAYS = ("sivt-lightning", "torch", "numpy", "pillow")
RUNTIMES = {".onnx": ("onnxruntime", "onnxruntime-gpu"), ".xml": ("openvino",)}


def run(model: str, device: str | None, folder: Path, photos: Sequence[str]) -> Record:
    """What the model says of photos in a folder, each by itself. Raises SIVTError at one that cannot be read."""
    predictor = Predictor(model, device)
    predictor.warm_up(model)
    said, maps, seconds = [], [], []
    for photo in photos:
        start = time.perf_counter()
        found = predictor(folder / photo)
        seconds.append(time.perf_counter() - start)
        judged = (found.verdict, found.product, found.score, found.threshold)
        said.append(Said(photo, sha256_of(folder / photo), *judged))
        maps.append(found.anomaly_map)
    where = Run(
        Path(model).name, predictor.model.identity(), statistics.median(seconds), peak_memory(), _versions(model)
    )
    return Record(where, said, maps)


def _versions(model: str) -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in (*ALWAYS, *RUNTIMES.get(Path(model).suffix.lower(), ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # the other of two packages of one runtime
            continue
    return found
