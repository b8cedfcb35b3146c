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
from sivt_lightning.data.roi import other_regions
from sivt_lightning.errors import NOT_FINITE, Agreed, SIVTError, Stopped
from sivt_lightning.evaluation.by_defect import figures_by_defect
from sivt_lightning.evaluation.gallery import write_gallery
from sivt_lightning.evaluation.labelled_report import LabelledReport, write_report
from sivt_lightning.evaluation.metrics.figures import FPR_LIMIT
from sivt_lightning.evaluation.tally import Outcome, Tally, mean_of, plain
from sivt_lightning.evaluation.verdicts import Judged, calibrated_scores, operating_points, said_of_products
from sivt_lightning.files import writable_folder, write_whole
from sivt_lightning.inference.about import About
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.inference.judge import Asked, By, Judge
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
        false_alarms: share of good parts that may be called anomalous, instead of that of the model's calibration.
        threshold: score above which an image is anomalous, instead of those found with good photos.
        threshold_by: hold each image against the threshold of the product that the model recognises ("product"), of its
            own category ("category"), or one for all ("pooled"), where a model has it. By default the first that the
            model has.
        unknown: call an image of none of the products unknown.
    """

    def __init__(
        self,
        output: str = "test",
        full_resolution: bool = False,
        curves: bool = True,
        gallery: bool = True,
        report: bool = True,
        false_alarms: float | None = None,
        threshold: float | None = None,
        threshold_by: By | None = None,
        unknown: bool = True,
    ) -> None:
        self.output, self.full_resolution, self.curves, self.gallery = output, full_resolution, curves, gallery
        self.report = report
        self.asked = Asked(threshold_by, None, threshold, false_alarms, unknown)
        self.results: Results | None = None
        self.judge: Judge | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a folder that cannot be written before the work, not after it."""
        if stage == "test":
            self.folder = writable_folder(Path(self.output))
            data = data_of(trainer)
            data.ask_of_test(full_masks=self.full_resolution, views=self.report)
            self.tally = Tally(data.test_set.samples)
            self.inspection, self.region_notes = Inspection(), list[str]()
            self.scores: dict[int, float] = {}
            self.judged: dict[int, Judged] = {}
            self.read_notes: dict[int, str] = {}
            self.trouble = ""
            self.labelled: LabelledReport | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The model is open by now. Raises SIVTError where a category has no threshold of its own."""
        model: Any = pl_module
        self.inspection = model.about.inspection
        self.region_notes = other_regions(self.tally.samples, self.inspection.regions, model.about.image_size)
        self.tally.regions = self.inspection.regions
        self.judge = self._judge(pl_module)
        if self.judge is None:
            return
        if self.asked.by == "category":
            for name in self.tally.categories:
                self.judge.threshold(name)
        if self.report:
            data, samples = data_of(trainer), self.tally.samples
            self.labelled = LabelledReport(self.folder, data.folder_of(samples), samples, pl_module.device)

    def _judge(self, model: Any) -> Judge | None:
        about: About = model.about
        if about.known is None and self.asked == Asked():
            return None  # of a training that was stopped early: there are figures, but no verdicts
        return about.judge(self.asked, model.path)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep what the model said; the data module has stopped at an image that cannot be read."""
        scores, maps = outputs.score, outputs.map
        index = batch.index.tolist()
        for i, score, one in zip(index, scores, maps, strict=True):
            if not (score.isfinite() and one.isfinite().all()):
                self.trouble = f"No figures: an anomaly score of {self.tally.samples[i].path} is {NOT_FINITE}"
                if trainer.world_size == 1:
                    raise SIVTError(self.trouble)
                return  # the others meet this process at the end
        samples = [self.tally.samples[i] for i in index]
        # Figures are of what is inspected of an image's own product, verdicts of the one that it is held against.
        scores, maps = self.inspection(outputs, [sample.category for sample in samples])[:2]
        self.scores |= dict(zip(index, scores.tolist(), strict=True))
        self.read_notes |= {i: note for i, note in zip(index, batch.notes, strict=True) if note}
        self.tally.update(index, scores, maps, [mask.cpu() for mask in batch.masks])
        if self.judge is None:
            return
        told = self.asked.by == "category"
        names = [sample.category if told else None for sample in samples]
        seen = self.judge.inspected(outputs, names)
        judged = self.judge(seen, names)
        self.judged |= {
            i: Judged(what.verdict, what.product, None if told else what.nearest, what.calibrated)
            for i, what in zip(index, judged, strict=True)
        }
        if self.labelled is not None:
            self.labelled.add(batch, seen, judged)

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
        if self.judge is None:  # a process without any image was not asked for it
            self.judge = self._judge(pl_module)
        judged = _joined(gather(self.judged))
        outcome = self.tally.outcome()
        samples = self.tally.samples
        del self.tally
        noted = _joined(gather(self.read_notes))
        self.results = self._results(outcome, judged, trainer, pl_module)
        self.results["notes"] = {str(samples[i].path): noted[i] for i in sorted(noted)}
        every = _joined(gather(self.scores))
        self.results["defects"] = figures_by_defect(samples, every)
        shown = _joined(gather(self.labelled.close() if self.labelled else {}))
        if trainer.is_global_zero:
            self._write(self.results, outcome, judged, shown, data_of(trainer).folder_of(samples))
            if self.gallery:
                self._write_gallery(trainer, pl_module, every)

    def _results(self, outcome: Outcome, judged: Mapping[int, Judged], trainer: Trainer, model: Any) -> Results:
        data = data_of(trainer)
        raw = None
        if self.judge is not None and self.judge.recognises:
            raw = outcome.pool(calibrated_scores(data.test_set.samples, judged))
        groups = {}
        for field in ("value", "error"):
            categories = {name: plain(figures, field) for name, figures in outcome.categories.items()}
            mean = mean_of(list(categories.values()), FIGURES)
            groups[field] = {"categories": categories, "mean": mean, "pooled": plain(outcome.pooled, field)}
        settings = {
            "model": dict(model.about.model),
            "data": dict(data.hparams),
            "training": dict(model.about.training),
            "test": {
                "kind": model.about.kind,
                "checkpoint": model.path.stem,
                "precision": model.precision,
                "full_resolution": self.full_resolution,
                "threshold": self.asked.threshold,
                "threshold_by": self.asked.by,
                "false_alarms": self.judge and self.judge.false_alarms,
                "unknown": self.asked.unknown,
                "images": digest(data.test_set.samples) if trainer.is_global_zero else None,
                **({"regions": self.inspection.plain()} if self.inspection.regions else {}),
            },
        }
        return {
            **groups["value"],  # type: ignore[typeddict-item]
            **({} if raw is None else {"pooled_raw": raw}),
            "error_bounds": groups["error"],
            "operating_points": operating_points(data.test_set.samples, judged, self._thresholds(outcome)),
            "notes": {},
            "settings": settings,
        }

    def _thresholds(self, outcome: Outcome) -> dict[str, float | None]:
        """Of the scores of each category; None where there is none."""
        judge = self.judge
        if judge is None:
            return dict.fromkeys(outcome.scores)
        if not judge.recognises:
            told = self.asked.by == "category"
            return {name: judge.threshold(name if told else None).image for name in outcome.scores}
        return {name: judge.threshold(name).image if name in judge.products else None for name in outcome.scores}

    def _notes(self, results: Results, outcome: Outcome, judged: Mapping[int, Judged]) -> list[str]:
        notes = [*outcome.notes, *self.region_notes]
        if self.judge is not None:
            if self.judge.recognises:
                notes.append(said_of_products(results))
            products = {what.product for what in judged.values() if what.verdict != "unknown"}
            notes += filter(None, [self.judge.doubt(products)])
        notes += _first(results["notes"])
        if self.judge is None:
            notes.append("The checkpoint holds no thresholds, so there are no verdicts: `sivt calibrate` adds them.")
        precisions = [results["settings"][part].get("precision") for part in ("training", "test")]
        of_checkpoint = results["settings"]["test"]["kind"] == "checkpoint"  # an export's are of its own precision
        found_in_another = of_checkpoint and None not in precisions and len(set(precisions)) > 1
        if self.judge and self.asked.threshold is None and found_in_another:
            notes.append(
                f"The thresholds were found in {precisions[0]}: in {precisions[1]} scores differ a little, so an image "
                "close to its threshold may be called otherwise."
            )
        return notes

    def _write(
        self, results: Results, outcome: Outcome, judged: Mapping[int, Judged], shown: dict[int, Shown], base: Path
    ) -> None:
        notes = self._notes(results, outcome, judged)
        write_whole(self.folder / "metrics.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
        write_whole(self.folder / "metrics.csv", csv_table(results))
        write_whole(self.folder / "metrics.md", markdown_tables(results, notes))
        written = [self.folder / f"metrics.{suffix}" for suffix in ("json", "csv", "md")]
        if self.curves:
            folder = self.folder / "curves"
            written += [
                *write_curves(folder, outcome.curves, results, FPR_LIMIT),
                write_histograms(folder, outcome.scores, self._thresholds(outcome)),
            ]
        page = self.folder / "report.html"
        page.unlink(missing_ok=True)  # of an earlier test
        if shown:
            share = self.judge.false_alarms if self.judge else None
            write_report(page, [shown[index] for index in sorted(shown)], results, notes, share, base)
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
        names = module.about.categories if self.judge else []
        thresholds = {name: self.judge.threshold(name).pixel for name in names} if self.judge else {}

        def detect(batch: Batch) -> list[Tensor]:
            names = [shown.samples[i].category for i in batch.index.tolist()]
            return list(module.about.inspection(module.test_step(batch, 0), names).map)

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
