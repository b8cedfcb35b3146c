"""`sivt export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.cli.quiet import quiet_lightning
from sivt_lightning.errors import SIVTError
from sivt_lightning.export.kinds import SUFFIXES, Format, Precision
from sivt_lightning.files import writable_folder

if TYPE_CHECKING:
    from sivt_lightning.inference.about import About
    from sivt_lightning.inference.good_photos import GoodPhotos


def run(args: Sequence[str]) -> int:
    """`sivt export --ckpt_path FILE --format FORMAT`: the files, and what to type next."""
    parser = verb_parser("export")
    parser.add_argument("--ckpt_path", type=str, required=True, help="The trained model, such as best.ckpt.")
    parser.add_argument("--format", type=Format, required=True, help="onnx, openvino or torch (torch.export).")
    text = "fp32; bf16 (openvino, torch), faster on processors that have it; int8 (onnx, openvino), faster still."
    parser.add_argument("--precision", type=Precision, default="fp32", help=text)
    text = "File to write. Default: beside the checkpoint, named after it and the precision."
    parser.add_argument("--output", type=str | None, help=text)
    text = "Data set, split as in training: its images calibrate the file and scale int8. Default: as the checkpoint's."
    parser.add_argument("--calibration", type=str | None, help=text)
    text = "Keep the checkpoint's calibration, from whose scores those of the file differ slightly."
    parser.add_argument("--keep_thresholds", action="store_true", help=text)
    parser.add_argument("--overwrite", action="store_true", help="Replace an earlier export.")
    settings = parse(parser, args)
    from sivt_lightning.export.model_files import require_packages, write_model
    from sivt_lightning.inference.about import of_checkpoint
    from sivt_lightning.inference.calibrated import check_free
    from sivt_lightning.inference.checkpoint import read_checkpoint
    from sivt_lightning.inference.checkpoint_model import restore_detector
    from sivt_lightning.inference.judge import Asked
    from sivt_lightning.inference.side_car import side_car_path

    quiet_lightning()
    source, kind, precision = Path(settings.ckpt_path), settings.format, settings.precision
    suffix = SUFFIXES[kind]
    named = source.with_name(source.stem + ("" if precision == "fp32" else f"-{precision}") + suffix)
    path = named if settings.output is None else Path(settings.output)
    if path.suffix != suffix:
        raise SIVTError(f"output {path}: a model for {kind} ends in {suffix}.")
    require_packages(kind, precision)
    checkpoint = read_checkpoint(str(source))
    about = of_checkpoint(checkpoint)
    about.judge(Asked(), source)  # or it has nothing to judge by
    writable_folder(path.parent)
    check_free(path, settings.overwrite)
    measures = not settings.keep_thresholds
    if settings.calibration is not None and not measures and precision != "int8":
        raise SIVTError(
            f"calibration {settings.calibration}: nothing is measured with --keep_thresholds in {precision}."
        )
    photos = _photos(about, settings) if measures or precision == "int8" else None
    images = photos.scaling() if photos and precision == "int8" else []
    print(f"Exporting {source} in {precision}, which takes about a minute.", flush=True)
    detector = restore_detector(source, checkpoint)
    side_car = write_model(path, kind, precision, detector, about, images, photos if measures else None)
    print(f"Thresholds are of {side_car.calibrated_on}.")
    if side_car.calibration is not None and (said := side_car.calibration.promise(about.categories)):
        print(said)
    print(f"Written: {path} {side_car_path(path)}")
    print(f'In Python: Predictor("{path}")')
    return 0


def _photos(about: "About", settings: Any) -> "GoodPhotos":
    """Those that calibrate the file, and scale int8."""
    from sivt_lightning.inference.good_photos import GoodPhotos

    remedy = "Name where they are now with --calibration"
    remedy += "." if settings.precision == "int8" else ", or keep the checkpoint's calibration with --keep_thresholds."
    if settings.calibration is None:
        return GoodPhotos.again(about, remedy)
    return GoodPhotos.of_training(about, settings.calibration, remedy)
