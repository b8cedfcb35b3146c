"""What a model costs on this machine, in training and in use."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sivt_lightning.benchmark.counts import count_parameters, multiply_adds
from sivt_lightning.benchmark.machine import Machine
from sivt_lightning.benchmark.steps import image_loader, measure_growth, measure_training
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.models import Model
from sivt_lightning.model.detector import Detector
from sivt_lightning.model.precision import autocast, check_precision
from sivt_lightning.model.settings import names_of
from sivt_lightning.training.module import SIVT


def machine_of(device: str, precision: str, seconds: float) -> Machine:
    """A device by its name, "auto" for the GPU where there is one. Raises SIVTError for one that is not there."""
    if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise SIVTError(f"device {device}: choose cpu or auto, or cuda where there is a GPU.")
    name = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    return Machine(torch.device(name), check_precision(precision, name), seconds)


def measure(
    module: SIVT, machine: Machine, data: dict[str, Any], batch_sizes: Sequence[int], growth: bool
) -> Iterator[dict[str, Any]]:
    """The parts of a report, each as soon as it is measured.

    Args:
        module: the model.
        machine: where it is measured.
        data: settings of the data module that gives the training images.
        batch_sizes: of inference.
        growth: also training steps as settings grow.
    """
    detector = module.detector.to(machine.device)
    with tempfile.TemporaryDirectory() as folder:
        loader, images = image_loader(data | {"image_size": detector.backbone.image_size}, Path(folder))
        report: dict[str, Any] = {
            "machine": describe(machine) | {"multiply_adds_per_s": machine.matrix_rate()},
            "model": {key: module.hparams[key] for key in ("backbone", "image_size", *names_of("shape"))},
            "images": images,
            "parameters": count_parameters(module),
            "multiply_adds": multiply_adds(detector),
        }
        yield report
        operations = sum(report["multiply_adds"][part] for part in ("backbone", "reconstructor_fast", "memory_bank"))
        rated = operations / report["machine"]["multiply_adds_per_s"]
        yield measure_inference(
            in_precision(detector, machine), detector.backbone.image_size, machine, batch_sizes, rated
        )
        yield {"images": images} | measure_training(module, machine, loader, Path(folder), report)
    if growth:
        yield measure_growth(module, machine, data["batch_size"])


def measure_export(model: Model, seconds: float, batch_sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The parts of a report on an exported model, which can be used but not trained."""
    machine = Machine(model.device, model.precision, seconds)
    yield {"machine": describe(machine), "model": {"kind": model.about.kind, "image_size": model.about.image_size}}
    yield measure_inference(model, model.about.image_size, machine, batch_sizes)


def in_precision(detector: Detector, machine: Machine) -> Callable[[Tensor], object]:
    """The detector as it is used in the machine's precision."""

    def detect(images: Tensor) -> object:
        with autocast(machine.precision, machine.device.type):
            return detector(images)

    return detect


def describe(machine: Machine) -> dict[str, Any]:
    """The device and the precision."""
    gpu = machine.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(machine.device) if gpu else f"CPU, {torch.get_num_threads()} threads",
        "precision": machine.precision,
        "torch": torch.__version__,
    }


@torch.no_grad()
def measure_inference(
    detect: Callable[[Tensor], object],
    size: int,
    machine: Machine,
    batch_sizes: Sequence[int],
    rated_seconds: float | None = None,
) -> dict[str, Any]:
    """From decoded images to scores and smoothed maps.

    Args:
        detect: images of `size` x `size` pixels in, scores and maps out.
        rated_seconds: that an image would take at the machine's matrix rate; None where its operations are not known.
    """
    rows = []
    for batch_size in batch_sizes:
        images = torch.rand(batch_size, 3, size, size, device=machine.device)
        machine.reset_peak()
        seconds = machine.median_time(partial(detect, images))
        rows.append(
            {
                "batch_size": batch_size,
                "ms": 1e3 * seconds,
                "images_per_s": batch_size / seconds,
                "share_of_matrix_rate": None if rated_seconds is None else rated_seconds * batch_size / seconds,
                "peak_bytes": machine.peak_bytes(),
            }
        )
    return {"inference": rows}
