"""A trained model as one file for other runtimes, with a JSON side-car."""

import importlib
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from sivt_lightning.errors import SIVTError, listing
from sivt_lightning.export import graph
from sivt_lightning.export.kinds import PACKAGES, PRECISIONS, RUNTIMES, Format, Precision
from sivt_lightning.files import write_whole
from sivt_lightning.inference.about import About
from sivt_lightning.inference.calibration import FALSE_ALARMS, Calibration
from sivt_lightning.inference.good_photos import GoodPhotos
from sivt_lightning.inference.models import open_model
from sivt_lightning.inference.side_car import SideCar, sha256_of, side_car_path
from sivt_lightning.model.detector import Detector

FAR = 0.1  # of a threshold: narrow numbers move scores by hundredths
Images = list[Float[Tensor, "_ 3 S S"]]


def write_model(
    path: Path,
    kind: Format,
    precision: Precision,
    detector: Detector,
    about: About,
    images: Images,
    photos: GoodPhotos | None = None,
) -> SideCar:
    """The model's files and their side-car, moved into place together.

    Args:
        about: the checkpoint, which has a calibration or thresholds.
        images: that scale int8.
        photos: with which the file itself is calibrated; without, it has the calibration of the checkpoint.

    Raises SIVTError where the format has no such precision.
    """
    if precision not in PRECISIONS[kind]:
        raise SIVTError(f"precision {precision}: format {kind} has {', '.join(PRECISIONS[kind])}.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as temporary:
        made = Path(temporary, "model", path.name)
        made.parent.mkdir()
        residual = bool(about.inspection.regions) or about.tiles.cut
        _write(made, kind, precision, detector, images, Path(temporary, "plain.onnx"), residual)
        files = sorted(made.parent.iterdir())
        backbone = detector.backbone
        side_car = SideCar(
            kind,
            precision,
            about.depth,
            backbone.image_size,
            backbone.mean.flatten().tolist(),
            backbone.std.flatten().tolist(),
            about.calibration,
            None if about.calibration else about.thresholds,
            "the scores of the checkpoint, not of this file",
            sum(len(batch) for batch in images),
            {"model": dict(about.model), "data": dict(about.data), "training": dict(about.training)},
            {file.name: sha256_of(file) for file in files},
            {name: version(name) for name in ("sivt-lightning", "torch", *PACKAGES[kind])},
            about.inspection,
            residual,
        )
        if photos is not None:
            side_car = _calibrated(side_car, made, photos)
        for file in files:
            file.replace(path.with_name(file.name))
    write_whole(side_car_path(path), side_car.text())
    return side_car


def _calibrated(side_car: SideCar, made: Path, photos: GoodPhotos) -> SideCar:
    """With the file's own scores: others than the checkpoint's, if only in their last digits."""
    write_whole(side_car_path(made), side_car.text())  # without which the file would not be opened
    before = side_car.calibration
    measured = photos.measure(open_model(made), before.false_alarms if before else FALSE_ALARMS)
    kept: list[str] = []
    if before is not None:
        refuse_far(measured, before, photos)
        kept = sorted(before.products.keys() - measured.products.keys())
    runtime = RUNTIMES[side_car.format]
    where = photos.source or photos.data.root
    source = f"good photos in {where}, by the scores of this file in {runtime} {version(runtime)}"
    if kept:
        source += f"; of {listing(kept)}, which are not there, by the scores of the checkpoint"
    calibration = before.renewed(measured) if before is not None and kept else measured
    return replace(side_car, calibration=calibration, thresholds=None, calibrated_on=source)


def refuse_far(own: Calibration, before: Calibration, photos: GoodPhotos) -> None:
    """Raises SIVTError where thresholds on the photos of the checkpoint's calibration are far from the checkpoint's."""
    if own.source != before.source:
        return
    for name, product in own.products.items():
        theirs = before.products[name].score.threshold(before.false_alarms)
        ours = product.score.threshold(before.false_alarms)
        if abs(ours - theirs) > FAR * theirs:
            where = photos.source or photos.data.root
            raise SIVTError(
                f"The threshold of {name} is {ours:.4g} by the exported file's scores, but {theirs:.4g} by the "
                f"checkpoint's: {where} has changed since it was calibrated, or the precision is too narrow for this "
                "model. Name good photos with --calibration, or keep the checkpoint's with --keep_thresholds."
            )


def _write(
    made: Path, kind: Format, precision: Precision, detector: Detector, images: Images, plain: Path, residual: bool
) -> None:
    """`plain`: for the file in between that other kinds are made of. `residual`: whether it is an output, too."""
    if kind == "torch":
        graph.save_torch(detector, precision, made, residual)
        return
    if (kind, precision) == ("onnx", "fp32"):
        graph.save_onnx(detector, made, residual)
        return
    graph.save_onnx(detector, plain, residual)
    if precision == "int8":
        save_int8 = graph.save_openvino_int8 if kind == "openvino" else graph.save_onnx_int8
        save_int8(plain, images, made)
    elif kind == "openvino":
        graph.save_openvino(plain, made)


def require_packages(kind: Format, precision: Precision) -> None:
    """Raises SIVTError where one that a format needs is not installed."""
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
