"""A model's file with another calibration."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sivt_lightning.errors import SIVTError
from sivt_lightning.files import whole, write_whole
from sivt_lightning.inference.about import EXPORTS
from sivt_lightning.inference.calibration import Calibration
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.inference.formats import FORMAT
from sivt_lightning.inference.side_car import read_side_car, side_car_path


def write_calibrated(model: Path, calibration: Calibration, target: Path) -> None:
    """The model in `model` with this calibration, in `target`, which may be the same file.

    Raises SIVTError where it cannot be written.
    """
    try:
        if model.suffix.lower() in EXPORTS:
            _write_export(model, calibration, target)
        else:
            _write_checkpoint(read_checkpoint(str(model)), calibration, target)
    except (OSError, RuntimeError) as error:  # torch's writer says RuntimeError of a full disk
        raise SIVTError(f"{target} cannot be written ({error}). Make room, then run `sivt calibrate`.") from error


def check_free(model: Path, overwrite: bool) -> None:
    """Raises SIVTError where a file of a model of this name is there and may not be replaced."""
    weights = [model.with_suffix(".bin")] if model.suffix.lower() == ".xml" else []
    side_car = [side_car_path(model)] if model.suffix.lower() in EXPORTS else []
    for file in (model, *weights, *side_car):
        if file.is_dir():
            raise SIVTError(f"{file} is a folder: name a file with --output.")
        if file.exists() and not overwrite:
            raise SIVTError(f"{file} exists: add --overwrite to replace it, or name another file with --output.")


def _write_checkpoint(contents: Mapping[str, Any], calibration: Calibration, target: Path) -> None:
    with whole(target) as part:
        torch.save({**contents, "format_number": FORMAT, "calibration": calibration.plain()}, part)


def _write_export(model: Path, calibration: Calibration, target: Path) -> None:
    side_car = read_side_car(model)
    moved = {}
    for name, digest in side_car.sha256.items():
        suffix = Path(name).suffix
        main = suffix == model.suffix.lower()  # as `read_side_car` finds them
        source, file = (one if main else one.with_name(one.stem + suffix) for one in (model, target))
        if file.resolve() != source.resolve():
            with whole(file) as part:
                shutil.copyfile(source, part)
        moved[target.stem + suffix] = digest
    by = f"good photos in {calibration.source}" if calibration.source else "the held-out photos of the training"
    new = replace(side_car, calibration=calibration, thresholds=None, sha256=moved, calibrated_on=f"{by}, by this file")
    write_whole(side_car_path(target), new.text())
