"""report.html of a test: every image with its ground truth, and the tables."""

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image

from sivt_lightning.data.dataset import LONGEST_VIEW, Batch, View
from sivt_lightning.data.samples import Sample
from sivt_lightning.files import write_whole
from sivt_lightning.inference.judge import Judgement
from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.model.detection import Detection
from sivt_lightning.prediction_files.pictures import Pictures, Queue, save_whole
from sivt_lightning.report.overlay import scale_of
from sivt_lightning.report.page import Shown, address, html_table, report_page
from sivt_lightning.report.picture_names import picture_names
from sivt_lightning.report.tables import (
    BY_DEFECT,
    HEADINGS,
    OPERATING,
    ORACLE,
    Results,
    defect_rows,
    figure_rows,
    kinds_of,
    operating_rows,
)


class LabelledReport:
    """Writes the pictures of report.html while the test runs.

    Args:
        folder: of the page and its pictures.
        samples: all test images, which lie in `root`.
        device: the model's.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        samples: Sequence[Sample],
        device: torch.device,
    ) -> None:
        self.folder, self.samples = folder, samples
        self.paths = [PurePosixPath(sample.path.relative_to(root).as_posix()) for sample in samples]
        self.names = picture_names(self.paths)
        self.pictures = Pictures(folder, ("photo", "heat"))
        self.queue = Queue(device)
        self.shown: dict[int, Shown] = {}

    def add(self, batch: Batch, detection: Detection, judged: Sequence[Judgement]) -> None:
        """Have the pictures of a batch written."""
        masks = (mask.cpu().numpy() for mask in batch.masks)
        said = (detection.score.tolist(), [one.numpy() for one in detection.map], judged)
        images = zip(batch.index.tolist(), *said, masks, batch.views, strict=True)
        self.shown |= dict(self.queue.put([partial(self._show, *image) for image in images]))

    def close(self) -> dict[int, Shown]:
        """Wait for the last pictures; all images of this process by their position in the samples."""
        return self.shown | dict(self.queue.close())

    def _show(
        self,
        index: int,
        score: float,
        anomaly_map: Float[np.ndarray, "h w"],
        judged: Judgement,
        mask: Bool[np.ndarray, "height width"],
        view: View | None,
    ) -> tuple[int, Shown]:
        assert view is not None  # asked for, and a test stops at what cannot be read
        sample, name, path = self.samples[index], self.names[index], str(self.paths[index])
        prediction = Prediction.of(score, anomaly_map, judged, view.size)
        self.pictures.write(name, path, view.photo, prediction, scale_of(prediction.pixel_threshold))
        truth, files = f"report/truth/{name}.png", self.pictures.paths(name)
        if mask.any():
            save_whole(self.folder / truth, _contour(mask))
        return index, Shown(
            path=path,
            score=score,
            threshold=prediction.threshold,
            verdict=prediction.verdict,
            product=prediction.product or "",
            calibrated=prediction.calibrated,
            nearest=judged.nearest or "",
            share=float(prediction.mask.mean()),
            regions=[[*region.box, region.area, region.peak] for region in prediction.regions],
            photo=address(files["photo"]),
            heat=address(files["heat"]),
            truth=address(truth) if mask.any() else "",
            defect=sample.defect if sample.anomalous else None,
        )


def write_report(
    file: Path, shown: Sequence[Shown], results: Results, notes: Sequence[str], share: float | None, base: Path
) -> None:
    """The page of all images, which lie in `base`, below the tables; `share` of good parts may be called anomalous."""
    undefined, kinds = "-", kinds_of(results)
    by_defect = [html_table(["category", *kinds], defect_rows(results, undefined), BY_DEFECT)] if kinds else []
    tables = [
        html_table(["category", *HEADINGS.values()], figure_rows(results, undefined), "Figures, in fractions of 1"),
        *by_defect,
        html_table(
            ["category", *OPERATING.values(), ORACLE], operating_rows(results, undefined), "Verdicts at the threshold"
        ),
        f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>",
    ]
    said = "These are test images, whose label is known."
    write_whole(file, report_page("Test", said, shown, tables, labelled=True, share=share, base=base))


def _contour(mask: Bool[np.ndarray, "height width"]) -> Image.Image:
    """The mask as 0 and 255, no larger than a photo is shown; nothing of it is lost."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    picture.thumbnail((LONGEST_VIEW, LONGEST_VIEW), Image.Resampling.BOX)
    return picture.point(lambda value: 255 if value else 0)
