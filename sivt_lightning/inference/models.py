"""Trained models as they are run: each file that holds one, opened as pixels in, scores and maps out."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.inference.about import EXPORTS, About
from sivt_lightning.inference.runtimes import RUNTIMES
from sivt_lightning.model.detection import Detection


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
    from sivt_lightning.inference.checkpoint_model import CheckpointModel  # with timm, which an export needs not

    return CheckpointModel(path, device, precision)
