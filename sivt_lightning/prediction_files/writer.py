"""Files of a prediction: one table for all images, pictures of each."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from lightning.pytorch import Callback, LightningModule, Trainer

from sivt_lightning.data.datamodule import data_of
from sivt_lightning.data.remote import RemotePath
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import DISK_FULL, csv_text, spare, writable_folder, write_whole
from sivt_lightning.inference.about import About
from sivt_lightning.inference.judge import Asked, By, Judge
from sivt_lightning.prediction_files.earlier import DRIFT, REPORT, TABLE, Earlier, Row, write_settings
from sivt_lightning.prediction_files.pictures import Kind, Pictures, Queue
from sivt_lightning.prediction_files.rows import (
    COLUMNS,
    RowWriter,
    has_failed,
    is_anomalous,
    is_unknown,
    shown_of,
    summary,
    write_drift,
)
from sivt_lightning.prediction_files.told import told_by_folders
from sivt_lightning.processes import gather
from sivt_lightning.report.page import report_page
from sivt_lightning.report.picture_names import picture_names


class PredictionWriter(Callback):
    """Write `predictions.csv` and the pictures while the model predicts; keep only rows of the table.

    Rows are also written to `predictions.csv.part` after each batch, which stays where a run is interrupted.
    It starts in `setup` and ends in `teardown`, because a process without any image (more devices than images) is
    given none of the prediction's own hooks, but the others wait for its part.

    Args:
        output: folder of the files; by default `predictions/` and the name of what is predicted.
        masks: write the anomalous pixels of each image in black and white at the photo's size.
        overlays: write each photo with what is anomalous outlined, beside its anomaly map.
        maps: also write each anomaly map, as float32 TIFF at the network's size.
        report: write report.html and the pictures that it shows.
        drift: write drift.json, which says whether the scores of normal parts have moved since training; for photos of
            a running production in the order of their names.
        false_alarms: share of good parts that may be called anomalous, instead of that of the model's calibration.
        threshold: score above which an image is anomalous, instead of those found with good photos.
        threshold_by: "product" holds every image against the threshold of the product that the model recognises,
            "category" against that of the one whose name a folder on the image's path has, "pooled" against one for
            all, where a model has it. By default the first that the model has.
        category: the product of all images.
        unknown: call an image of none of the products unknown.
        smallest_region: pixels of a photo; smaller anomalous regions are none, and a photo without any is normal.
        overwrite: replace what an earlier run has written into the folder.
        resume: do only the images that an earlier run into the folder has not done.
    """

    def __init__(
        self,
        output: str | None = None,
        masks: bool = True,
        overlays: bool = True,
        maps: bool = False,
        report: bool = True,
        drift: bool = False,
        false_alarms: float | None = None,
        threshold: float | None = None,
        threshold_by: By | None = None,
        category: str | None = None,
        unknown: bool = True,
        smallest_region: int = 0,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        self.output = output
        chosen: dict[Kind, bool] = {"mask": masks, "overlay": overlays, "map": maps, "photo": report, "heat": report}
        self.kinds = tuple(kind for kind, wanted in chosen.items() if wanted)
        self.asked = Asked(threshold_by, category, threshold, false_alarms, unknown, smallest_region)
        if overwrite and resume:
            raise SIVTError("overwrite replaces what is there, resume goes on with it: give one.")
        self.overwrite, self.resume, self.report, self.drift = overwrite, resume, report, drift
        self.columns = (*COLUMNS, *self.kinds)
        # Images so called and without a result: of this process, at the end of all.
        self.anomalous, self.unknown, self.failed = 0, 0, 0
        self.part: TextIO | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Name every file before the first is written, alike on all processes, and leave out what is done."""
        if stage != "predict":
            return
        data = data_of(trainer)
        self.samples: list[Sample] = data.asked.samples
        self.base = base = data.asked.base
        self.paths = [PurePosixPath(sample.path.relative_to(base).as_posix()) for sample in self.samples]
        self.names = picture_names(self.paths)
        self.base_name = base.resolve().name  # a relative path may stand anywhere: no folder above the asked one counts
        self.folder = Path(self.output) if self.output else Path("predictions") / data.asked.name
        self.pictures = Pictures(self.folder, self.kinds)
        photos, folder = base.resolve(), self.folder.resolve()
        files = (folder / file for name in self.names for file in self.pictures.paths(name).values())
        spare((photos / path for path in self.paths), files)
        self.earlier = Earlier(self.folder)
        if self.earlier and not (self.overwrite or self.resume):
            raise SIVTError(
                f"{self.folder} holds the predictions of an earlier run: add --resume to go on with it, "
                "--overwrite to replace it, or name another folder with --output."
            )
        self.rows = self._done() if self.resume else {}
        self.todo = [index for index in range(len(self.samples)) if index not in self.rows]
        data.ask_of_prediction(self.todo, views=True)
        self.ready = False

    def _done(self) -> dict[int, Row]:
        """Rows of an earlier run by the position of their image."""
        done = {
            index: self.earlier.done(str(path), self.pictures.paths(name))
            for index, (path, name) in enumerate(zip(self.paths, self.names, strict=True))
        }
        return {index: row for index, row in done.items() if row is not None}

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is open by now: take its thresholds, and from them the colours of the whole run."""
        with self._writing():
            self._prepare(trainer, pl_module)
            part = self._part(trainer.global_rank)
            self.part = part.open("a", encoding="utf-8", newline="")
        self.queue = Queue(pl_module.device)

    def _prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what cannot be; then make the folder ready."""
        model: Any = pl_module
        about: About = model.about
        # Before anything is written: it refuses what the model has not, and an image that has no threshold.
        self.judge: Judge = about.judge(self.asked, model.path)
        self.told: list[str | None] = [None] * len(self.paths)
        if self.asked.by == "category":
            self.told = [*told_by_folders(self.paths, self.base_name, about.categories)]
        self.rows_of = RowWriter(self.columns, self.paths, self.names, self.pictures)
        settings = self._settings(trainer, pl_module)
        if self.resume and self.earlier:
            self.earlier.check(settings)
        writable_folder(self.folder)
        # What is done, in the part of the first process: a run that is interrupted again loses nothing of it.
        kept = self.rows.values() if trainer.is_global_zero else ()
        write_whole(self._part(trainer.global_rank), csv_text([self.columns, *self._cells(kept)]))
        self.ready = True
        if trainer.is_global_zero:
            running = {self._part(rank) for rank in range(trainer.world_size)}
            self.earlier.remove_tables(keep=running)
            write_settings(self.folder, settings)
            self._announce(trainer)

    def _announce(self, trainer: Trainer) -> None:
        if self.rows:
            print(f"{len(self.rows)} of {len(self.samples)} images are done already.")
        if "map" in self.kinds:
            count, size = len(self.todo), data_of(trainer).image_size
            print(f"Maps: {count} x {size} x {size} float32 values, {count * size * size * 4 / 1e6:.1f} MB in all.")

    def _settings(self, trainer: Trainer, model: Any) -> dict[str, Any]:
        """What results of one folder have in common; the keys are for messages."""
        held = hashlib.sha256(json.dumps([asdict(model.about.known), asdict(self.asked)]).encode()).hexdigest()
        depth = str(data_of(trainer).depth)
        return {
            "model": f"{model.identity()} in {model.precision}",
            "depth of photos": depth,
            "choice of thresholds": held,
            "choice of pictures": list(self.kinds),
        }

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Have the pictures of each image written, then its row, so that a row never promises what is not there."""
        indices = [self.todo[position] for position in batch.index.tolist()]
        told = [self.told[index] for index in indices]
        seen = self.judge.inspected(outputs, told)
        judged = self.judge(seen, told)
        results = (
            seen.score.tolist(),
            [one.numpy() for one in seen.map],
            judged,
            batch.errors,
            batch.views,
            batch.notes,
        )
        with self._writing():
            self._note(self.queue.put([partial(self.rows_of, *of) for of in zip(indices, *results, strict=True)]))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last rows."""
        with self._writing():
            self._note(self.queue.close())

    def _note(self, done: Sequence[tuple[int, Row]]) -> None:
        assert self.part is not None  # opened in on_predict_start
        self.part.write(csv_text(self._cells(row for _, row in done)))
        self.part.flush()
        self.rows |= dict(done)  # now they are done: a full disk takes none of them
        self._count(row for _, row in done)

    def _cells(self, rows: Iterable[Row]) -> list[list[str]]:
        return [[row.get(column, "") for column in self.columns] for row in rows]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a full disk, or another fault of it, into a SIVTError."""
        try:
            yield
        except OSError as error:
            remedy = "Free space" if error.errno in DISK_FULL else "Put that right"
            raise SIVTError(
                f"Cannot write into {self.folder}: {error.strerror}. {remedy} and go on with --resume, or use --output."
            ) from error

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave what is written; say where."""
        if self.part is not None:
            with contextlib.suppress(Exception):  # the fault that is told already, once more
                self._note(self.queue.close())
            with contextlib.suppress(OSError):  # the same, of what a full disk has not taken
                self.part.close()
            self.part = None
            print(
                f"Interrupted. The rows of the {len(self.rows)} images done are in {self._part(trainer.global_rank)}; "
                "the same command with --resume goes on from there."
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Bring the rows of all processes into the order of the images; write and print on the first."""
        if stage != "predict":
            return
        merged = {index: row for rows in gather(self.rows) for index, row in rows.items()}
        if not any(gather(self.ready)):  # an earlier run has done all there is to do: hold it against this one's model
            with self._writing():
                self._prepare(trainer, pl_module)
        rows = [merged[index] for index in sorted(merged)]
        self.anomalous, self.unknown, self.failed = 0, 0, 0
        self._count(rows)
        if trainer.is_global_zero:
            with self._writing():
                write_whole(self.folder / TABLE, csv_text([self.columns, *self._cells(rows)]))
                if self.report:
                    self._write_report(merged)
                moved = write_drift(self.folder / DRIFT, self.judge, merged) if self.drift else ""
            pages = {REPORT: self.report, DRIFT: self.drift}
            kept = {name for name, wanted in pages.items() if wanted}
            self.earlier.remove_files(kept | {row[kind] for row in rows for kind in self.kinds})
            self._print_summary(rows)
            if moved:
                print(moved)
        gather(None)  # a barrier: no part goes before the whole is there
        if self.part is not None:
            self.part.close()
            self.part = None
        self._part(trainer.global_rank).unlink(missing_ok=True)

    def _write_report(self, rows: Mapping[int, Row]) -> None:
        smallest = self.asked.smallest_region
        shown = [shown_of(row, self._original(self.samples[i].path), smallest) for i, row in sorted(rows.items())]
        title, doubt = f"Predictions: {self.base_name}", self._doubt(list(rows.values()))
        page = report_page(title, doubt, shown, share=self.judge.false_alarms, base=self.base)
        write_whole(self.folder / REPORT, page)

    def _original(self, photo: Path) -> str:
        """As seen from the page; a browser has no way to one in a bucket or an archive."""
        return "" if isinstance(photo, RemotePath) else os.path.relpath(photo, self.folder)

    def _doubt(self, rows: Sequence[Row]) -> str:
        return self.judge.doubt({row["product"] or None for row in rows if row["score"]})

    def _count(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.anomalous += is_anomalous(row)
            self.unknown += is_unknown(row)
            self.failed += has_failed(row)

    def _print_summary(self, rows: Sequence[Row]) -> None:
        print(summary(rows))
        if doubt := self._doubt(rows):
            print(doubt)
        folders = [f"{kind}s" for kind in ("mask", "overlay", "map") if kind in self.kinds]
        drift = [DRIFT] if self.drift else []
        print("Written:", *(self.folder / name for name in (TABLE, *folders, *drift)))
        if self.report:
            print(f"Look at: {self.folder / REPORT}")

    def _part(self, rank: int) -> Path:
        return self.folder / f"{TABLE}.part{f'.{rank}' if rank else ''}"
