"""What trainings came to: a row for each in CSV, a row for each setting in Markdown."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sivt_lightning.experiment.plan import Experiment, Run
from sivt_lightning.files import csv_text, read_csv
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.report import tables

TESTED = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
VALIDATED = ("val/loss", "val/synthetic_auroc", "val/synthetic_pixel_ap")
PASSES = "image passes"  # of training, to reach what the experiment asks for
SHOWN = tables.HEADINGS | {
    "val/loss": "validation loss",
    "val/synthetic_auroc": "synthetic AUROC",
    "val/synthetic_pixel_ap": "synthetic pixel AP",
}


class Outcome(NamedTuple):
    """One training: how it was made and what was measured."""

    run: Run
    record: dict[str, Any]
    figures: dict[str, float]

    @classmethod
    def read(cls, run: Run, record: dict[str, Any], folder: Path, reach: float | None) -> "Outcome":
        """From the logs and tables in a run's folder: means over the categories, all of what best.ckpt holds."""
        figures: dict[str, float] = {}
        if record["error"]:
            return cls(run, record, figures)
        tested = folder / "test" / "metrics.json"
        if tested.is_file():
            mean = json.loads(tested.read_text(encoding="utf-8"))["mean"]
            figures = {name: mean[name] for name in TESTED if mean[name] is not None}
        rows = [row for row in read_csv(folder / "metrics.csv") if row["val/loss"]]
        saved = read_checkpoint(str(folder / "checkpoints" / "best.ckpt"))["global_step"]
        for row in rows:
            if int(row["step"]) + 1 == saved:  # Lightning logs after so many steps, counted from 0
                figures |= {name: float(row[name]) for name in VALIDATED if row.get(name)}
        if reach is not None:
            scored = [row for row in rows if row.get("val/synthetic_auroc")]
            passes = (float(row["train/images"]) for row in scored if float(row["val/synthetic_auroc"]) >= reach)
            figures[PASSES] = next(passes, math.nan)
        return cls(run, record, figures)


def csv_table(outcomes: Sequence[Outcome]) -> str:
    """A row for each training, with all that it takes to repeat it."""
    details = ("seconds", "commit", "date", "machine", "error")
    columns = _columns(outcomes)
    rows = [["row", "seed", "category", *columns, *details, "arguments"]]
    for run, record, figures in outcomes:
        cells = [run.row, str(run.seed), run.category or "", *(str(figures.get(name, "")) for name in columns)]
        rows.append(
            [
                *cells,
                *("" if record[name] is None else str(record[name]) for name in details),
                json.dumps(run.arguments),
            ]
        )
    return csv_text(rows)


def markdown_table(experiment: Experiment, outcomes: Sequence[Outcome], categories: int = 1) -> str:
    """A row for each row of the experiment: means over its trainings, with standard deviations over seeds.

    A seed of individual models is left out until all `categories` have theirs.
    """
    columns = _columns(outcomes)
    cells, notes = [], []
    for row in experiment.rows:
        done = [outcome for outcome in outcomes if outcome.run.row == row]
        for run, record, _ in done:
            if record["error"]:
                of = f", {run.category}" if run.category else ""
                notes.append(f"{row}: not run with seed {run.seed}{of}. {record['error']}")
        needed = categories if row in experiment.individual else 1
        whole = [seed for seed in _of_seeds([o for o in done if not o.record["error"]]) if len(seed) == needed]
        if whole:
            seconds = [outcome.record["seconds"] for seed in whole for outcome in seed]
            minutes = "-" if None in seconds else f"{sum(seconds) / 60 / len(whole):.1f}"
            values = [[_mean(seed, name) for seed in whole] for name in columns]
            cells.append([row, *map(_cell, columns, values), minutes, str(len(whole))])
        if row in experiment.paper:
            published = experiment.paper[row]
            cells.append(
                [f"{row} (paper)", *(_cell(c, [published[c]]) if c in published else "" for c in columns), "", ""]
            )
    heading = ["", *(SHOWN.get(name, name) for name in columns), "minutes", "seeds"]
    days = sorted({outcome.record["date"] for outcome in outcomes})
    commits = sorted({outcome.record["commit"] for outcome in outcomes if outcome.record["commit"]})
    machines = sorted({outcome.record["machine"] for outcome in outcomes})
    if days:
        notes.append(
            f"{days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}; {', '.join(machines)}; commit {', '.join(commits)}"
        )
    lines = [
        f"### {tables.markdown_text(experiment.title)}",
        "",
        *tables.markdown_table(heading, cells),
        *tables.markdown_notes(notes),
    ]
    return "\n".join(lines) + "\n"


def _columns(outcomes: Sequence[Outcome]) -> list[str]:
    known = {name for outcome in outcomes for name in outcome.figures}
    return [name for name in (*TESTED, *VALIDATED, PASSES) if name in known]


def _of_seeds(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """The trainings of each seed: one, or one for each category."""
    seeds = sorted({outcome.run.seed for outcome in outcomes})
    return [[outcome for outcome in outcomes if outcome.run.seed == seed] for seed in seeds]


def _mean(outcomes: Sequence[Outcome], name: str) -> float:
    return statistics.fmean(outcome.figures.get(name, math.nan) for outcome in outcomes)


def _cell(name: str, values: Sequence[float]) -> str:
    """
    >>> _cell("pixel_ap", [0.25, 0.75]), _cell("pixel_ap", [math.nan]), _cell(PASSES, [5000.0])
    ('0.5000 ± 0.3536', '-', '5000')
    >>> _cell(PASSES, [5000.0, math.nan])
    '5000 (1 of 2)'
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "-"
    digits = 0 if name == PASSES else 2 if name == "val/loss" else 4
    spread = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    some = f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
    return f"{statistics.fmean(known):.{digits}f}{spread}{some}"
