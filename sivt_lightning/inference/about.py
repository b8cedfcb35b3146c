"""What the file of a trained model says of it, whichever kind of file it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sivt_lightning.data.depth import Depth
from sivt_lightning.inference.checkpoint import fingerprint, read_checkpoint
from sivt_lightning.inference.side_car import SideCar, read_side_car
from sivt_lightning.inference.thresholds import Thresholds

EXPORTS = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}  # suffixes and what they are exported to


@dataclass(frozen=True)
class About:
    """Of one model.

    Args:
        kind: "checkpoint", or what it was exported to: "onnx", "openvino" or "torch".
        precision: that a checkpoint was trained in, such as "bf16-mixed", or an export computes in, such as "int8".
        image_size: S of the images that it takes.
        depth: of photos of more than 8 bits, see `data.depth`; None where it knows of none.
        thresholds: None where none has been found yet.
        model: settings by name, as in `ModelSettings`.
        data: settings of the data that it was trained on; with those of the model none where the file is of format 0.
        training: what else is known of its training.
    """

    kind: str
    precision: str
    image_size: int
    depth: Depth | None
    thresholds: Thresholds | None
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    training: Mapping[str, Any]

    @property
    def categories(self) -> list[str]:
        """Products that it was trained on, as far as thresholds were found."""
        return sorted(self.thresholds.categories) if self.thresholds else []


def read_about(path: str) -> About:
    """Reads a checkpoint's settings, or the side-car of an export. Raises SIVTError where it is no model."""
    if Path(path).suffix.lower() in EXPORTS:
        return of_side_car(read_side_car(Path(path)))
    return of_checkpoint(read_checkpoint(path))


def of_checkpoint(checkpoint: Mapping[str, Any]) -> About:
    """The contents of one."""
    model, data, stored = (
        checkpoint[name] for name in ("hyper_parameters", "datamodule_hyper_parameters", "thresholds")
    )
    weights = {name: value for name, value in checkpoint["state_dict"].items() if name.startswith("detector.backbone.")}
    known = {name: checkpoint.get(name) for name in ("precision", "epoch")}
    return About(
        "checkpoint",
        checkpoint["precision"],
        model["image_size"],
        data["depth"],
        Thresholds.from_plain(stored) if stored else None,
        model,
        {name: value for name, value in data.items() if not name.startswith("_")},
        checkpoint.get("training", {}) | known | {"backbone": fingerprint(weights).hex()[:16]},
    )


def of_side_car(side_car: SideCar) -> About:
    """That of an export."""
    settings = (side_car.settings.get(part, {}) for part in ("model", "data", "training"))
    return About(
        side_car.format, side_car.precision, side_car.image_size, side_car.depth, side_car.thresholds, *settings
    )
