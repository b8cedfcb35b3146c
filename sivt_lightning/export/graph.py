"""A detector as one graph: traced by torch, translated to ONNX and OpenVINO, scaled to int8."""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.runtimes import OUTPUTS, silence_onnxruntime
from sivt_lightning.inference.torch_program import TorchProgram
from sivt_lightning.model.detector import Detector

MOST_IMAGES = 256  # in a batch
NETWORK = "detector.backbone.", "detector.reconstructor."  # how names of their tensors in a file begin
OPSET = 23  # the first with attention as one operation, which runtimes compute as a whole


class Graph(nn.Module):
    """The detector's outputs as plain tensors, computed in this precision: "fp32" or "bf16".

    `residual`: also that, which regions of interest and tiles ask for.
    """

    def __init__(self, detector: Detector, precision: str, residual: bool = False) -> None:
        super().__init__()
        self.detector, self.precision, self.residual = detector.eval(), precision, residual

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            detection = self.detector(images)
        assert detection.descriptor is not None  # a detector gives all
        assert detection.residual is not None
        outputs = detection.score, detection.map, detection.descriptor
        return (*outputs, detection.residual) if self.residual else outputs


@torch.no_grad()
def traced(detector: Detector, precision: str, residual: bool = False) -> Any:
    """torch.export's program, for any number of images up to `MOST_IMAGES`."""
    size = detector.backbone.image_size
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    images = torch.zeros(2, 3, size, size)  # of one image torch would conclude that there is always one
    graph = Graph(detector, precision, residual)
    program = torch.export.export(graph, (images,), dynamic_shapes={"images": {0: batch}})
    return program.run_decompositions({})  # casts in place of regions of autocast, which a file cannot hold


def save_torch(detector: Detector, precision: str, path: Path, residual: bool = False) -> None:
    """A .pt2 file. Raises SIVTError where the network is made of what `TorchProgram` does not compute."""
    with quiet():
        torch.export.save(traced(detector, precision, residual), path)
    try:
        TorchProgram(path, torch.device("cpu"))
    except ValueError as error:
        raise SIVTError(
            f"format torch cannot hold a model with backbone {detector.backbone.name}: {error}. "
            "Export it to onnx or openvino."
        ) from error


def save_onnx(detector: Detector, path: Path, residual: bool = False) -> None:
    """In fp32, all in one file."""
    with quiet():
        program = torch.onnx.export(
            traced(detector, "fp32", residual),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=list(OUTPUTS if residual else OUTPUTS[:3]),
            external_data=False,
            verbose=False,
        )
        assert program is not None
        program.save(path)


def save_onnx_int8(source: Path, batches: Sequence[Float[Tensor, "_ 3 S S"]], path: Path) -> None:
    """The linear layers of an fp32 file in int8; convolutions, attention, and what makes the map stay as they are."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = _single_images(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"images": image}

    with quiet():
        quantize_static(
            str(source),
            str(path),
            Reader(),
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=sorted(_after_network(source)),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def save_openvino(source: Path, path: Path) -> None:
    """An fp32 ONNX file as .xml and .bin. bfloat16 is computed of the same file, where the processor has it."""
    stay_silent()
    import openvino

    openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)


def save_openvino_int8(source: Path, batches: Sequence[Float[Tensor, "_ 3 S S"]], path: Path) -> None:
    """The linear layers of an fp32 ONNX file in int8; convolutions, attention, and what makes the map stay as they
    are."""
    stay_silent()
    import nncf
    import openvino

    after = _after_network(source)
    with quiet():
        model = openvino.convert_model(source)
        images = list(_single_images(batches))
        kept = {node.get_type_name() for node in model.get_ops()} - {"MatMul", "Constant", "Parameter", "Result"}
        names = [node.get_friendly_name() for node in model.get_ops() if node.get_type_name() == "MatMul"]
        kept_names = [name for name in names if name.partition("/")[0] in after]
        small = nncf.quantize(
            model,
            nncf.Dataset(images),
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(types=sorted(kept), names=kept_names),
        )
    openvino.save_model(small, path, compress_to_fp16=False)


def _after_network(source: Path) -> set[str]:
    """Operations of an ONNX file that make scores and maps of F and F~: in int8 neighbours cannot be told apart, nor
    what differs little."""
    import onnx

    graph = onnx.load(source).graph
    makers = {name: node for node in graph.node for name in node.output}
    found, asked = set[str](), [output.name for output in graph.output]
    while asked:
        node = makers.get(asked.pop())
        if node is None or node.name in found or any(name.startswith(NETWORK) for name in node.input):
            continue
        found.add(node.name)
        asked += node.input
    return found


def _single_images(batches: Sequence[Float[Tensor, "_ 3 S S"]]) -> Iterator[np.ndarray]:
    return (image[None].numpy() for batch in batches for image in batch)


def stay_silent() -> None:
    """OpenVINO and NNCF report each conversion to Google Analytics, unless this package is missing.

    Seen in OpenVINO 2026.4 and NNCF 3.4. Before either is imported, or ONNX Runtime.
    """
    silence_onnxruntime()
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters tell their own progress and news."""
    loggers = [
        logging.getLogger(name) for name in ("nncf", "onnxscript", "torch.onnx", "torch.utils.cpp_extension", "root")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
