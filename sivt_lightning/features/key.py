"""What features depend on, apart from the image: those of one key are interchangeable."""

import ast
import functools
import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from sivt_lightning.inference.checkpoint import fingerprint
from sivt_lightning.model.detector import Detector

# The code from an image file to its features. A test follows its imports.
SOURCES = (
    "data/dataset.py",
    "data/depth.py",
    "data/grid.py",
    "data/images.py",
    "data/opening.py",
    "data/pillow_inside.py",
    "data/remote.py",
    "features/fill.py",
    "model/backbone.py",
    "model/detector.py",
    "model/networks.py",
    "model/standardize.py",
)
LIBRARIES = ("sivt-lightning", "imagecodecs", "numpy", "pillow", "timm", "torch")
NETWORK = ("name", "out_indices", "image_size", "grid", "resize")


def feature_key(detector: Detector, precision: str, device: str, preprocessing: Mapping[str, Any]) -> str:
    """Names the features that this network makes, as hexadecimal digits.

    A digest of the code, not of some image's features: these would not show what is done to another kind of image, and
    their last digits may change from one run to the next.

    Args:
        device: its type ("cpu", "cuda"), whose kinds round differently.
        preprocessing: settings that decide an image's pixels.
    """
    network = [getattr(detector.backbone, part) for part in NETWORK]
    versions = [version(name) for name in LIBRARIES]
    key = hashlib.sha256(repr([network, precision, device, sorted(preprocessing.items()), versions]).encode())
    for path in SOURCES:
        key.update(code_of(files("sivt_lightning").joinpath(path).read_text(encoding="utf-8")).encode())
    for part in (detector.backbone, detector.standardize):
        key.update(fingerprint(part.state_dict()))
    return key.hexdigest()[:16]


@functools.cache
def code_of(source: str) -> str:
    """Without comments and layout, which change nothing.

    >>> code_of("a = (1)  # one")
    'a = 1'
    """
    return ast.unparse(ast.parse(source))
