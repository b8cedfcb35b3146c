"""The JSON file beside an exported model: what whoever runs it has to know."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sivt_lightning.data.depth import Depth, white_of
from sivt_lightning.data.grid import Tiles
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.calibration import Calibration
from sivt_lightning.inference.formats import FORMAT, format_of
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.inference.thresholds import Thresholds


@dataclass(frozen=True)
class SideCar:
    """How an exported model is fed and read. The thresholds stand here, not in the graph.

    Args:
        format: "onnx", "openvino" or "torch".
        precision: "fp32", "bf16" or "int8".
        depth: of photos of more than 8 bits, see `data.depth`; None where the model knows of none.
        image_size: S of the model's input, float32 (batch, 3, S, S), RGB in [0, 1].
        mean: of each channel, which the graph subtracts.
        std: by which the graph then divides.
        calibration: what turns scores into verdicts, None where the checkpoint had none.
        thresholds: what did so before there were calibrations; None where there is one.
        calibrated_on: on which images they were found, and by whose scores.
        calibration_images: training images by which int8 was scaled; 0 for other precisions.
        settings: of "model", "data" and "training", see `inference.about`; none in files of format 0.
        sha256: of each of the model's files, by name.
        versions: of the packages that made it.
        inspection: which part of each product's photos counts.
        residual: whether it is an output, too: maps of regions and of tiles are made of it.
    """

    format: str
    precision: str
    depth: Depth | None
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    calibration: Calibration | None
    thresholds: Thresholds | None
    calibrated_on: str
    calibration_images: int
    settings: dict[str, dict[str, Any]]
    sha256: dict[str, str]
    versions: dict[str, str]
    inspection: Inspection = field(default_factory=Inspection)
    residual: bool = False

    def text(self) -> str:
        """As JSON."""
        size = self.image_size
        contents = {
            "format_number": FORMAT,
            "format": self.format,
            "precision": self.precision,
            "input": {
                "name": "images",
                "type": "float32",
                "layout": "NCHW",
                "shape": ["batch", 3, size, size],
                "colours": "RGB, 0 to 1",
                "depth": self.depth,
                "white": None if self.depth in (None, "bytes") else white_of(self.depth),
                "tiles": Tiles.of(self.settings.get("data", {})).text,
                "resize": "to exactly this size, bilinear and antialiased (Pillow's BILINEAR)",
            },
            "normalization": {"mean": list(self.mean), "std": list(self.std), "done_by": "the model"},
            "outputs": {"score": ["batch"], "map": ["batch", size, size], "descriptor": ["batch", "channels"]}
            | ({"residual": ["batch", "rows", "columns"]} if self.residual else {}),
            "calibrated_on": self.calibrated_on,
            "calibration": self.calibration and self.calibration.plain(),
            # For programs without this package: what follows from the calibration.
            "limits": self.calibration and self.calibration.limits(),
            "thresholds": self.thresholds and asdict(self.thresholds),
            # PNGs, white where it is inspected: map and score are made of the residuals there. Of the map's size, for a
            # model with tiles four times as large.
            "regions": self.inspection.plain(),
            "calibration_images": self.calibration_images,
            "settings": self.settings,
            "sha256": self.sha256,
            "versions": self.versions,
        }
        return json.dumps(contents, indent=2) + "\n"


def side_car_path(model: Path) -> Path:
    """`best.onnx.json` of `best.onnx`."""
    return model.with_name(f"{model.name}.json")


def read_side_car(model: Path) -> SideCar:
    """That of a model, whose files are held against it: they may be renamed together, but not changed.

    Raises SIVTError where it is missing or damaged, or the files are not those that it was written for.
    """
    if not model.is_file():
        fault = "it is a folder" if model.is_dir() else "there is no such file"
        raise SIVTError(f"Model {model}: {fault}. `sivt export` prints the path of the file that it writes.")
    path = side_car_path(model)
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        format_of(contents, f"Model {model}")
        settings = dict(contents.get("settings", {}))
        side_car = SideCar(
            contents["format"],
            contents["precision"],
            contents["input"].get("depth"),
            int(contents["input"]["shape"][-1]),
            contents["normalization"]["mean"],
            contents["normalization"]["std"],
            None if (calibration := contents.get("calibration")) is None else Calibration.from_plain(calibration),
            None if (thresholds := contents["thresholds"]) is None else Thresholds.from_plain(thresholds),
            contents.get("calibrated_on") or contents["thresholds_from"],  # as formats 0 and 1 called it
            contents["calibration_images"],
            settings,
            dict(contents["sha256"]),
            contents["versions"],
            Inspection.from_plain(contents.get("regions", {}), settings.get("model", {})),
            "residual" in contents.get("outputs", {}),
        )
    except FileNotFoundError as error:
        raise SIVTError(f"Model {model}: its {path.name} is missing, which `sivt export` writes beside it.") from error
    except SIVTError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise SIVTError(f"Model {model}: {path.name} is damaged. Export the model again.") from error
    if model.suffix.lower() not in {Path(name).suffix for name in side_car.sha256}:
        raise SIVTError(f"Model {model}: {path.name} is of another model. Export the model again.")
    for name, expected in side_car.sha256.items():
        suffix = Path(name).suffix
        # Whatever the model was called when it was exported.
        file = model if suffix == model.suffix.lower() else model.with_name(model.stem + suffix)
        if not file.is_file():
            raise SIVTError(f"Model {model}: its file {file.name} is missing. Put it there, or export the model again.")
        if sha256_of(file) != expected:
            raise SIVTError(
                f"Model {model}: {file.name} is not the file that {path.name} was written for. Export it again."
            )
    return side_car


def sha256_of(path: Path) -> str:
    """In hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
