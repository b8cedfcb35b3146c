"""Regions of interest in a model's file, and what they leave of a detection."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from sivt_lightning.errors import SIVTError
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.image_score import image_score
from sivt_lightning.model.settings import ImageScore


@dataclass(frozen=True)
class Inspection:
    """What is inspected of photos, by their product. The model itself is never told which one it sees.

    Args:
        kind: how the image score is made of a map.
        regions: of products, True where they are inspected; of a product without one all is.

    >>> half = Inspection("highest", {"bolt": torch.tensor([[True, False], [True, False]])})
    >>> said = Detection(torch.tensor([9.0, 9.0]), torch.tensor([[[1.0, 9.0], [2.0, 1.0]]]).expand(2, 2, 2))
    >>> half(said, ["bolt", "nut"]).score
    tensor([2., 9.])
    """

    kind: ImageScore = "highest"
    regions: Mapping[str, Bool[Tensor, "S S"]] = field(default_factory=dict)

    def __call__(self, detection: Detection, products: Sequence[str | None]) -> Detection:
        """With maps of 0 where they are not inspected, and image scores of what is; None for a product not known."""
        if not any(name in self.regions for name in products):
            return detection
        scores, maps = detection.score.clone(), detection.map.clone()
        for position, name in enumerate(products):
            if (region := self.of(name)) is not None:
                region = region.to(maps.device)
                scores[position] = image_score(maps[position : position + 1], self.kind, region)[0]
                maps[position] = torch.where(region, maps[position], 0)
        return detection._replace(score=scores, map=maps)

    def of(self, product: str | None) -> Bool[Tensor, "S S"] | None:
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
    def from_plain(cls, stored: Any, kind: ImageScore, size: int) -> "Inspection":
        """What `plain` made of one of maps of this size. Raises SIVTError where that is damaged."""
        try:
            return cls(kind, {str(name): _decoded(text, size) for name, text in stored.items()})
        except (AttributeError, TypeError, ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise SIVTError(f"The model's regions of interest are damaged ({error}): give another file.") from error


def _encoded(region: Bool[np.ndarray, "S S"]) -> str:
    file = io.BytesIO()
    Image.fromarray(region).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _decoded(text: str, size: int) -> Bool[Tensor, "S S"]:
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as picture:
        if picture.size != (size, size):  # before a pixel is decoded
            raise ValueError(f"one is of {picture.width} x {picture.height} pixels")
        region = torch.from_numpy(np.array(picture.convert("L")) > 0)
    if not region.any():
        raise ValueError("one inspects nothing")
    return region
