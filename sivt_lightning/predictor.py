"""The trained model in Python: image in, verdict out, without Lightning."""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sivt_lightning.checkpoint import read_checkpoint, require_settings
from sivt_lightning.data.images import array_to_rgb, read_image, to_rgb, to_tensor
from sivt_lightning.errors import SIVTError
from sivt_lightning.model.detector import SETTINGS, Detection, Detector, build_detector
from sivt_lightning.precision import autocast, check_precision
from sivt_lightning.prediction import Prediction
from sivt_lightning.thresholds import Thresholds, check_given

Source = str | Path | Image.Image | np.ndarray


class Predictor:
    """Finds anomalies with a model that `sivt fit` has trained, as `sivt predict` does.

        predictor = Predictor("runs/small/version_0/checkpoints/best.ckpt")
        found = predictor("photo.png")
        found.score, found.is_anomalous, found.anomaly_map, found.regions

    Args:
        path: checkpoint; it is read as data, nothing in it is run.
        device: where torch computes, such as "cpu" or "cuda:1"; by default the GPU, where there is one.
        threshold: score above which an image is anomalous, instead of what training found.
        category: takes the threshold of this category instead of that of all.
        precision: "32-true", "bf16-mixed" or, on a GPU, "16-mixed"; by default that of the training, which the
            thresholds were found in.
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
        checkpoint = read_checkpoint(str(path))
        if batch_size < 1:
            raise SIVTError(f"batch_size is {batch_size}: give 1 or more.")
        if checkpoint["thresholds"] is None:
            raise SIVTError(f"Checkpoint {path}: saved before thresholds were found. Take the best.ckpt beside it.")
        self.thresholds = Thresholds.from_plain(checkpoint["thresholds"])
        self.threshold = self.thresholds.of(category, check_given(threshold))
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except RuntimeError as error:
            raise SIVTError(f"device {device}: there is no such device; give cpu, cuda or cuda:1, say.") from error
        self.precision = check_precision(precision or checkpoint["precision"], self.device.type)
        self.batch_size = batch_size
        self.detector = _detector(str(path), checkpoint).to(self.device)
        self.image_size: int = self.detector.backbone.image_size

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
            return self._predict([images])[0]
        batches = [images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)]
        return [found for batch in batches for found in self._predict(batch)]

    def _predict(self, images: Sequence[Source]) -> list[Prediction]:
        photos = [_rgb(image) for image in images]
        pixels = torch.stack([to_tensor(photo, self.image_size) for photo in photos])
        scores, maps = self._detect(pixels)
        if not maps.isfinite().all():
            raise SIVTError("An anomaly map is not finite: the model diverged, or the precision is too narrow for it.")
        found = zip(scores.tolist(), maps.cpu().numpy(), photos, strict=True)
        return [Prediction.of(score, one, self.threshold, photo.size) for score, one, photo in found]

    @torch.inference_mode()
    def _detect(self, pixels: Tensor) -> Detection:
        with autocast(self.precision, self.device.type):
            return self.detector(pixels.to(self.device))


def _detector(path: str, checkpoint: dict) -> Detector:
    settings, own = checkpoint["hyper_parameters"], "detector."
    require_settings(path, settings, SETTINGS)
    detector = build_detector(**{name: settings[name] for name in SETTINGS})
    weights = {name.removeprefix(own): value for name, value in checkpoint["state_dict"].items()}
    try:
        detector.load_state_dict(weights)
    except RuntimeError as error:
        raise SIVTError(f"Checkpoint {path}: its weights do not fit its settings. Train the model again.") from error
    return detector.eval()


def _rgb(image: Source) -> Image.Image:
    if isinstance(image, Image.Image):
        return to_rgb(image)
    return array_to_rgb(image) if isinstance(image, np.ndarray) else read_image(Path(image))
