"""Files of a prediction: one table for all images, a mask and a picture for each."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import numpy as np
from jaxtyping import Bool, Float
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image

from sivt_lightning.callbacks.common import NOT_FINITE, csv_text, gather, writable_folder, write_whole
from sivt_lightning.data.images import read_image
from sivt_lightning.data.layouts import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.report.overlay import ColourScale, Finding, render_overlay, scale_of
from sivt_lightning.thresholds import By, Threshold, Thresholds, check_given

COLUMNS = ("path", "score", "threshold", "is_anomalous", "error", "anomalous_share", "mask", "overlay")
LONGEST_STEM = 200  # bytes: file systems allow 255, and a stem grows by a suffix

Row = dict[str, str]


class PredictionWriter(Callback):
    """Write `predictions.csv`, `masks/` and `overlays/` while the model predicts; keep only rows of the table.

    Rows are also written to `predictions.csv.part` after each batch, which stays where a run is interrupted.
    It starts in `setup` and ends in `teardown`, because a process without any image (more devices than images) is
    given none of the prediction's own hooks, but the others wait for its part.

    Args:
        output: folder of the files; by default `predictions/` and the name of what is predicted.
        maps: also write each anomaly map, as float32 TIFF at the network's size.
        threshold: score above which an image is anomalous, instead of what training found.
        threshold_by: "pooled" holds every image against the threshold of all categories; "category" against that of
            the category whose name a folder on the image's path has.
        category: holds every image against the threshold of this one.
    """

    def __init__(
        self,
        output: str | None = None,
        maps: bool = False,
        threshold: float | None = None,
        threshold_by: By = "pooled",
        category: str | None = None,
    ) -> None:
        self.output, self.maps = output, maps
        self.threshold, self.threshold_by, self.category = check_given(threshold), threshold_by, category
        if category is not None and threshold_by == "category":
            raise SIVTError(f"category {category} is for all images, threshold_by category for each its own: give one.")
        self.columns = (*COLUMNS, "map") if maps else COLUMNS
        self.failed = 0  # images without a result, known when the prediction is over
        self.part: TextIO | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Name every file before the first is written, alike on all processes."""
        if stage != "predict":
            return
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        asked = Path(datamodule.hparams.predict_path).expanduser()
        self.samples: list[Sample] = datamodule.predict_set.samples
        base = asked.parent if asked.is_file() else asked
        self.paths = [PurePosixPath(sample.path.relative_to(base).as_posix()) for sample in self.samples]
        self.names = picture_names(self.paths)
        self.rows: dict[int, Row] = {}
        # resolved, for "." has no name; a relative path may stand anywhere, so no folder above the asked one counts
        self.base_name = base.resolve().name
        name = asked.stem if asked.is_file() else self.base_name
        self.folder = Path(self.output) if self.output else Path("predictions") / name

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The checkpoint is loaded by now: take its thresholds, and from them the colours of the whole run."""
        thresholds: Any = pl_module.thresholds
        if thresholds is None:
            raise SIVTError(
                "The checkpoint holds no thresholds, so nothing can be called anomalous: it was saved before its "
                "training's first validation. Name one saved after it with --ckpt_path, such as best.ckpt."
            )
        self.thresholds = self._thresholds(thresholds)
        self.scale: ColourScale = scale_of(thresholds.pooled.pixel)
        writable_folder(self.folder)
        if self.maps and trainer.is_global_zero:
            count, size = len(self.samples), trainer.datamodule.predict_set.image_size  # type: ignore[attr-defined]
            print(f"Maps: {count} x {size} x {size} float32 values, {count * size * size * 4 / 1e6:.1f} MB in all.")
        self.part = self._part_path(trainer).open("w", encoding="utf-8", errors="surrogateescape", newline="")
        self.part.write(",".join(self.columns) + "\n")

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Write the pictures of each image, then its row, so that a row never promises what is not there."""
        scores, maps = outputs.score.float().cpu().numpy(), outputs.map.float().cpu().numpy()
        part = self.part
        assert part is not None  # opened in on_predict_start
        try:
            for i, index in enumerate(batch.index.tolist()):
                self.rows[index] = self._predicted(index, float(scores[i]), maps[i], batch.errors[i])
                part.write(csv_text([self.rows[index]], self.columns))
            part.flush()
        except OSError as error:
            raise SIVTError(
                f"Cannot write into {self.folder}: {error.strerror}. Free space, or use --output."
            ) from error

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave what is written; say where."""
        if self.part is not None:
            self.part.close()
            self.part = None
            print(f"Interrupted. The rows of the {len(self.rows)} images done are in {self._part_path(trainer)}.")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Bring the rows of all processes into the order of the images; write and print on the first."""
        if stage != "predict":
            return
        merged = {index: row for rows in gather(self.rows) for index, row in rows.items()}
        rows = [merged[index] for index in sorted(merged)]
        self.failed = sum(bool(row["error"]) for row in rows)
        if trainer.is_global_zero:
            header = ",".join(self.columns) + "\n"
            write_whole(self.folder / "predictions.csv", header + csv_text(rows, self.columns))
            self._print_summary(rows)
        gather(None)  # a barrier: no part goes before the whole is there
        if self.part is not None:
            self.part.close()
            self._part_path(trainer).unlink()
            self.part = None

    def _thresholds(self, thresholds: Thresholds) -> list[Threshold]:
        """That of each image. Raises SIVTError, before anything is written, where an image has none."""
        names = [self._category(path, thresholds) for path in self.paths]
        chosen = [thresholds.of(name, self.threshold) for name in names]
        self.doubt = "" if self.threshold is not None else thresholds.doubt(names)
        return chosen

    def _category(self, path: PurePosixPath, thresholds: Thresholds) -> str | None:
        if self.category is not None or self.threshold_by == "pooled":
            return self.category
        folders = [self.base_name, *path.parts[:-1]]
        found = next((folder for folder in folders if folder in thresholds.categories), None)
        if found is None:
            raise SIVTError(
                f"{path}: none of its folders ({', '.join(folders)}) is a category that the model was trained on "
                f"({', '.join(sorted(thresholds.categories))}). Name one with --category, or use --threshold_by pooled."
            )
        return found

    def _print_summary(self, rows: Sequence[Row]) -> None:
        anomalous = sum(row["is_anomalous"] == "true" for row in rows)
        normal = len(rows) - anomalous - self.failed
        print(f"{len(rows)} images: {anomalous} anomalous, {normal} normal, {self.failed} without a result.")
        if self.failed:
            print("Why an image has no result is said in the column `error`.")
        if self.doubt:
            print(self.doubt)
        folders = ("masks", "overlays", "maps") if self.maps else ("masks", "overlays")
        print("Written:", *(self.folder / name for name in ("predictions.csv", *folders)))

    def _part_path(self, trainer: Trainer) -> Path:
        rank = f".{trainer.global_rank}" if trainer.global_rank else ""
        return self.folder / f"predictions.csv.part{rank}"

    def _predicted(self, index: int, score: float, anomaly_map: Float[np.ndarray, "s s"], error: str) -> Row:
        """One row, after writing its pictures; without any for an image that gave no score."""
        row = dict.fromkeys(self.columns, "")
        row |= {"path": str(self.paths[index]), "threshold": f"{self.thresholds[index].image:.9g}"}
        if not error and not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
            error = f"The anomaly score is {NOT_FINITE}"  # a comparison with it would say "normal"
        if not error:
            try:
                return row | self._pictures(index, score, anomaly_map)
            except SIVTError as unreadable:  # gone since the model saw it
                error = str(unreadable)
        return row | {"error": " ".join(error.split())}

    def _pictures(self, index: int, score: float, anomaly_map: Float[np.ndarray, "s s"]) -> Row:
        photo = read_image(self.samples[index].path)
        threshold = self.thresholds[index]
        mask = anomaly_map > threshold.pixel
        anomalous = score > threshold.image
        finding = Finding(str(self.paths[index]), score, threshold.image, anomalous, threshold.pixel)
        pictures = {
            "mask": (f"masks/{self.names[index]}.png", mask_picture(mask, photo.size)),
            "overlay": (
                f"overlays/{self.names[index]}.png",
                render_overlay(photo, anomaly_map, mask, finding, self.scale),
            ),
        }
        if self.maps:
            pictures["map"] = (f"maps/{self.names[index]}.tiff", Image.fromarray(anomaly_map))
        for path, picture in pictures.values():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            picture.save(self.folder / path, compress_level=1)  # PNG: a third of the time for a tenth more bytes
        return {
            "score": f"{score:.9g}",  # nine digits tell any two float32 apart
            "is_anomalous": "true" if anomalous else "false",
            "anomalous_share": f"{mask.mean():.6g}",
            **{column: path for column, (path, _) in pictures.items()},
        }


def mask_picture(mask: Bool[np.ndarray, "s s"], size: tuple[int, int]) -> Image.Image:
    """The mask as 0 and 255 at the photo's own size."""
    return Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)


def picture_names(paths: Sequence[PurePosixPath]) -> list[str]:
    """For each image the name of its pictures, without suffix: its own path, where need be made unique.

    Images of one folder that share a stem keep their suffix as a part of the name. Names that differ only in case or
    in Unicode form count as the same, as they do on the file systems of Windows and macOS.

    >>> picture_names([PurePosixPath(path) for path in ("bolt/a.png", "bolt/A.jpg", "nut/a.png", "nut/b.v2.png")])
    ['bolt/a_png', 'bolt/A_jpg', 'nut/a', 'nut/b.v2']
    """
    inside = [_inside(path) for path in paths]
    sharing = Counter(_key(path.with_name(path.stem)) for path in inside)
    names: list[str] = []
    taken: set[str] = set()
    for path in inside:
        name = path.with_name(path.stem)
        if sharing[_key(name)] > 1:
            name = path.with_name(f"{path.stem}_{path.suffix[1:]}")
        unique, number = name, 2
        while _key(unique) in taken:  # "a_png.bmp" beside "a.png" and "a.jpg"
            unique, number = name.with_name(f"{name.name}_{number}"), number + 1
        taken.add(_key(unique))
        names.append(str(unique))
    return names


def _inside(path: PurePosixPath) -> PurePosixPath:
    """The path without anything that leads out of a folder, its last part no longer than a file system allows."""
    path = PurePosixPath(*[part for part in path.parts if part not in ("/", "//", "..")])
    stem = path.stem.encode("utf-8", "surrogateescape")[:LONGEST_STEM].decode("utf-8", "ignore")
    return path if len(stem) == len(path.stem) else path.with_name(stem + path.suffix)


def _key(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()
