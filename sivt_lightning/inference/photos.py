"""What a model says of photos, some of which it sees in tiles."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.data.grid import TILE, Grid
from sivt_lightning.inference.models import Model
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.image_score import image_score

MOST_IMAGES = 16  # that the model is given at a time, where photos are cut


def look(model: Model, images: Float[Tensor, "images 3 S S"], grids: Sequence[Grid]) -> Detection:
    """One detection a photo, from all images of each in turn."""
    if all(grid.tiles == 1 for grid in grids):
        return model(images)
    parts = [model(part) for part in images.split(MOST_IMAGES)]
    found: list[Any] = [torch.cat(of) for of in zip(*parts, strict=True)]
    return of_photos(Detection(*found), grids, model.about.model)


def of_photos(found: Detection, grids: Sequence[Grid], settings: Mapping[str, Any]) -> Detection:
    """From what was said of their images; `settings` are the model's."""
    assert isinstance(found.residual, Tensor)  # every model that is trained with tiles gives it
    scores, maps, residuals, last, start = [], [], [], [], 0
    for grid in grids:
        end = start + grid.images
        score, anomaly_map, residual = (found.score[start], found.map[start], found.residual[start])
        if grid.tiles > 1:
            score, anomaly_map, residual = joined(found.residual[start:end], grid, settings)
        scores.append(score)
        maps.append(anomaly_map)
        residuals.append(residual)
        start = end
        last.append(end - 1)
    descriptor = None if found.descriptor is None else found.descriptor[last]  # of the photo as a whole
    return Detection(torch.stack(scores), maps, descriptor, residuals)


def joined(
    residuals: Float[Tensor, "images H W"], grid: Grid, settings: Mapping[str, Any]
) -> tuple[Float[Tensor, ""], Float[Tensor, "height width"], Float[Tensor, "rows columns"]]:
    """Score, map and residual of a photo that was cut."""
    from sivt_lightning.model.averaging import Averaging  # takes a second, and few models have tiles
    from sivt_lightning.model.stitching import stitched

    unit = residuals.shape[-1] // TILE
    residual = stitched(residuals, *([start * unit for start in starts] for starts in grid))
    averaging = Averaging(*(settings[name] for name in ("feature_stride", "map_power", "smoothing_sigma")))
    with torch.autocast(residual.device.type, enabled=False):
        anomaly_map = averaging(residual[None])
        area = anomaly_map[0].numel() / residuals[0].numel() / settings["feature_stride"] ** 2
        return image_score(anomaly_map, settings["image_score"], None, area)[0], anomaly_map[0], residual
