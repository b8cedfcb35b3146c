"""`sivt export`: a trained model as one file for other runtimes, with a JSON side-car."""

import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.data.depth import Depth
from sivt_lightning.errors import SIVTError
from sivt_lightning.export import graph
from sivt_lightning.export.photos import Photos, measured
from sivt_lightning.files import writable_folder, write_whole
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.inference.runtimes import open_model, restore_detector
from sivt_lightning.inference.side_car import SideCar, sha256_of, side_car_path
from sivt_lightning.inference.thresholds import Thresholds
from sivt_lightning.model.detector import Detection, Detector

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "bf16", "int8"]
Images = list[Float[Tensor, "_ 3 S S"]]

SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
PRECISIONS = {"onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8"), "torch": ("fp32", "bf16")}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino"), "torch": ()}
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}


def export(args: Sequence[str]) -> int:
    """`sivt export --ckpt_path FILE --format FORMAT`: the files, and what to type next."""
    parser = verb_parser("export")
    parser.add_argument("--ckpt_path", type=str, required=True, help="The trained model, such as best.ckpt.")
    parser.add_argument("--format", type=Format, required=True, help="onnx, openvino or torch (torch.export).")
    told = "fp32; bf16 (openvino, torch), faster on processors that have it; int8 (onnx, openvino), faster still."
    parser.add_argument("--precision", type=Precision, default="fp32", help=told)
    told = "File to write. Default: beside the checkpoint, named after it and the precision."
    parser.add_argument("--output", type=str | None, help=told)
    told = "Data set, split as in training: held-out images set the thresholds, others scale int8. Default: training's."
    parser.add_argument("--calibration", type=str | None, help=told)
    told = "Keep the thresholds found with the checkpoint's scores, from which those of the file differ slightly."
    parser.add_argument("--keep_thresholds", action="store_true", help=told)
    parser.add_argument("--overwrite", action="store_true", help="Replace an earlier export.")
    settings = parse(parser, args)
    source, kind, precision = Path(settings.ckpt_path), settings.format, settings.precision
    suffix = SUFFIXES[kind]
    named = source.with_name(source.stem + ("" if precision == "fp32" else f"-{precision}") + suffix)
    path = named if settings.output is None else Path(settings.output)
    if path.suffix != suffix:
        raise SIVTError(f"output {path}: a model for {kind} ends in {suffix}.")
    _require_packages(kind, precision)
    checkpoint = read_checkpoint(str(source))
    if checkpoint["thresholds"] is None:
        raise SIVTError(f"Checkpoint {source}: saved before thresholds were found. Take the best.ckpt beside it.")
    writable_folder(path.parent)
    if path.exists() and not settings.overwrite:
        raise SIVTError(f"{path} exists: add --overwrite to replace it, or name another file with --output.")
    measures = not settings.keep_thresholds
    if settings.calibration is not None and not measures and precision != "int8":
        raise SIVTError(
            f"calibration {settings.calibration}: nothing is measured with --keep_thresholds in {precision}."
        )
    photos = Photos(checkpoint, settings.calibration) if measures or precision == "int8" else None
    images = photos.training() if photos and precision == "int8" else []
    print(f"Exporting {source} in {precision}, which takes about a minute.", flush=True)
    detector, thresholds = restore_detector(source, checkpoint), checkpoint["thresholds"]
    depth = checkpoint["datamodule_hyper_parameters"]["depth"]
    held_out = photos if measures else None
    side_car = write_model(path, kind, precision, detector, thresholds, images, depth, held_out)
    found, kept = side_car.thresholds.pooled.image, thresholds["pooled"]["image"]
    print(f"Threshold: {found:.6g} (of the checkpoint: {kept:.6g}), from {side_car.thresholds_from}")
    if photos and measures:
        print(" ".join([f"The images are of {photos.root}.", side_car.thresholds.doubt([None])]).strip())
    print(f"Written: {path} {side_car_path(path)}")
    if kind != "torch":
        print(f'In Python: Predictor("{path}")')
    return 0


def write_model(
    path: Path,
    kind: Format,
    precision: Precision,
    detector: Detector,
    thresholds: dict[str, Any],
    images: Images,
    depth: Depth | None = None,
    held_out: Photos | None = None,
) -> SideCar:
    """The model's files and their side-car, moved into place together.

    `images` scale int8. The thresholds are measured on the file with `held_out`, or else those of the checkpoint.

    Raises SIVTError where the format has no such precision.
    """
    if precision not in PRECISIONS[kind]:
        raise SIVTError(f"precision {precision}: format {kind} has {', '.join(PRECISIONS[kind])}.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as temporary:
        made = Path(temporary, "model", path.name)
        made.parent.mkdir()
        _write(made, kind, precision, detector, images, Path(temporary, "plain.onnx"))
        files = sorted(made.parent.iterdir())
        backbone, kept = detector.backbone, Thresholds.from_plain(thresholds)
        side_car = SideCar(
            kind,
            precision,
            depth,
            backbone.image_size,
            backbone.mean.flatten().tolist(),
            backbone.std.flatten().tolist(),
            kept,
            f"{kept.pooled.images} held-out normal images, by the scores of the checkpoint, not of this file",
            sum(len(batch) for batch in images),
            {file.name: sha256_of(file) for file in files},
            {name: version(name) for name in ("sivt-lightning", "torch", *PACKAGES[kind])},
        )
        if held_out is not None:
            side_car = _measured(side_car, made, held_out)
        for file in files:
            file.replace(path.with_name(file.name))
    write_whole(side_car_path(path), side_car.text())
    return side_car


def _measured(side_car: SideCar, made: Path, held_out: Photos) -> SideCar:
    """With the thresholds of the file's own scores: others than the checkpoint's, if only in their last digits."""
    write_whole(side_car_path(made), side_car.text())  # without which the file would not be opened
    found = measured(_opened(made), held_out.held_out(), side_car.thresholds.quantile)
    held_out.check(found)
    runtime = RUNTIMES[side_car.format]
    told = f"{found.pooled.images} held-out normal images, by the scores of this file in {runtime} {version(runtime)}"
    return replace(side_car, thresholds=found, thresholds_from=told)


def _opened(path: Path) -> Callable[[Float[Tensor, "B 3 S S"]], Detection]:
    """The model in a file that was just written, which torch.export may load for that."""
    if path.suffix != ".pt2":
        return open_model(path)
    with graph.quiet():
        program = torch.export.load(path).module()

    @torch.inference_mode()
    def run(images: Float[Tensor, "B 3 S S"]) -> Detection:
        return Detection(*program(images))

    return run


def _write(made: Path, kind: Format, precision: Precision, detector: Detector, images: Images, plain: Path) -> None:
    if kind == "torch":
        graph.save_torch(detector, precision, made)
        return
    if (kind, precision) == ("onnx", "fp32"):
        graph.save_onnx(detector, made)
        return
    graph.save_onnx(detector, plain)
    if precision == "int8":
        save_int8 = graph.save_openvino_int8 if kind == "openvino" else graph.save_onnx_int8
        save_int8(plain, images, made)
    elif kind == "openvino":
        graph.save_openvino(plain, made)


def _require_packages(kind: Format, precision: Precision) -> None:
    graph.stay_silent()
    needed = [*PACKAGES[kind], *(["nncf"] if (kind, precision) == ("openvino", "int8") else [])]
    for name in needed:
        try:
            with graph.quiet():
                importlib.import_module(name)
        except ImportError as error:
            raise SIVTError(
                f"format {kind} needs the package {name}: pip install 'sivt-lightning[{kind}]' brings it."
            ) from error
