"""Exported models, each run by the runtime that its file is made for."""

import functools
import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.inference.about import of_side_car
from sivt_lightning.inference.side_car import read_side_car
from sivt_lightning.inference.torch_program import TorchProgram
from sivt_lightning.model.detection import Detection

# Of an export. One of format 0 or 1 has no descriptor, and one of a model without regions of interest no residual.
OUTPUTS = Detection._fields


class ExportedModel(ABC):
    """What exports have in common: a side-car, and one precision."""

    def __init__(self, path: Path, precision: str | None) -> None:
        self.side_car = read_side_car(path)
        if precision is not None:
            raise SIVTError(
                f"precision {precision}: {path} was exported in {self.side_car.precision}; export it in another."
            )
        self.about = of_side_car(self.side_car)
        self.precision, self.device = self.side_car.precision, torch.device("cpu")

    @abstractmethod
    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection: ...

    def identity(self) -> str:
        return " ".join(self.side_car.sha256.values())


class ONNXModel(ExportedModel):
    """A .onnx file, run by ONNX Runtime on the CPU, or on "cuda" where its package for GPUs is installed."""

    def __init__(self, path: Path, device: str | None, precision: str | None) -> None:
        super().__init__(path, precision)
        runtime = _package("onnxruntime", path, "onnx")
        provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device or "cpu")
        if provider not in runtime.get_available_providers():
            raise SIVTError(f"device {device}: this ONNX Runtime has it not; give cpu, or cuda with onnxruntime-gpu.")
        self.session = _opened(path, lambda: runtime.InferenceSession(str(path), providers=[provider]))
        if provider not in self.session.get_providers():  # it would run on the CPU instead
            raise SIVTError(f"device {device}: ONNX Runtime cannot use it here. Check its driver, or give cpu.")
        there = {output.name for output in self.session.get_outputs()}
        self.outputs = [name for name in OUTPUTS if name in there]

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        outputs = self.session.run(self.outputs, {"images": images.cpu().numpy()})
        return Detection(*map(torch.from_numpy, outputs))


class OpenVINOModel(ExportedModel):
    """A .xml file and its .bin, run by OpenVINO on "cpu" or another of its devices, such as "gpu".

    An image alone is computed by all processors. The images of a batch are computed by one or few each, several at a
    time: processors that share an image wait for one another at every layer, the longer the busier they are.
    """

    def __init__(self, path: Path, device: str | None, precision: str | None) -> None:
        super().__init__(path, precision)
        self.openvino = _package("openvino", path, "openvino")
        core, size = _core_of(self.openvino), self.about.image_size
        known = [name.lower() for name in core.available_devices]
        chosen = (device or "cpu").lower()
        if chosen not in known:
            raise SIVTError(f"device {device}: OpenVINO finds {', '.join(known)} on this machine; give one of these.")
        # int8 is of the linear layers; the others are computed as bf16 has them.
        hints = {"INFERENCE_PRECISION_HINT": "f32" if self.precision == "fp32" else "bf16"}

        def compiled(aim: str) -> Any:
            model = core.read_model(path)
            model.reshape([1, 3, size, size])  # of a number of images that may change, sorting takes five times as long
            return core.compile_model(model, chosen.upper(), hints | {"PERFORMANCE_HINT": aim})

        self._compiled = compiled
        self.alone = _opened(path, lambda: compiled("LATENCY"))
        there = set().union(*(output.get_names() for output in self.alone.outputs))
        self.outputs = [name for name in OUTPUTS if name in there]

    @functools.cached_property
    def together(self) -> Any:
        """For batches; made with the first."""
        return self.openvino.AsyncInferQueue(self._compiled("THROUGHPUT"))

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        pixels = images.cpu().numpy()
        if len(pixels) == 1:
            outputs = self.alone(pixels)
            return Detection(*(torch.from_numpy(outputs[name].copy()) for name in self.outputs))
        found = [np.empty((len(pixels), *self.alone.output(name).shape[1:]), np.float32) for name in self.outputs]

        def keep(request: Any, position: int) -> None:
            for values, name in zip(found, self.outputs, strict=True):
                values[position] = request.get_tensor(name).data[0]

        self.together.set_callback(keep)
        for position in range(len(pixels)):
            self.together.start_async({"images": pixels[position : position + 1]}, position)
        self.together.wait_all()
        return Detection(*map(torch.from_numpy, found))


class TorchModel(ExportedModel):
    """A .pt2 file, computed by torch on the CPU, or on another of its devices."""

    def __init__(self, path: Path, device: str | None, precision: str | None) -> None:
        super().__init__(path, precision)
        self.device = torch_device(device or "cpu")
        self.program = _opened(path, lambda: self._tried(TorchProgram(path, self.device)))

    def __call__(self, images: Float[Tensor, "B 3 S S"]) -> Detection:
        return Detection(*(part.cpu() for part in self.program(images)))

    def _tried(self, program: TorchProgram) -> TorchProgram:
        """Raises where it fails, or ends in anything but scores and maps: the other runtimes tell as they open it."""
        size = self.about.image_size
        ends = program(torch.zeros(1, 3, size, size))
        shapes = [tuple(part.shape) for part in ends]
        known = shapes[:2] == [(1,), (1, size, size)] and [*map(len, shapes[2:])] == [2, 3][: len(shapes) - 2]
        if not known or {part.dtype for part in ends} != {torch.float32}:
            raise ValueError("it does not end in scores, maps and descriptors")
        return program


RUNTIMES: dict[str, Callable[[Path, str | None, str | None], ExportedModel]] = {
    "onnx": ONNXModel,
    "openvino": OpenVINOModel,
    "torch": TorchModel,
}


@functools.cache
def _core_of(openvino: Any) -> Any:
    """One for the process, which is never given up.

    Each gives its thread another stack for signals, and when it ends the one from before. Of two that end in the order
    in which they began, the second gives back the stack of the first, which is no more: at the next signal that Python
    handles, Ctrl-C say, the system ends the process with a segmentation fault. Seen in OpenVINO 2026.4.
    """
    return openvino.Core()


def torch_device(name: str | None) -> torch.device:
    """By default the GPU, where there is one. Raises SIVTError for one that there is not."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).cpu()  # a name is taken whether or not the device is there
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SIVTError(f"device {name}: there is no such device here; give cpu, cuda or cuda:1, say.") from error
    return device


def silence_onnxruntime() -> None:
    """ONNX Runtime keeps a number of the device, and events, in the user's cache. To be called before it is loaded.

    Seen in 1.32.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _package(name: str, path: Path, extra: str) -> Any:
    silence_onnxruntime()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SIVTError(f"{path} is run by {name}: pip install 'sivt-lightning[{extra}]' brings it.") from error


def _opened(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # runtimes raise what they like at a damaged or foreign file
        raise SIVTError(f"Model {path} cannot be opened: {first_line(error)}. Export it again.") from error
