"""A checkpoint as it is run, by torch."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.inference.about import of_checkpoint
from sivt_lightning.inference.checkpoint import fingerprint, read_checkpoint
from sivt_lightning.inference.replaying import Replaying, on_cpu
from sivt_lightning.inference.runtimes import torch_device
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.detector import Detector, build_detector
from sivt_lightning.model.precision import autocast, check_precision
from sivt_lightning.model.settings import ModelSettings


class CheckpointModel:
    """What `sivt fit` has saved, run by torch in the precision of its training, or another."""

    def __init__(self, path: Path, device: str | None, precision: str | None) -> None:
        checkpoint = read_checkpoint(str(path))
        self.about = of_checkpoint(checkpoint)
        self.device = torch_device(device)
        self.precision = check_precision(precision or self.about.precision, self.device.type)
        self.detector = restore_detector(path, checkpoint).to(self.device)
        self.replaying = Replaying(self._compute, self.device) if self.device.type == "cuda" else None

    @torch.inference_mode()
    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        return self.replaying(images) if self.replaying else on_cpu(self._compute(images.to(self.device)))

    def _compute(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        with autocast(self.precision, self.device.type):
            return self.detector(images)

    def identity(self) -> str:
        return fingerprint(self.detector.state_dict()).hex()


def restore_detector(path: Path, checkpoint: dict[str, Any]) -> Detector:
    """The detector in the contents of a checkpoint, in eval mode."""
    own = "detector."
    try:
        with torch.random.fork_rng(devices=[]):  # whose numbers are the caller's
            detector = build_detector(ModelSettings(**checkpoint["hyper_parameters"]), restored=True)
    except SIVTError:
        raise
    except Exception as error:  # a number where a name should stand fails anywhere
        raise SIVTError(f"Checkpoint {path}: its settings are damaged ({first_line(error)}). Give another.") from error
    weights = {name.removeprefix(own): value for name, value in checkpoint["state_dict"].items()}
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        raise SIVTError(f"Checkpoint {path}: its weights do not fit its settings. Train the model again.") from error
    return detector.eval()
