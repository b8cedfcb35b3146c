"""`sivt benchmark`: what a model costs on this machine, in training and in use."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sivt_lightning.benchmark.counts import count_parameters, multiply_adds
from sivt_lightning.benchmark.machine import Machine
from sivt_lightning.benchmark.steps import image_loader, measure_growth, measure_training
from sivt_lightning.cli import arguments
from sivt_lightning.cli.arguments import given_option
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import writable_folder, write_whole
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.model.detector import Detector
from sivt_lightning.model.precision import autocast, check_precision
from sivt_lightning.model.settings import names_of
from sivt_lightning.report.cost import print_report
from sivt_lightning.training.module import SIVT


def benchmark(args: Sequence[str]) -> int:
    """`sivt benchmark`: tables on screen, and as JSON where asked for."""
    settings = parse(args)
    model, data = settings.model.as_dict(), settings.data.as_dict()
    if settings.device not in ("auto", "cpu", "cuda") or (settings.device == "cuda" and not torch.cuda.is_available()):
        raise SIVTError(f"device {settings.device}: choose cpu or auto, or cuda where there is a GPU.")
    if not settings.seconds > 0 or min(settings.batch_sizes, default=0) < 1:
        raise SIVTError("seconds and batch_sizes: give a time above 0, and one or more batches of 1 or more images.")
    if settings.json is not None:
        writable_folder(Path(settings.json).parent, "--json")
    name = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    precision = check_precision(str((settings.trainer or {}).get("precision", "32-true")), name)
    machine = Machine(torch.device(name), precision, settings.seconds)
    module = SIVT(**model)
    detector = module.detector.to(machine.device)
    with tempfile.TemporaryDirectory() as folder:
        loader, images = image_loader(data | {"image_size": detector.backbone.image_size}, Path(folder))
        report: dict[str, Any] = {
            "machine": describe(machine),
            "model": {key: model[key] for key in ("backbone", "image_size", *names_of("shape"))},
            "images": images,
            "parameters": count_parameters(module),
            "multiply_adds": multiply_adds(detector),
        }
        print_report(report)
        report |= measure_inference(detector, machine, settings.batch_sizes, report)
        print_report({"inference": report["inference"]})
        report |= measure_training(module, machine, loader, Path(folder), report)
        print_report({key: report[key] for key in ("images", "batch_size", "training")})
    if settings.growth:
        report |= measure_growth(module, machine, data["batch_size"])
        print_report({"growth": report["growth"]})
    if settings.json is not None:
        write_whole(Path(settings.json), json.dumps(report, indent=2) + "\n")
        print(f"Written: {settings.json}")
    return 0


def parse(args: Sequence[str]) -> Any:
    """Settings from flags, a config of `fit` or a checkpoint; a flag wins."""
    parser = arguments.verb_parser("benchmark")
    parser.add_argument("--config", action="config", help="A configuration of `sivt fit`, such as configs/sivt.yaml.")
    parser.add_argument("--ckpt_path", type=str | None, help="A checkpoint whose model and settings are measured.")
    parser.add_class_arguments(SIVT, "model", skip={"seed"})
    parser.add_class_arguments(SIVTDataModule, "data", skip={"image_size", "predict_path", "seed"})
    parser.add_argument("--trainer", type=dict[str, Any] | None, help="Of these, `precision` matters here.")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu or cuda.")
    parser.add_argument("--batch_sizes", type=list[int], default=[1, 4, 16], help="Batches of inference.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Least time for each figure.")
    parser.add_argument("--growth", type=bool, default=False, help="Also vary image size, groups, patch and batch.")
    parser.add_argument("--json", type=str | None, help="File for the figures.")
    path = given_option(args, "--ckpt_path")
    if path is not None:
        checkpoint = read_checkpoint(path)
        data = checkpoint["datamodule_hyper_parameters"]
        parser.set_defaults(
            {f"model.{key}": value for key, value in checkpoint["hyper_parameters"].items() if key != "seed"}
            | {f"data.{key}": data[key] for key in ("root", "categories", "batch_size", "num_workers")}
            | {"trainer": {"precision": checkpoint["precision"]}}
        )
    return arguments.parse(parser, args)


def describe(machine: Machine) -> dict[str, Any]:
    """The device, and how fast it multiplies."""
    gpu = machine.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(machine.device) if gpu else f"CPU, {torch.get_num_threads()} threads",
        "precision": machine.precision,
        "torch": torch.__version__,
        "multiply_adds_per_s": machine.matrix_rate(),
    }


@torch.no_grad()
def measure_inference(
    detector: Detector, machine: Machine, batch_sizes: Sequence[int], report: dict[str, Any]
) -> dict[str, Any]:
    """From decoded images to scores and smoothed maps."""
    size, rows = detector.backbone.image_size, []
    operations = report["multiply_adds"]["backbone"] + report["multiply_adds"]["reconstructor_fast"]
    for batch_size in batch_sizes:
        images = torch.rand(batch_size, 3, size, size, device=machine.device)
        machine.reset_peak()

        def detect(images: Tensor = images) -> None:
            with autocast(machine.precision, machine.device.type):
                detector(images)

        seconds = machine.median_time(detect)
        rows.append(
            {
                "batch_size": batch_size,
                "ms": 1e3 * seconds,
                "images_per_s": batch_size / seconds,
                "share_of_matrix_rate": operations * batch_size / seconds / report["machine"]["multiply_adds_per_s"],
                "peak_bytes": machine.peak_bytes(),
            }
        )
    return {"inference": rows}
