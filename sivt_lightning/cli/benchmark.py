"""`sivt benchmark`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sivt_lightning.cli import arguments
from sivt_lightning.cli.quiet import quiet_lightning
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import writable_folder, write_whole

OF_TRAINING = ("--model.", "--data.", "--trainer", "--config", "--growth")


def run(args: Sequence[str]) -> int:
    """`sivt benchmark`: tables on screen, and as JSON where asked for."""
    settings = parse(args)
    from sivt_lightning.benchmark.measuring import machine_of, measure, measure_export
    from sivt_lightning.inference.models import open_model
    from sivt_lightning.report.cost import print_report
    from sivt_lightning.training.module import SIVT

    quiet_lightning()
    if not settings.seconds > 0 or min(settings.batch_sizes, default=0) < 1:
        raise SIVTError("seconds and batch_sizes: give a time above 0, and one or more batches of 1 or more images.")
    if settings.json is not None:
        writable_folder(Path(settings.json).parent, "--json")
    if is_export(settings.ckpt_path):
        device = None if settings.device == "auto" else settings.device
        parts = measure_export(open_model(Path(settings.ckpt_path), device), settings.seconds, settings.batch_sizes)
    else:
        precision = str((settings.trainer or {}).get("precision", "32-true"))
        machine = machine_of(settings.device, precision, settings.seconds)
        module, data = SIVT(**settings.model.as_dict()), settings.data.as_dict()
        parts = measure(module, machine, data, settings.batch_sizes, settings.growth)
    report: dict[str, Any] = {}
    for part in parts:
        print_report(part)
        report |= part
    if settings.json is not None:
        write_whole(Path(settings.json), json.dumps(report, indent=2) + "\n")
        print(f"Written: {settings.json}")
    return 0


def parse(args: Sequence[str]) -> Any:
    """Settings from flags, a config of `fit` or a checkpoint; a flag wins. An export has none."""
    from sivt_lightning.inference.checkpoint import read_checkpoint

    parser = build_parser()
    path = arguments.given_option(args, "--ckpt_path")
    if is_export(path):
        given = [argument.partition("=")[0] for argument in args if argument.startswith(OF_TRAINING)]
        if given:
            raise SIVTError(
                f"{given[0]}: {path} is an export, of which only the use is measured. Leave the option out."
            )
    elif path is not None:
        checkpoint = read_checkpoint(path)
        data = checkpoint["datamodule_hyper_parameters"]
        parser.set_defaults(
            {f"model.{key}": value for key, value in checkpoint["hyper_parameters"].items() if key != "seed"}
            | {f"data.{key}": data[key] for key in ("root", "categories", "batch_size", "num_workers")}
            | {"data.layout": data.get("layout")}  # which an earlier version had not
            | {"trainer": {"precision": checkpoint["precision"]}}
        )
    return arguments.parse(parser, args)


def is_export(path: str | None) -> bool:
    """Whether it is a file of `sivt export`, by its suffix."""
    from sivt_lightning.inference.about import EXPORTS

    return path is not None and Path(path).suffix.lower() in EXPORTS


def build_parser() -> arguments.ArgumentParser:
    """The options of a model and its data, which take torch to list, and those of what is measured."""
    from sivt_lightning.data.datamodule import SIVTDataModule
    from sivt_lightning.training.module import SIVT

    parser = arguments.verb_parser("benchmark")
    parser.add_argument("--config", action="config", help="A configuration of `sivt fit`, such as sivt.")
    parser.add_argument("--ckpt_path", type=str | None, help="A trained model: a checkpoint, or an export.")
    parser.add_class_arguments(SIVT, "model", skip={"seed"})
    parser.add_class_arguments(SIVTDataModule, "data", skip={"image_size", "predict_path", "seed"})
    parser.add_argument("--trainer", type=dict[str, Any] | None, help="Of these, `precision` matters here.")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu or cuda.")
    parser.add_argument("--batch_sizes", type=list[int], default=[1, 4, 16], help="Batches of inference.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Least time for each figure.")
    parser.add_argument("--growth", type=bool, default=False, help="Also vary image size, groups, patch and batch.")
    parser.add_argument("--json", type=str | None, help="File for the figures.")
    return parser
