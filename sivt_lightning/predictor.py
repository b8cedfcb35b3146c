"""The trained model in Python: image in, verdict out, without Lightning."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from sivt_lightning.data.images import array_to_rgb, read_image, to_rgb, to_tensor
from sivt_lightning.errors import SIVTError
from sivt_lightning.prediction import Prediction
from sivt_lightning.runtimes import open_model
from sivt_lightning.thresholds import check_given

Source = str | Path | Image.Image | np.ndarray


class Prepared(NamedTuple):
    """An image as the model takes it."""

    pixels: Float[Tensor, "3 S S"]  # RGB in [0, 1]
    size: tuple[int, int]  # width and height of the photo


class Predictor:
    """Finds anomalies with a model that `sivt fit` has trained, as `sivt predict` does.

        predictor = Predictor("runs/small/version_0/checkpoints/best.ckpt")
        found = predictor("photo.png")
        found.score, found.is_anomalous, found.anomaly_map, found.regions

    Args:
        path: a checkpoint, or a .onnx or .xml file of `sivt export`; it is read as data, nothing in it is run.
        device: where torch computes, such as "cpu" or "cuda:1"; by default the GPU, where there is one.
        threshold: score above which an image is anomalous, instead of what training found.
        category: takes the threshold of this category instead of that of all.
        precision: of a checkpoint: "32-true", "bf16-mixed" or, on a GPU, "16-mixed"; by default that of the training,
            which the thresholds were found in.
        batch_size: images of a list that are computed together.

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
    ) -> None:
        if batch_size < 1:
            raise SIVTError(f"batch_size is {batch_size}: give 1 or more.")
        self.model = open_model(Path(path), device, precision)
        self.threshold = self.model.thresholds.of(category, check_given(threshold))
        self.batch_size = batch_size

    # A str is a sequence of str, too, but the first signature that fits counts.
    @overload
    def __call__(self, images: Source) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, images: Sequence[Source]) -> list[Prediction]: ...

    def __call__(self, images: Source | Sequence[Source]) -> Prediction | list[Prediction]:
        """The verdict on an image, or on each of a list, which may be of any length and sizes.

        An image is a file, a PIL image, or an array: height x width (grey), x 3 (RGB, not BGR) or x 4 (RGBA), as
        bytes, as 16-bit integers or as decimals from 0 to 1. Raises SIVTError at the first that cannot be read.
        """
        if isinstance(images, Source):
            return self.predict([self.prepare(images)])[0]
        batches = [images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)]
        return [found for batch in batches for found in self.predict([self.prepare(image) for image in batch])]

    def prepare(self, image: Source) -> Prepared:
        """The image as the model takes it. Raises SIVTError where it cannot be read."""
        photo = _rgb(image)
        return Prepared(to_tensor(photo, self.model.image_size), photo.size)

    def predict(self, images: Sequence[Prepared]) -> list[Prediction]:
        """The verdicts on images computed as one batch. Raises SIVTError where a map is not finite."""
        scores, maps = self.model(torch.stack([image.pixels for image in images]))
        if not maps.isfinite().all():
            raise SIVTError("An anomaly map is not finite: the model diverged, or the precision is too narrow for it.")
        found = zip(scores.tolist(), maps.numpy(), images, strict=True)
        return [Prediction.of(score, one, self.threshold, image.size) for score, one, image in found]


def _rgb(image: Source) -> Image.Image:
    if isinstance(image, Image.Image):
        return to_rgb(image)
    return array_to_rgb(image) if isinstance(image, np.ndarray) else read_image(Path(image))
