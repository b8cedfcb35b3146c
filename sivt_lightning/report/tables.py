"""The figures of an evaluation as CSV, Markdown and a table for the console. Names are data: they are escaped."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TypedDict

from rich.table import Table
from rich.text import Text

FIGURES = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
HEADINGS = {"image_auroc": "image AUROC", "image_ap": "image AP", "pixel_auroc": "pixel AUROC", "pixel_ap": "pixel AP"}

Figures = dict[str, float | None]  # one value for each of FIGURES, None where it is undefined
Counts = Mapping[str, tuple[int, int]]  # category -> its normal and anomalous images


class Results(TypedDict):
    """What `metrics.json` holds."""

    categories: dict[str, Figures]
    mean: Figures
    pooled: Figures


def rows(results: Results, counts: Counts, undefined: str = "") -> list[list[str]]:
    """One row of cells for each category, then the mean and the pooled figures; the last two cells count images.

    >>> figures = {"image_auroc": 0.9, "image_ap": 1.0, "pixel_auroc": None, "pixel_ap": None}
    >>> results = {"categories": {"screw": figures}, "mean": figures, "pooled": figures}
    >>> rows(results, {"screw": (2, 3)}, undefined="-")[0]
    ['screw', '0.9000', '1.0000', '-', '-', '2', '3']
    """
    total = (sum(normal for normal, _ in counts.values()), sum(anomalous for _, anomalous in counts.values()))
    named = [(name, figures, counts[name]) for name, figures in results["categories"].items()]
    named += [("mean", results["mean"], total), ("pooled", results["pooled"], total)]
    return [
        [name, *(_cell(figures[figure], undefined) for figure in FIGURES), str(normal), str(anomalous)]
        for name, figures, (normal, anomalous) in named
    ]


def _cell(value: float | None, undefined: str) -> str:
    return undefined if value is None else f"{value:.4f}"


def csv_table(results: Results, counts: Counts) -> str:
    """Comma-separated rows; an undefined figure is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["category", *FIGURES, "normal_images", "anomalous_images"])
    writer.writerows(rows(results, counts))
    return text.getvalue()


def markdown_table(results: Results, counts: Counts, notes: Sequence[str] = ()) -> str:
    """A Markdown table with its notes as a list below."""
    heading = ["category", *HEADINGS.values(), "normal", "anomalous"]
    lines = [_markdown_row(heading), "|---|" + "---:|" * (len(heading) - 1)]
    lines += [_markdown_row(row) for row in rows(results, counts, undefined="n/a")]
    lines += ["", *(f"- {_markdown_text(note)}" for note in notes)]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_markdown_text(cell) for cell in cells) + " |"


def _markdown_text(text: str) -> str:
    """Text in which nothing is markup.

    >>> print(_markdown_text("a|b <i> *c*"))
    a\\|b \\<i\\> \\*c\\*
    """
    text = " ".join(text.split())  # a line break would end the row
    return "".join(f"\\{c}" if c in "\\|`*<>[]" else c for c in text)


def console_table(results: Results, counts: Counts, title: str) -> Table:
    """The table as rich prints it; `Text` keeps square brackets in a name from being read as markup."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column("category", overflow="fold")
    for heading in (*HEADINGS.values(), "normal", "anom."):
        table.add_column(heading, justify="right")
    every = rows(results, counts, undefined="n/a")
    for i, (name, *cells) in enumerate(every):
        last_category = i == len(every) - 3
        table.add_row(Text(name), *cells, end_section=last_category)
    return table
