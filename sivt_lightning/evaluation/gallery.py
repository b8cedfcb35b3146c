"""Which test images the gallery shows, and what the model says of them once more."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from sivt_lightning.data.dataset import Batch, ImageDataset, Item, collate
from sivt_lightning.data.masks import mask_to_tensor
from sivt_lightning.data.samples import Sample
from sivt_lightning.files import whole
from sivt_lightning.report.sheets import Exhibit, Row, draw_gallery


def choose(samples: Sequence[Sample], scores: Mapping[int, float]) -> dict[str, dict[str, int]]:
    """By category: the normal image of the highest score, and the anomalous ones of the lowest, middle and highest.

    The first two are where a threshold has to pass between; where they are on the wrong sides of it the model fails.
    """
    chosen: dict[str, dict[str, int]] = {}
    for category in sorted({sample.category for sample in samples}):
        of = [i for i in sorted(scores, key=scores.__getitem__) if samples[i].category == category]
        normal, anomalous = ([i for i in of if samples[i].anomalous == kind] for kind in (False, True))
        positions = {"highest normal": normal[-1]} if normal else {}
        if anomalous:
            positions |= {"lowest": anomalous[0], "middle": anomalous[len(anomalous) // 2]}
            positions["highest"] = anomalous[-1]
        chosen[category] = positions
    return chosen


def write_gallery(
    file: Path,
    data: ImageDataset,
    scores: Mapping[int, float],
    detect: Callable[[Batch], Sequence[Float[Tensor, "_ _"]]],
    pixel_thresholds: Mapping[str, float],
) -> None:
    """The sheet as PNG.

    Args:
        file: to write.
        data: the test images, with masks at their size.
        scores: of each image by its position in `data`.
        detect: a batch of them -> anomaly maps.
        pixel_thresholds: by category, for the colours; one without takes a third of the highest value shown.
    """
    rows = []
    for category, chosen in choose(data.samples, scores).items():
        if not chosen:  # no image of it was tested
            continue
        items = [data[i] for i in chosen.values()]
        maps = detect(collate(items))
        captions = [
            f"{data.samples[i].path.parent.name}/{data.samples[i].path.name}: {scores[i]:.3g}, {why}"
            for why, i in chosen.items()
        ]
        exhibits = [
            Exhibit(*_squeezed(item, anomaly_map), caption)
            for item, anomaly_map, caption in zip(items, maps, captions, strict=True)
        ]
        rows.append(Row(category, exhibits, pixel_thresholds.get(category, max(float(one.max()) for one in maps) / 3)))
    if rows:
        with whole(file) as part:
            Image.fromarray(draw_gallery(rows)).save(part, format="PNG")


def _squeezed(item: Item, anomaly_map: Float[Tensor, "height width"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, map and mask in the square of the sheet; the last image of a photo that was cut shows all of it."""
    image, size = item.images[-1], item.images.shape[-2:]
    shown = interpolate(anomaly_map[None, None].float().cpu(), size=size, mode="bilinear", antialias=True)[0, 0]
    return image.permute(1, 2, 0).numpy(), shown.numpy(), mask_to_tensor(item.mask.numpy(), *size).numpy()
