"""The pictures of an image that was predicted, each there whole or not at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool
from PIL import Image

from sivt_lightning.prediction import Prediction
from sivt_lightning.report.overlay import ColourScale, Finding, render_overlay

Kind = Literal["mask", "overlay", "map"]
SUFFIXES: dict[str, str] = {"mask": "png", "overlay": "png", "map": "tiff"}
FORMATS = {"png": "PNG", "tiff": "TIFF"}


class Pictures:
    """Writes pictures of these kinds into `masks/`, `overlays/` and `maps/` of a folder."""

    def __init__(self, folder: Path, kinds: Sequence[Kind]) -> None:
        self.folder, self.kinds = folder, tuple(kinds)

    def paths(self, name: str) -> dict[str, str]:
        """Where those of an image are, from the folder on, by kind."""
        return {kind: f"{kind}s/{name}.{SUFFIXES[kind]}" for kind in self.kinds}

    def write(self, name: str, title: str, photo: Image.Image, found: Prediction, scale: ColourScale) -> None:
        """All kinds of one image."""
        for kind, path in self.paths(name).items():
            self._save(self.folder / path, _draw(kind, title, photo, found, scale))

    def _save(self, path: Path, picture: Image.Image) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.tmp")
        # PNG: a third of the time for a tenth more bytes
        picture.save(part, format=FORMATS[path.suffix[1:]], compress_level=1)
        part.replace(path)


def _draw(kind: str, title: str, photo: Image.Image, found: Prediction, scale: ColourScale) -> Image.Image:
    if kind == "map":
        return Image.fromarray(found.anomaly_map)
    if kind == "mask":
        return mask_picture(found.mask, photo.size)
    finding = Finding(title, found.score, found.threshold, found.is_anomalous, found.pixel_threshold)
    return render_overlay(photo, found.anomaly_map, found.mask, finding, scale)


def mask_picture(mask: Bool[np.ndarray, "s s"], size: tuple[int, int]) -> Image.Image:
    """The mask as 0 and 255 at the photo's own size."""
    return Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
