"""What the file of a trained model says of it, whichever kind of file it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sivt_lightning.data.depth import Depth
from sivt_lightning.data.grid import Tiles
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.calibration import Calibration
from sivt_lightning.inference.checkpoint import fingerprint, read_checkpoint
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.inference.judge import Asked, Judge, judge_of
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
        calibration: what turns scores into verdicts, None where there is none.
        thresholds: what did so before there were calibrations, and does while a training runs; or None.
        model: settings by name, as in `ModelSettings`.
        data: settings of the data that it was trained on; with those of the model none where the file is of format 0.
        training: what else is known of its training.
        inspection: which part of each product's photos counts.
    """

    kind: str
    precision: str
    image_size: int
    depth: Depth | None
    calibration: Calibration | None
    thresholds: Thresholds | None
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    inspection: Inspection = field(default_factory=Inspection)

    @property
    def tiles(self) -> Tiles:
        """Into which it was trained to cut photos."""
        return Tiles.of(self.data)

    @property
    def known(self) -> Calibration | Thresholds | None:
        """What its verdicts rest on."""
        return self.calibration or self.thresholds

    @property
    def categories(self) -> list[str]:
        """Products that it knows."""
        if self.calibration is not None:
            return sorted(self.calibration.products)
        return sorted(self.thresholds.categories) if self.thresholds else []

    @property
    def held_out(self) -> dict[str, int]:
        """Good photos of each product that the training held out, as far as its numbers rest on those."""
        if self.calibration is not None and self.calibration.source:
            return {}
        if self.calibration is not None:
            return {name: product.score.held_out for name, product in self.calibration.products.items()}
        return {name: one.images for name, one in self.thresholds.categories.items()} if self.thresholds else {}

    def judge(self, asked: Asked, path: Path | str) -> Judge:
        """What makes verdicts of its scores. Raises SIVTError where it cannot give what is asked for."""
        if self.known is None:
            raise SIVTError(
                f"{path} holds no thresholds, so nothing can be called anomalous: it was saved before its training's "
                "first validation. Take one saved after it, such as best.ckpt, or add them: sivt calibrate --ckpt_path "
                f"{path}."
            )
        return judge_of(self.known, asked, self.inspection)


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
    calibration = checkpoint.get("calibration")
    weights = {name: value for name, value in checkpoint["state_dict"].items() if name.startswith("detector.backbone.")}
    known = {name: checkpoint.get(name) for name in ("precision", "epoch")}
    return About(
        "checkpoint",
        checkpoint["precision"],
        model["image_size"],
        data["depth"],
        None if calibration is None else Calibration.from_plain(calibration),
        None if stored is None else Thresholds.from_plain(stored),
        model,
        {name: value for name, value in data.items() if not name.startswith("_")},
        checkpoint.get("training", {}) | known | {"backbone": fingerprint(weights).hex()[:16]},
        Inspection.from_plain(checkpoint.get("regions", {}), model),
    )


def of_side_car(side_car: SideCar) -> About:
    """That of an export."""
    model, data, training = (side_car.settings.get(part, {}) for part in ("model", "data", "training"))
    return About(
        side_car.format,
        side_car.precision,
        side_car.image_size,
        side_car.depth,
        side_car.calibration,
        side_car.thresholds,
        model,
        data,
        training,
        side_car.inspection,
    )
