"""What is said of one image: its verdict, and the regions that are anomalous."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from sivt_lightning.data.roi import at_size
from sivt_lightning.inference.judge import Judgement, Verdict

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class Region:
    """Connected pixels of a photo whose anomaly map is above the pixel threshold, in the photo's own pixels.

    Args:
        box: left, top, right, bottom; the last two are the first pixels outside.
        area: in pixels.
        peak: highest value of the anomaly map inside.
    """

    box: tuple[int, int, int, int]
    area: int
    peak: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """Verdict on one image.

    Args:
        verdict: "normal", "anomalous", or "unknown" where it shows none of the products.
        score: 0 or more, without an upper bound; compares with scores of the same product and model only.
        threshold: the score above which an image of its product is anomalous.
        anomaly_map: float32 at the network's size, whatever the photo's; of one cut into tiles, at that of these.
        pixel_threshold: the value of the map above which a pixel is anomalous.
        size: width and height of the photo.
        product: recognised or told; None where it is unknown, or the model recognises none.
        calibrated: compares between products: log10 N, where about 1 of N good parts of its product scores as high or
            higher; None where the model has no calibration.
        note: what to know of how the photo was read, or of its verdict, or "".
        inspected: the pixels of the map that count, None for all; elsewhere the map is 0.
        smallest_region: pixels of the photo; a smaller region is none.
    """

    verdict: Verdict
    score: float
    threshold: float
    anomaly_map: Float[np.ndarray, "height width"]
    pixel_threshold: float
    size: tuple[int, int]
    product: str | None = None
    calibrated: float | None = None
    note: str = ""
    inspected: Bool[np.ndarray, "height width"] | None = None
    smallest_region: int = 0

    @classmethod
    def of(
        cls,
        score: float,
        anomaly_map: Float[np.ndarray, "height width"],
        judged: Judgement,
        size: tuple[int, int],
        note: str = "",
    ) -> "Prediction":
        """What the model says of a photo of `size`, and what is made of it.

        A photo that would be anomalous, but has no region as large as asked for, is normal.
        """
        limit, least = judged.threshold, judged.smallest_region
        known = (judged.product, judged.calibrated)
        region = judged.inspected
        seen = (None if region is None else at_size(region, *anomaly_map.shape).numpy(), least)
        made = cls(judged.verdict, score, limit.image, anomaly_map, limit.pixel, size, *known, note, *seen)
        if not least or made.verdict != "anomalous" or made.regions:
            return made
        why = f"Its score is above the threshold, but no anomalous region has {least} pixels (smallest_region): normal."
        return replace(made, verdict="normal", note=" ".join(filter(None, [note, why])))

    @property
    def is_anomalous(self) -> bool:
        """Whether it has not passed: an unknown photo has not."""
        return self.verdict != "normal"

    @property
    def mask(self) -> Bool[np.ndarray, "height width"]:
        """The anomalous pixels of the map: none of a photo that is normal."""
        return self.above & self.is_anomalous

    @property
    def above(self) -> Bool[np.ndarray, "height width"]:
        """Pixels above the threshold, in regions that are large enough; of a photo that is normal, too."""
        if not self.smallest_region:
            return self.anomaly_map > self.pixel_threshold
        labels, areas = labelled(self.anomaly_map, self.pixel_threshold, self.size)
        return np.concatenate([[False], areas >= self.smallest_region])[labels]

    @property
    def regions(self) -> list[Region]:
        """The highest peak first; none of a photo that is normal. One that is not may have none, too."""
        found = find_regions(self.anomaly_map, self.pixel_threshold, self.size) if self.is_anomalous else []
        return [region for region in found if region.area >= self.smallest_region]


def find_regions(
    anomaly_map: Float[np.ndarray, "height width"], threshold: float, size: tuple[int, int]
) -> list[Region]:
    """Regions of a photo of this width and height; map pixels that touch at a side or corner belong together.

    >>> find_regions(np.array([[0, 0, 0, 0], [0, 5, 7, 0], [0, 0, 0, 0], [9, 0, 0, 0]], np.float32), 1.0, (8, 40))
    [Region(box=(0, 30, 2, 40), area=20, peak=9.0), Region(box=(2, 10, 6, 20), area=40, peak=7.0)]
    """
    labels, areas = labelled(anomaly_map, threshold, size)
    (height, width), regions = anomaly_map.shape, []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == number
        left, right = _outwards(columns, size[0], width)
        top, bottom = _outwards(rows, size[1], height)
        peak = float(anomaly_map[rows, columns][inside].max())
        regions.append(Region((left, top, right, bottom), int(areas[number - 1]), peak))
    return sorted(regions, key=lambda region: -region.peak)


def labelled(
    anomaly_map: Float[np.ndarray, "height width"], threshold: float, size: tuple[int, int]
) -> tuple[Int[np.ndarray, "height width"], Int[np.ndarray, " regions"]]:
    """The number of each pixel's region, from 1 on, 0 for none; and the regions' areas in pixels of the photo."""
    labels, _ = ndimage.label(anomaly_map > threshold, EIGHT_NEIGHBOURS)
    pixels = np.bincount(labels.ravel(), minlength=1)[1:]
    return labels, np.maximum(1, np.rint(pixels * (size[0] * size[1]) / anomaly_map.size).astype(np.int64))


def _outwards(part: slice, photo: int, network: int) -> tuple[int, int]:
    """First pixel of the photo's side that these of the map's side stand for, and the first one behind them.

    In whole numbers: 7 / 100 * 100 is above 7, and the box would leave the photo.
    """
    return part.start * photo // network, -(-part.stop * photo // network)
