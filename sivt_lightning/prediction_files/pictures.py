"""The pictures of an image that was predicted or tested, each there whole or not at all."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image

from sivt_lightning.files import whole
from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.report.overlay import ColourScale, Finding, dimmed, levels, render_overlay
from sivt_lightning.system import cpus

# "photo" and "heat" are what report.html shows.
Kind = Literal["mask", "overlay", "map", "photo", "heat"]
PLACES: dict[str, tuple[str, str]] = {  # folder and suffix
    "mask": ("masks", "png"),
    "overlay": ("overlays", "jpg"),
    "map": ("maps", "tiff"),
    "photo": ("report/photos", "jpg"),
    "heat": ("report/heat", "png"),
}
SAVING: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "quality": 90, "subsampling": 0},  # thin coloured outlines stay as they are
    "png": {"format": "PNG", "compress_level": 1},  # a third of the time for a tenth more bytes
    "tiff": {"format": "TIFF"},
}
MOST_THREADS = 8


class Pictures:
    """Writes pictures of these kinds into a folder."""

    def __init__(self, folder: Path, kinds: Sequence[Kind]) -> None:
        self.folder, self.kinds = folder, tuple(kinds)

    def paths(self, name: str) -> dict[str, str]:
        """Where those of an image are, from the folder on, by kind."""
        return {kind: f"{PLACES[kind][0]}/{name}.{PLACES[kind][1]}" for kind in self.kinds}

    def write(self, name: str, title: str, photo: Image.Image, prediction: Prediction, scale: ColourScale) -> None:
        """All kinds of one image, whose photo may be at the size of a screen."""
        for kind, path in self.paths(name).items():
            save_whole(self.folder / path, _draw(kind, title, photo, prediction, scale))


class Queue:
    """Work on images done by threads.

    A GPU is at the next batch meanwhile, and no further. A model on the CPU waits: its threads, two to a task, would
    each be held up where one of them has to share its core.
    """

    def __init__(self, device: torch.device) -> None:
        self.ahead = 0 if device.type == "cpu" else 1
        self.threads = ThreadPoolExecutor(min(cpus(), MOST_THREADS))
        self.batches: list[list[Future[Any]]] = []

    def put(self, work: Sequence[Callable[[], Any]]) -> list[Any]:
        """Take a batch's work, and give the results of this batch or the one before."""
        self.batches.append([self.threads.submit(one) for one in work])
        return self._results() if len(self.batches) > self.ahead else []

    def close(self) -> list[Any]:
        """The results of all the work that is left. Raises what that raised, and is closed all the same."""
        try:
            return [result for _ in range(len(self.batches)) for result in self._results()]
        finally:
            self.threads.shutdown()

    def _results(self) -> list[Any]:
        results = [one.result() for one in self.batches[0]]
        del self.batches[0]  # not before: an interrupted wait loses none
        return results


def save_whole(path: Path, picture: Image.Image) -> None:
    """The suffix says as what."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        picture.save(part, **SAVING[path.suffix[1:]])


def _draw(kind: str, title: str, photo: Image.Image, prediction: Prediction, scale: ColourScale) -> Image.Image:
    if kind == "photo":
        return dimmed(photo, prediction.inspected)
    if kind == "heat":
        limit, values = prediction.pixel_threshold, prediction.anomaly_map
        return Image.fromarray(levels(np.where(prediction.above, values, np.minimum(values, limit)), limit))
    if kind == "map":
        return Image.fromarray(prediction.anomaly_map)
    if kind == "mask":
        return mask_picture(prediction.mask, prediction.size)
    finding = Finding(
        title, prediction.score, prediction.threshold, prediction.is_anomalous, prediction.pixel_threshold
    )
    return render_overlay(photo, prediction.anomaly_map, prediction.mask, finding, scale, prediction.inspected)


def mask_picture(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Image.Image:
    """The mask as 0 and 255 at the photo's own size."""
    return Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
