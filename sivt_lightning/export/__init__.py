"""`sivt export`: a trained model as one file for other runtimes, with a JSON side-car."""

import importlib
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from sivt_lightning.arguments import parse, verb_parser
from sivt_lightning.checkpoint import read_checkpoint
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.depth import Depth
from sivt_lightning.errors import SIVTError
from sivt_lightning.export import graph
from sivt_lightning.files import writable_folder, write_whole
from sivt_lightning.model.detector import Detector
from sivt_lightning.runtimes import restore_detector
from sivt_lightning.sidecar import SideCar, sha256_of, side_car_path
from sivt_lightning.thresholds import Thresholds

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "bf16", "int8"]
Images = list[Float[Tensor, "_ 3 S S"]]

SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
PRECISIONS = {"onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8"), "torch": ("fp32", "bf16")}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino"), "torch": ()}


def export(args: Sequence[str]) -> int:
    """`sivt export --ckpt_path FILE --format FORMAT`: the files, and what to type next."""
    parser = verb_parser("export")
    parser.add_argument("--ckpt_path", type=str, required=True, help="The trained model, such as best.ckpt.")
    parser.add_argument("--format", type=Format, required=True, help="onnx, openvino or torch (torch.export).")
    told = "fp32; bf16 (openvino, torch), faster on processors that have it; int8 (onnx, openvino), faster still."
    parser.add_argument("--precision", type=Precision, default="fp32", help=told)
    told = "File to write. Default: beside the checkpoint, named after it and the precision."
    parser.add_argument("--output", type=str | None, help=told)
    told = "Folder of the products whose training images scale int8. Default: the one that the model was trained on."
    parser.add_argument("--calibration", type=str | None, help=told)
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
    images = _calibration_images(checkpoint, settings.calibration) if precision == "int8" else []
    print(f"Exporting {source} in {precision}, which takes about a minute.", flush=True)
    depth = checkpoint["datamodule_hyper_parameters"].get("depth")
    write_model(path, kind, precision, restore_detector(source, checkpoint), checkpoint["thresholds"], images, depth)
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
) -> None:
    """The model's files and their side-car, moved into place together. `images` scale int8.

    Raises SIVTError where the format has no such precision.
    """
    if precision not in PRECISIONS[kind]:
        raise SIVTError(f"precision {precision}: format {kind} has {', '.join(PRECISIONS[kind])}.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as temporary:
        made = Path(temporary, "model", path.name)
        made.parent.mkdir()
        _write(made, kind, precision, detector, images, Path(temporary, "plain.onnx"))
        files = sorted(made.parent.iterdir())
        backbone = detector.backbone
        side_car = SideCar(
            kind,
            precision,
            depth,
            backbone.image_size,
            backbone.mean.flatten().tolist(),
            backbone.std.flatten().tolist(),
            Thresholds.from_plain(thresholds),
            sum(len(batch) for batch in images),
            {file.name: sha256_of(file) for file in files},
            {name: version(name) for name in ("sivt-lightning", "torch", *PACKAGES[kind])},
        )
        for file in files:
            file.replace(path.with_name(file.name))
    write_whole(side_car_path(path), side_car.text())


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
    needed = [*PACKAGES[kind], *(["nncf"] if (kind, precision) == ("openvino", "int8") else [])]
    for name in needed:
        try:
            with graph.quiet():
                importlib.import_module(name)
        except ImportError as error:
            raise SIVTError(
                f"format {kind} needs the package {name}: pip install 'sivt-lightning[{kind}]' brings it."
            ) from error


def _calibration_images(checkpoint: dict[str, Any], root: str | None) -> Images:
    """Training images, as many as a new model's channels are measured on."""
    settings = dict(checkpoint["datamodule_hyper_parameters"])
    if root is not None:
        settings |= {"root": root, "categories": None}
    if settings["root"] is None or not Path(settings["root"]).is_dir():
        raise SIVTError(
            f"int8 is scaled by training images, but {settings['root']} is no folder: name one with --calibration."
        )
    data = SIVTDataModule(**{name: value for name, value in settings.items() if not name.startswith("_")})
    data.setup("fit")
    return list(data.calibration_batches())
