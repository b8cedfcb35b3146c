"""Regions of interest in a model's file, and what they leave of a detection."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from sivt_lightning.data.roi import FINER, at_size
from sivt_lightning.errors import SIVTError
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.image_score import image_score


@dataclass(frozen=True)
class Inspection:
    """What is inspected of photos, by their product. The model itself is never told which one it sees.

    Args:
        settings: of the model, by which its map and image score are made, as in `ModelSettings`.
        regions: of products, True where they are inspected; of a product without one all is. At any size: a photo's
            map is held against it as it lies over the photo.

    >>> left = torch.tensor([[True, False], [True, False]])
    >>> half = Inspection({"image_size": 2, "image_score": "highest"}, {"bolt": left})
    >>> said = Detection(torch.tensor([9.0, 9.0]), torch.tensor([[[1.0, 9.0], [2.0, 1.0]]]).expand(2, 2, 2))
    >>> half(said, ["bolt", "nut"]).score
    tensor([2., 9.])
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    regions: Mapping[str, Bool[Tensor, "_ _"]] = field(default_factory=dict)

    def __call__(self, detection: Detection, products: Sequence[str | None]) -> Detection:
        """With maps of 0 where they are not inspected, and image scores of what is; None for a product not known."""
        return self.within(detection, [self.of(name) for name in products])

    def within(self, detection: Detection, regions: Sequence[Bool[Tensor, "_ _"] | None]) -> Detection:
        """The same by what is inspected of each photo, None for all of it."""
        if all(region is None for region in regions):
            return detection
        scores, maps = detection.score.clone(), list(detection.map)
        for position, region in enumerate(regions):
            if region is not None:
                seen = at_size(region.to(scores.device), *maps[position].shape)
                maps[position] = self._within(detection, position, seen)
                tiles = max(1.0, float(seen.sum()) / self.settings["image_size"] ** 2)
                scores[position] = image_score(maps[position][None], self.settings["image_score"], seen, tiles)[0]
        together = torch.stack(maps) if isinstance(detection.map, Tensor) else maps
        return detection._replace(score=scores, map=together)

    def _within(
        self, detection: Detection, position: int, region: Bool[Tensor, "height width"]
    ) -> Float[Tensor, "height width"]:
        """The map of one photo of a batch. Without a residual it is cut out, with what shines into it from beside."""
        if detection.residual is None:
            return torch.where(region, detection.map[position], 0)
        from sivt_lightning.model.averaging import Averaging  # takes a second, and few models have regions

        averaging = Averaging(*(self.settings[name] for name in ("feature_stride", "map_power", "smoothing_sigma")))
        with torch.autocast(region.device.type, enabled=False):  # it would smooth in half precision
            return averaging.within(detection.residual[position][None], region)[0]

    def of(self, product: str | None) -> Bool[Tensor, "_ _"] | None:
        """The region of a product, None where all is inspected."""
        return None if product is None else self.regions.get(product)

    def plain(self) -> dict[str, str]:
        """For a checkpoint or a side-car: pictures of the regions as PNG in base64, white where it is inspected."""
        return {name: _encoded(region.cpu().numpy()) for name, region in sorted(self.regions.items())}

    def same_as(self, other: "Inspection") -> bool:
        """Whether the same is inspected of each product."""
        return self.regions.keys() == other.regions.keys() and all(
            torch.equal(region, other.regions[name]) for name, region in self.regions.items()
        )

    @classmethod
    def from_plain(cls, stored: Any, settings: Mapping[str, Any]) -> "Inspection":
        """What `plain` made of that of a model of these settings. Raises SIVTError where that is damaged."""
        try:
            return cls(settings, {str(name): _decoded(text, settings["image_size"]) for name, text in stored.items()})
        except Exception as error:  # whatever a damaged picture makes its decoder raise
            raise SIVTError(f"The model's regions of interest are damaged ({error}): give another file.") from error


def _encoded(region: Bool[np.ndarray, "_ _"]) -> str:
    file = io.BytesIO()
    Image.fromarray(region).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _decoded(text: str, size: int) -> Bool[Tensor, "_ _"]:
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as picture:
        if picture.size not in ((size, size), (FINER * size, FINER * size)):  # before a pixel is decoded
            raise ValueError(f"one is of {picture.width} x {picture.height} pixels")
        region = torch.from_numpy(np.array(picture.convert("L")) > 0)
    if not region.any():
        raise ValueError("one inspects nothing")
    return region
