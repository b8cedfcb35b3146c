"""Trained models as they are run: each file that holds one, opened as pixels in, scores and maps out."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.checkpoint import read_checkpoint, require_settings
from sivt_lightning.errors import SIVTError
from sivt_lightning.model.detector import SETTINGS, Detection, Detector, build_detector
from sivt_lightning.precision import autocast, check_precision
from sivt_lightning.thresholds import Thresholds


@runtime_checkable
class Model(Protocol):
    """RGB images with values in [0, 1] to scores and maps, on the CPU; and what goes with them."""

    image_size: int
    thresholds: Thresholds

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection: ...


def open_model(path: Path, device: str | None = None, precision: str | None = None) -> Model:
    """The model in a file of `sivt fit`. Raises SIVTError where it cannot be run."""
    return CheckpointModel(path, device, precision)


class CheckpointModel:
    """What `sivt fit` has saved, run by torch in the precision of its training, or another."""

    def __init__(self, path: Path, device: str | None, precision: str | None) -> None:
        checkpoint = read_checkpoint(str(path))
        if checkpoint["thresholds"] is None:
            raise SIVTError(f"Checkpoint {path}: saved before thresholds were found. Take the best.ckpt beside it.")
        self.thresholds = Thresholds.from_plain(checkpoint["thresholds"])
        self.device = torch_device(device)
        self.precision = check_precision(precision or checkpoint["precision"], self.device.type)
        self.detector = restore_detector(path, checkpoint).to(self.device)
        self.image_size: int = self.detector.backbone.image_size

    @torch.inference_mode()
    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        with autocast(self.precision, self.device.type):
            found = self.detector(images.to(self.device))
        return Detection(*(part.float().cpu() for part in found))


def torch_device(name: str | None) -> torch.device:
    """By default the GPU, where there is one. Raises SIVTError for one that there is not."""
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise SIVTError(f"device {name}: there is no such device; give cpu, cuda or cuda:1, say.") from error


def restore_detector(path: Path, checkpoint: dict[str, Any]) -> Detector:
    """The detector in the contents of a checkpoint, in eval mode."""
    settings, own = checkpoint["hyper_parameters"], "detector."
    require_settings(str(path), settings, SETTINGS)
    detector = build_detector(**{name: settings[name] for name in SETTINGS})
    weights = {name.removeprefix(own): value for name, value in checkpoint["state_dict"].items()}
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        raise SIVTError(f"Checkpoint {path}: its weights do not fit its settings. Train the model again.") from error
    return detector.eval()
