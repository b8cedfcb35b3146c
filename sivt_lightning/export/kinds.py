"""What a model can be exported to."""

from typing import Literal

Format = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "bf16", "int8"]

SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
PRECISIONS = {"onnx": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8"), "torch": ("fp32", "bf16")}
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino"), "torch": ()}
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
