"""Rows of the table of predictions: made of what a model says of a photo, shown on a page, summed up on screen."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from sivt_lightning.data.dataset import View
from sivt_lightning.errors import NOT_FINITE, listing
from sivt_lightning.files import write_whole
from sivt_lightning.inference.drifts import Drifts
from sivt_lightning.inference.judge import Judge, Judgement, Verdict
from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.prediction_files.earlier import Row
from sivt_lightning.prediction_files.pictures import Pictures
from sivt_lightning.report.overlay import scale_of
from sivt_lightning.report.page import Shown, address

COLUMNS = (
    "path",
    "score",
    "threshold",
    "is_anomalous",
    "error",
    "verdict",
    "product",
    "calibrated",
    "nearest",
    "note",
    "anomalous_share",
    "regions",
)


class RowWriter:
    """Makes the row of a photo, after writing its pictures.

    Args:
        columns: of the table: `COLUMNS`, and the kinds of picture.
        paths: of the photos, as they stand in the table.
        names: of their pictures.
        pictures: where they go.
    """

    def __init__(
        self,
        columns: Sequence[str],
        paths: Sequence[PurePosixPath],
        names: Sequence[str],
        pictures: Pictures,
    ) -> None:
        self.columns, self.paths, self.names, self.pictures = columns, paths, names, pictures

    def __call__(
        self,
        index: int,
        score: float,
        anomaly_map: Float[np.ndarray, "h w"],
        judged: Judgement,
        error: str,
        view: View | None,
        note: str,
    ) -> tuple[int, Row]:
        """The photo's position and row; without any pictures where it gave no score."""
        row = dict.fromkeys(self.columns, "") | {"path": str(self.paths[index]), "note": note}
        if not error and not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
            error = f"The anomaly score is {NOT_FINITE}"  # a comparison with it would say "normal"
        if error or view is None:
            return index, row | {"error": " ".join(error.split())}
        row["nearest"] = judged.nearest or ""
        return index, row | self._result(index, Prediction.of(score, anomaly_map, judged, view.size, note), view)

    def _result(self, index: int, prediction: Prediction, view: View) -> Row:
        scale = scale_of(prediction.pixel_threshold)
        self.pictures.write(self.names[index], str(self.paths[index]), view.photo, prediction, scale)
        regions = [
            {"box": region.box, "area": region.area, "peak": round(region.peak, 6)} for region in prediction.regions
        ]
        return {
            "score": f"{prediction.score:.9g}",  # nine digits tell any two float32 apart
            "threshold": f"{prediction.threshold:.9g}",
            "is_anomalous": "true" if prediction.is_anomalous else "false",  # what is unknown has not passed
            "verdict": prediction.verdict,
            "note": prediction.note,
            "product": prediction.product or "",
            "calibrated": "" if prediction.calibrated is None else f"{prediction.calibrated:.6g}",
            "anomalous_share": f"{prediction.mask.mean():.6g}",
            "regions": json.dumps(regions),
            **self.pictures.paths(self.names[index]),
        }


def shown_of(row: Row, original: str, smallest_region: int = 0) -> Shown:
    """A row as the page shows it, beside a link to the photo itself, "" for none; with what was asked of regions."""
    regions = [[*region["box"], region["area"], region["peak"]] for region in json.loads(row["regions"] or "[]")]
    above = bool(row["score"]) and float(row["score"]) > float(row["threshold"])
    return Shown(
        path=row["path"],
        small=bool(smallest_region) and above and row["verdict"] == "normal",
        score=float(row["score"]) if row["score"] else None,
        threshold=float(row["threshold"]) if row["threshold"] else None,
        verdict=row["verdict"],
        product=row["product"],
        calibrated=float(row["calibrated"]) if row["calibrated"] else None,
        nearest=row["nearest"],
        error=row["error"],
        share=float(row["anomalous_share"]) if row["anomalous_share"] else None,
        regions=regions,
        photo=address(row["photo"]),
        heat=address(row["heat"]),
        original=address(original),
    )


def write_drift(file: Path, judge: Judge, rows: Mapping[int, Row]) -> str:
    """What to say of it: each product's photos, in their order, against its calibration."""
    drifts = Drifts(judge)
    windows, paths = (defaultdict[str | None, list[Any]](list) for _ in range(2))
    for _, row in sorted(rows.items()):
        if not row["score"]:  # an image without a result is no part
            continue
        name, verdict = row["product"] or None, cast(Verdict, row["verdict"])
        full = drifts.add(verdict, name, float(row["score"]))
        if verdict != "unknown":
            paths[name].append(row["path"])
        if full is not None:
            windows[name].append(full)
    for name, rest in drifts.close().items():
        windows[name].append(rest)
    write_whole(file, drifts.report(windows, paths))
    return "\n".join(drifts.sentences(paths))


def is_anomalous(row: Row) -> bool:
    """Whether the photo is called so."""
    return row["verdict"] == "anomalous"


def is_unknown(row: Row) -> bool:
    """Whether the photo is of none of the products."""
    return row["verdict"] == "unknown"


def has_failed(row: Row) -> bool:
    """Whether the photo has no result."""
    return bool(row["error"])


def summary(rows: Sequence[Row]) -> str:
    """How many photos are what, and which columns say more."""
    anomalous, unknown, failed = (sum(map(of, rows)) for of in (is_anomalous, is_unknown, has_failed))
    normal = len(rows) - anomalous - unknown - failed
    counts = [f"{anomalous} anomalous", f"{normal} normal", *([f"{unknown} unknown"] if unknown else [])]
    lines = [f"{len(rows)} images: {', '.join(counts)}, {failed} without a result."]
    if unknown:
        lines.append(
            "What is unknown looks like none of the products that the model was trained on: it has not passed. "
            "`--unknown false` takes each photo for the product that it is most like."
        )
    if failed:
        lines.append("Why an image has no result is said in the column `error`.")
    if noted := [row["path"] for row in rows if row.get("note")]:
        lines.append(f"What to know of {listing(noted)} is said in the column `note`.")
    return "\n".join(lines)
