"""The test: figures of images and pixels, and what the verdicts are worth, as files and on screen."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from torch import Tensor

from sivt_lightning.data.datamodule import data_of
from sivt_lightning.data.dataset import Batch
from sivt_lightning.data.identity import digest
from sivt_lightning.errors import NOT_FINITE, Agreed, SIVTError, Stopped
from sivt_lightning.evaluation.gallery import write_gallery
from sivt_lightning.evaluation.labelled_report import LabelledReport, write_report
from sivt_lightning.evaluation.metrics.figures import FPR_LIMIT
from sivt_lightning.evaluation.tally import Outcome, Tally, mean_of, operating_points, plain
from sivt_lightning.files import writable_folder, write_whole
from sivt_lightning.inference.thresholds import By, Thresholds, check_given
from sivt_lightning.processes import gather
from sivt_lightning.report.curves import write_curves, write_histograms
from sivt_lightning.report.page import Shown
from sivt_lightning.report.tables import FIGURES, Results, console_tables, csv_table, markdown_tables

T = TypeVar("T")

MOST_NOTES = 10  # of images, on screen


class Evaluation(Callback):
    """Collect the test's scores and maps; write `metrics.json`, `.csv`, `.md` and curves, and print the tables.

    It starts in `setup` and ends in `teardown`, because a process without any image (more devices than images) is
    given none of the test's own hooks, but the others wait for its part.

    Args:
        output: folder of the files.
        full_resolution: compare the maps with the masks at each mask's own size, instead of the model's image size.
        gallery: also draw each category's most telling images beside their maps.
        report: also write report.html, with every image beside its ground truth.
        curves: also draw ROC, precision-recall and per-region-overlap curves and histograms of the scores.
        threshold: score above which an image is anomalous, instead of what training found.
        threshold_by: hold each image against the threshold of all categories ("pooled") or of its own ("category").
    """

    def __init__(
        self,
        output: str = "test",
        full_resolution: bool = False,
        curves: bool = True,
        gallery: bool = True,
        report: bool = True,
        threshold: float | None = None,
        threshold_by: By = "pooled",
    ) -> None:
        self.output, self.full_resolution, self.curves, self.gallery = output, full_resolution, curves, gallery
        self.report = report
        self.threshold, self.threshold_by = check_given(threshold), threshold_by
        self.results: Results | None = None
        self.thresholds: dict[str, float] | None = None
        self.doubt = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a folder that cannot be written before the work, not after it."""
        if stage == "test":
            self.folder = writable_folder(Path(self.output))
            data = data_of(trainer)
            data.ask_of_test(full_masks=self.full_resolution, views=self.report)
            self.tally = Tally(data.test_set.samples)
            self.scores: dict[int, float] = {}
            self.read_notes: dict[int, str] = {}
            self.trouble = ""
            self.labelled: LabelledReport | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is open by now. Raises SIVTError where a category has no threshold of its own."""
        model: Any = pl_module
        thresholds: Thresholds | None = model.about.thresholds
        names = self.tally.categories
        if thresholds is None:
            self.thresholds = None if self.threshold is None else dict.fromkeys(names, self.threshold)
            return
        chosen = {name: name if self.threshold_by == "category" else None for name in names}
        taken = {name: thresholds.of(by, self.threshold) for name, by in chosen.items()}
        self.thresholds = {name: threshold.image for name, threshold in taken.items()}
        if self.report:
            data = data_of(trainer)
            self.labelled = LabelledReport(self.folder, data.folder, self.tally.samples, taken, pl_module.device)
        if self.threshold is None:
            self.doubt = thresholds.doubt(chosen.values())

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep what the model said; the data module has stopped at an image that cannot be read."""
        scores, maps = outputs.score.float().cpu(), outputs.map.float().cpu()
        index = batch.index.tolist()
        for i, good in zip(index, (scores.isfinite() & maps.isfinite().all(-1).all(-1)).tolist(), strict=True):
            if not good:
                self.trouble = f"No figures: an anomaly score of {self.tally.samples[i].path} is {NOT_FINITE}"
                if trainer.world_size == 1:
                    raise SIVTError(self.trouble)
                return  # the others meet this process at the end
        self.scores |= dict(zip(index, scores.tolist(), strict=True))
        self.read_notes |= {i: note for i, note in zip(index, batch.notes, strict=True) if note}
        self.tally.update(index, scores, maps, [mask.cpu() for mask in batch.masks])
        if self.labelled is not None:
            self.labelled.add(batch, scores.tolist(), maps.numpy())

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say what a Ctrl-C or SIGTERM leaves: Lightning ends the program without a word."""
        if isinstance(exception, (KeyboardInterrupt, Stopped)) and trainer.is_global_zero:
            print("Stopped: there are no figures of a part of the images. The same command starts anew.")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compute on every process, write and print on the first."""
        if stage != "test":
            return
        if troubles := [trouble for trouble in gather(self.trouble) if trouble]:
            raise Agreed(troubles[0])
        # A process without any image was not asked for the thresholds.
        self.thresholds, self.doubt = gather((self.thresholds, self.doubt))[0]
        outcome = self.tally.outcome()
        samples = self.tally.samples
        del self.tally
        noted = _joined(gather(self.read_notes))
        self.results = self._results(outcome, trainer, pl_module)
        self.results["notes"] = {str(samples[i].path): noted[i] for i in sorted(noted)}
        every = _joined(gather(self.scores))
        shown = _joined(gather(self.labelled.close() if self.labelled else {}))
        if trainer.is_global_zero:
            self._write(self.results, outcome, shown)
            if self.gallery:
                self._write_gallery(trainer, pl_module, every)

    def _results(self, outcome: Outcome, trainer: Trainer, model: Any) -> Results:
        groups = {}
        for field in ("value", "error"):
            categories = {name: plain(figures, field) for name, figures in outcome.categories.items()}
            mean = mean_of(list(categories.values()), FIGURES)
            groups[field] = {"categories": categories, "mean": mean, "pooled": plain(outcome.pooled, field)}
        data = data_of(trainer)
        settings = {
            "model": dict(model.about.model),
            "data": dict(data.hparams),
            "training": dict(model.about.training),
            "test": {
                "kind": model.about.kind,
                "checkpoint": model.path.stem,
                "precision": model.precision,
                "full_resolution": self.full_resolution,
                "threshold": self.threshold,
                "threshold_by": self.threshold_by,
                "images": digest(data.test_set.samples) if trainer.is_global_zero else None,
            },
        }
        return {
            **groups["value"],  # type: ignore[typeddict-item]
            "error_bounds": groups["error"],
            "operating_points": operating_points(outcome.scores, self.thresholds),
            "notes": {},
            "settings": settings,
        }

    def _write(self, results: Results, outcome: Outcome, shown: dict[int, Shown]) -> None:
        notes = [*outcome.notes, *([self.doubt] if self.doubt else []), *_first(results["notes"])]
        if self.thresholds is None:
            notes.append("The checkpoint holds no thresholds, so there are no verdicts: set one with --threshold.")
        precisions = [results["settings"][part].get("precision") for part in ("training", "test")]
        of_checkpoint = results["settings"]["test"]["kind"] == "checkpoint"  # an export's are of its own precision
        found_in_another = of_checkpoint and None not in precisions and len(set(precisions)) > 1
        if self.thresholds and self.threshold is None and found_in_another:
            notes.append(
                f"The thresholds were found in {precisions[0]}: in {precisions[1]} scores differ a little, so an image "
                "close to its threshold may be called otherwise."
            )
        write_whole(self.folder / "metrics.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
        write_whole(self.folder / "metrics.csv", csv_table(results))
        write_whole(self.folder / "metrics.md", markdown_tables(results, notes))
        written = [self.folder / f"metrics.{suffix}" for suffix in ("json", "csv", "md")]
        if self.curves:
            folder = self.folder / "curves"
            thresholds = self.thresholds or dict.fromkeys(outcome.scores)
            written += [
                *write_curves(folder, outcome.curves, results, FPR_LIMIT),
                write_histograms(folder, outcome.scores, thresholds),
            ]
        page = self.folder / "report.html"
        page.unlink(missing_ok=True)  # of an earlier test
        if shown:
            write_report(page, [shown[index] for index in sorted(shown)], results, notes)
        console = Console()
        for table in console_tables(results):
            console.print(table)
        for note in notes:
            print(note)
        bound = max((value for value in _values(results["error_bounds"]) if value is not None), default=0.0)
        print(f"No figure is further than {bound:.1e} from the exact one.")
        print("Written:", *written)
        if shown:
            print(f"Look at: {page}")

    def _write_gallery(self, trainer: Trainer, module: Any, scores: dict[int, float]) -> None:
        data = data_of(trainer)
        shown = data.images_of(data.test_set.samples)
        stored: Thresholds | None = module.about.thresholds
        thresholds = {name: threshold.pixel for name, threshold in stored.categories.items()} if stored else {}

        def detect(batch: Batch) -> Tensor:
            return module.test_step(batch, 0).map

        write_gallery(self.folder / "gallery.png", shown, scores, detect, thresholds)
        print(f"Pictures: {self.folder / 'gallery.png'}")


def _first(notes: Mapping[str, str]) -> list[str]:
    """Of how photos and masks were read."""
    shown = [f"{path}: {note}" for path, note in list(notes.items())[:MOST_NOTES]]
    more = len(notes) - len(shown)
    return [*shown, f"The same kind of {more} more images; metrics.json names all."] if more else shown


def _values(groups: Any) -> list[float | None]:
    """All numbers in nested mappings."""
    return [value for group in groups.values() for value in (_values(group) if isinstance(group, dict) else [group])]


def _joined(parts: Sequence[dict[int, T]]) -> dict[int, T]:
    """What all processes hold of the images."""
    return {index: value for part in parts for index, value in part.items()}
