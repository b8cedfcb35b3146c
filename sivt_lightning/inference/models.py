"""Trained models as they are run: each file that holds one, opened as pixels in, scores and maps out."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.inference.about import EXPORTS, About, of_checkpoint
from sivt_lightning.inference.checkpoint import fingerprint, read_checkpoint
from sivt_lightning.inference.runtimes import RUNTIMES, torch_device
from sivt_lightning.model.detector import Detection, Detector, build_detector
from sivt_lightning.model.precision import autocast, check_precision
from sivt_lightning.model.settings import ModelSettings


@runtime_checkable
class Model(Protocol):
    """A trained model: RGB images with values in [0, 1] to scores and maps, on the CPU; and what goes with it.

    Args:
        about: what its file says of it.
        precision: in which it computes: that of its file, or for a checkpoint another that was asked for.
        device: where it computes.
    """

    about: About
    precision: str
    device: torch.device

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection: ...

    def identity(self) -> str:
        """Hexadecimal digits that no other model has."""
        ...


def open_model(path: Path, device: str | None = None, precision: str | None = None) -> Model:
    """The model in a file of `sivt fit` or `sivt export`. Raises SIVTError where it cannot be run.

    Args:
        device: where torch computes a checkpoint, by default the GPU, where there is one. Exports are computed by
            default on the CPU; torch takes any of its devices, ONNX Runtime "cuda", OpenVINO one of its own.
        precision: of a checkpoint, instead of that of its training.
    """
    if kind := EXPORTS.get(path.suffix.lower()):
        return RUNTIMES[kind](path, device, precision)
    return CheckpointModel(path, device, precision)


class CheckpointModel:
    """What `sivt fit` has saved, run by torch in the precision of its training, or another."""

    def __init__(self, path: Path, device: str | None, precision: str | None) -> None:
        checkpoint = read_checkpoint(str(path))
        self.about = of_checkpoint(checkpoint)
        self.device = torch_device(device)
        self.precision = check_precision(precision or self.about.precision, self.device.type)
        self.detector = restore_detector(path, checkpoint).to(self.device)

    @torch.inference_mode()
    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        with autocast(self.precision, self.device.type):
            scores, maps = self.detector(images.to(self.device))
        return Detection(scores.float().cpu(), maps.float().cpu())

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
