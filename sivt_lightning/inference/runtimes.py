"""Trained models as they are run: each file that holds one, opened as pixels in, scores and maps out."""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.data.depth import Depth
from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.inference.side_car import SideCar, read_side_car
from sivt_lightning.inference.thresholds import Thresholds
from sivt_lightning.model.detector import Detection, Detector, build_detector
from sivt_lightning.model.precision import autocast, check_precision
from sivt_lightning.model.settings import ModelSettings


@runtime_checkable
class Model(Protocol):
    """RGB images with values in [0, 1] to scores and maps, on the CPU; and what goes with them."""

    image_size: int
    depth: Depth | None  # of photos of more than 8 bits
    thresholds: Thresholds

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection: ...


def open_model(path: Path, device: str | None = None, precision: str | None = None) -> Model:
    """The model in a file of `sivt fit` or `sivt export`. Raises SIVTError where it cannot be run."""
    suffix = path.suffix.lower()
    if suffix == ".pt2":
        raise SIVTError(
            f"Model {path}: a .pt2 file is for torch.export.load. Give the checkpoint, or export it to onnx."
        )
    if suffix in EXPORTED:
        return EXPORTED[suffix](path, device, precision)
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
        self.depth: Depth | None = checkpoint["datamodule_hyper_parameters"]["depth"]

    @torch.inference_mode()
    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        with autocast(self.precision, self.device.type):
            found = self.detector(images.to(self.device))
        return Detection(*(part.float().cpu() for part in found))


class ONNXModel:
    """A .onnx file, run by ONNX Runtime on the CPU, or on "cuda" where its package for GPUs is installed."""

    def __init__(self, path: Path, device: str | None, precision: str | None) -> None:
        side_car = _side_car(path, precision)
        runtime = _package("onnxruntime", path, "onnx")
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device or "cpu")
        if provider not in runtime.get_available_providers():
            raise SIVTError(f"device {device}: this ONNX Runtime has it not; give cpu, or cuda with onnxruntime-gpu.")
        self.session = _opened(path, lambda: runtime.InferenceSession(str(path), providers=[provider]))
        if provider not in self.session.get_providers():  # it would run on the CPU instead
            raise SIVTError(f"device {device}: ONNX Runtime cannot use it here. Check its driver, or give cpu.")
        self.image_size, self.depth, self.thresholds = side_car.image_size, side_car.depth, side_car.thresholds

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        found = self.session.run(["score", "map"], {"images": images.numpy()})
        return Detection(*(torch.from_numpy(part) for part in found))


class OpenVINOModel:
    """A .xml file and its .bin, run by OpenVINO on "cpu" or another of its devices, such as "gpu"."""

    def __init__(self, path: Path, device: str | None, precision: str | None) -> None:
        side_car = _side_car(path, precision)
        core = _core_of(_package("openvino", path, "openvino"))
        known = [name.lower() for name in core.available_devices]
        chosen = (device or "cpu").lower()
        if chosen not in known:
            raise SIVTError(f"device {device}: OpenVINO finds {', '.join(known)} on this machine; give one of these.")
        # int8 is of the linear layers; the others are computed as bf16 has them.
        hints = {"INFERENCE_PRECISION_HINT": "f32" if side_car.precision == "fp32" else "bf16"}
        self.compiled = _opened(path, lambda: core.compile_model(str(path), chosen.upper(), hints))
        self.image_size, self.depth, self.thresholds = side_car.image_size, side_car.depth, side_car.thresholds

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        found = self.compiled(images.numpy())
        return Detection(*(torch.from_numpy(found[name].copy()) for name in ("score", "map")))


@functools.cache
def _core_of(openvino: Any) -> Any:
    """One for the process, which is never given up.

    Each gives its thread another stack for signals, and when it ends the one from before. Of two that end in the order
    in which they began, the second gives back the stack of the first, which is no more: at the next signal that Python
    handles, Ctrl-C say, the system ends the process with a segmentation fault. Seen in OpenVINO 2026.4.
    """
    return openvino.Core()


EXPORTED: dict[str, Callable[[Path, str | None, str | None], Model]] = {".onnx": ONNXModel, ".xml": OpenVINOModel}


def _side_car(path: Path, precision: str | None) -> SideCar:
    side_car = read_side_car(path)
    if precision is not None:
        raise SIVTError(f"precision {precision}: {path} was exported in {side_car.precision}; export it in another.")
    return side_car


def _package(name: str, path: Path, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SIVTError(f"{path} is run by {name}: pip install 'sivt-lightning[{extra}]' brings it.") from error


def _opened(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # runtimes raise what they like at a damaged or foreign file
        raise SIVTError(f"Model {path} cannot be opened: {first_line(error)}. Export it again.") from error


def torch_device(name: str | None) -> torch.device:
    """By default the GPU, where there is one. Raises SIVTError for one that there is not."""
    try:
        found = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=found).cpu()  # a name is taken whether or not the device is there
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SIVTError(f"device {name}: there is no such device here; give cpu, cuda or cuda:1, say.") from error
    return found


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
