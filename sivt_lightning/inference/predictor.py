"""The trained model in Python: image in, verdict out, without Lightning."""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from sivt_lightning.data.depth import DEPTHS, Depth, check_depth
from sivt_lightning.data.grid import Grid
from sivt_lightning.data.images import Photo, array_to_rgb, read_image, read_image_bytes, to_rgb
from sivt_lightning.data.urls import is_url, path_of
from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.inference.judge import Asked
from sivt_lightning.inference.models import open_model
from sivt_lightning.inference.photos import look
from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.system import cpus

DECODES = Lock()  # held while an image of Pillow's is decoded, which may be in a list twice

Source = str | os.PathLike | bytes | bytearray | memoryview | io.BytesIO | Image.Image | np.ndarray | Tensor


class Prepared(NamedTuple):
    """An image as the model takes it."""

    images: Float[Tensor, "tiles 3 S S"]  # RGB in [0, 1]
    size: tuple[int, int]  # width and height of the photo
    note: str = ""  # what to know of how it was read
    grid: Grid = Grid()


class Predictor:
    """Finds anomalies with a model that `sivt fit` has trained, as `sivt predict` does.

        predictor = Predictor("runs/small/version_0/checkpoints/best.ckpt")
        found = predictor("photo.png")
        found.verdict, found.product, found.calibrated, found.score, found.anomaly_map, found.regions

    Args:
        path: a checkpoint, or a .onnx, .xml or .pt2 file of `sivt export`; it is read as data, nothing in it is run.
        device: where it is computed, such as "cpu" or "cuda:1"; by default a checkpoint on the GPU, where there is one,
            and an export on the CPU.
        threshold: score above which an image is anomalous, instead of those found with good photos.
        category: the product of all images; by default it is recognised.
        precision: of a checkpoint: "32-true", "bf16-mixed" or, on a GPU, "16-mixed"; by default that of the training,
            which the thresholds were found in.
        batch_size: images of a list that are computed together.
        depth: of images of more than 8 bits, instead of that of the training: 8, 10, 12, 14, 16 or "float".
        false_alarms: share of good parts that may be called anomalous, instead of that of the model's calibration.
        unknown: whether an image of none of the products is called unknown.
        smallest_region: pixels of an image; smaller anomalous regions are none, and an image without any is normal.

    Raises SIVTError, a ValueError whose message says what is wrong and what to do.
    """

    def __init__(
        self,
        path: str | Path,
        device: str | None = None,
        threshold: float | None = None,
        category: str | None = None,
        precision: str | None = None,
        batch_size: int = 8,
        depth: int | str | None = None,
        false_alarms: float | None = None,
        unknown: bool = True,
        smallest_region: int = 0,
    ) -> None:
        if batch_size < 1:
            raise SIVTError(f"batch_size is {batch_size}: give 1 or more.")
        chosen = next((known for known in DEPTHS if known == depth), None)
        if chosen is None and depth is not None:
            raise SIVTError(f"depth is {depth}: give one of {', '.join(map(str, DEPTHS))}.")
        self.model = open_model(Path(path), device, precision)
        about = self.model.about
        self.category = category
        self.judge = about.judge(Asked(None, category, threshold, false_alarms, unknown, smallest_region), path)
        check_depth(chosen, about.depth)
        self.depth = chosen or about.depth
        self.batch_size = batch_size

    def warm_up(self, path: str | Path) -> None:
        """The model's first call, which takes longer than others. Raises SIVTError where it fails."""
        size = self.model.about.image_size
        try:
            self.model(torch.zeros(1, 3, size, size))
        except SIVTError:
            raise
        except Exception as error:
            remedy = "Try another --device, or export the model again."
            raise SIVTError(f"Model {path} cannot be run on this machine: {first_line(error)}. {remedy}") from error

    # A str is a sequence of str, too, but the first signature that fits counts.
    @overload
    def __call__(self, images: Source) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, images: Sequence[Source]) -> list[Prediction]: ...

    def __call__(self, images: Source | Sequence[Source]) -> Prediction | list[Prediction]:
        """The verdict on an image, or on each of a list, which may be of any length and sizes.

        An image is the name of a file, a file's content (bytes or BytesIO), a PIL image, an array of height x width
        (grey), x 3 (RGB, not BGR) or x 4 (RGBA), or a tensor of channels x height x width: as bytes, as 16-bit integers
        of the model's depth or as decimals from 0 to 1. Raises SIVTError at the first that cannot be read.
        """
        if isinstance(images, Source):
            return self.predict([self.prepare(images)])[0]
        if not isinstance(images, Sequence):
            raise _no_image(images)
        return [prediction for batch in self._prepared(images) for prediction in self.predict(batch)]

    def _prepared(self, images: Sequence[Any]) -> Iterator[list[Prepared]]:
        """Batches, each read by several threads while the one before is computed."""
        with ThreadPoolExecutor(cpus()) as pool:

            def read(start: int) -> list[Future[Prepared]]:
                return [pool.submit(self.prepare, image) for image in images[start : start + self.batch_size]]

            following = read(0)
            for start in range(0, len(images), self.batch_size):
                batch, following = following, read(start + self.batch_size)
                yield [photo.result() for photo in batch]

    def prepare(self, image: Source, most_pixels: int | None = None) -> Prepared:
        """The image as the model takes it; a file's content of more pixels is not decoded.

        Raises SIVTError where it cannot be read.
        """
        photo, note = _decoded(image, self.depth, most_pixels)
        size = self.model.about.image_size
        grid = self.model.about.tiles.grid(photo.size, size)
        return Prepared(grid.cut(photo, size), photo.size, note, grid)

    def predict(self, images: Sequence[Prepared]) -> list[Prediction]:
        """The verdicts on images computed as one batch. Raises SIVTError where a map is not finite."""
        every = torch.cat([image.images for image in images])
        detection = look(self.model, every, [image.grid for image in images])
        if not (all(one.isfinite().all() for one in detection.map) and detection.score.isfinite().all()):
            raise SIVTError(
                "An anomaly map or score is not finite: the model diverged, or the precision is too narrow for it."
            )
        told = [None] * len(images)
        detection = self.judge.inspected(detection, told)
        judged = self.judge(detection, told)
        results = zip(detection.score.tolist(), detection.map, judged, images, strict=True)
        return [Prediction.of(score, one.numpy(), what, image.size, image.note) for score, one, what, image in results]


def _decoded(image: Source, depth: Depth | None, most_pixels: int | None) -> Photo:
    if isinstance(image, (str, os.PathLike)):
        return read_image(path_of(image) if isinstance(image, str) and is_url(image) else Path(image), depth)
    if isinstance(image, io.BytesIO):
        image = image.getvalue()
    if isinstance(image, (bytes, bytearray, memoryview)):
        return read_image_bytes(bytes(image), depth, most_pixels)
    if isinstance(image, Image.Image):
        with DECODES:
            return to_rgb(image, depth)
    if isinstance(image, Tensor):
        image = _as_array(image)
    if isinstance(image, np.ndarray):
        return Photo(array_to_rgb(image, depth), "")
    raise _no_image(image)


def _as_array(image: Tensor) -> np.ndarray:
    """Channels last, as arrays have them."""
    values = image.detach().cpu()
    values = values.float() if values.is_floating_point() else values
    return (values.permute(1, 2, 0) if values.ndim == 3 else values).numpy()


def _no_image(given: object) -> SIVTError:
    return SIVTError(
        f"A {type(given).__name__} is no image: give a file's name or content, a PIL image, an array or a tensor, or a "
        "list of these."
    )
