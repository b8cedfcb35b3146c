"""The figures of an evaluation as CSV, Markdown and tables for the console. Names are data: they are escaped."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sivt_lightning.files import csv_text

HEADINGS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1-max",
    "pixel_aupro": "pixel AUPRO",
}
FIGURES = tuple(HEADINGS)
OPERATING = {  # null where undefined
    "normal_images": "normal",
    "anomalous_images": "anom.",
    "threshold": "threshold",  # of "pooled" only where all images have the same
    "recall": "recall",  # share of the anomalous images that are called so
    "false_alarm_rate": "false alarms",  # share of the normal images that are called anomalous
    "f1": "F1",
}
PRODUCTS = ("recognised", "unknown")  # shares of the images, null where the model recognises no products
SUMMARIES = ("mean", "pooled")  # rows below those of the categories
SHARES = ("recall", "false_alarm_rate", "f1")
BY_DEFECT = "Image AUROC by kind of defect"
MOST_KINDS = 4  # a table wide enough for a terminal; metrics.json has all
ORACLE = "F1-max (oracle: uses test labels)"

Figures = dict[str, float | None]  # None where undefined
KindFigures = dict[str, int | float | None]  # of a kind of defect: "images" and "image_auroc"


class Results(TypedDict):
    """What `metrics.json` holds."""

    categories: dict[str, Figures]
    mean: Figures
    pooled: Figures
    pooled_raw: NotRequired[Figures]  # of raw scores, where `pooled` is of calibrated ones
    error_bounds: dict[str, Any]  # the same three: how far each figure is at most from the exact one
    operating_points: dict[str, Any]  # the same three, each with the keys of OPERATING
    defects: NotRequired[dict[str, dict[str, KindFigures]]]  # by category and kind
    notes: dict[str, str]  # by path, what to know of how a photo or its mask was read
    settings: dict[str, Any]  # of model, data, training and test


def figure_rows(results: Results, undefined: str = "") -> list[list[str]]:
    """Cells of each category's figures, then of the mean and the pooled ones."""
    return [[name, *(_cell(figures[f], undefined) for f in FIGURES)] for name, figures in _named(results)]


def operating_rows(results: Results, undefined: str = "") -> list[list[str]]:
    """Cells of each category's operating point, then of the mean and the pooled one, with F1-max beside them."""
    beside = zip(_named(results["operating_points"]), _named(results), strict=True)
    return [
        [name, *(_cell(point[key], undefined) for key in OPERATING), _cell(figures["image_f1max"], undefined)]
        for (name, point), (_, figures) in beside
    ]


def kinds_of(results: Results) -> list[str]:
    """Kinds of defect that all categories have, where they are several that fit a table, and there are no others."""
    kinds = [list(of) for of in results.get("defects", {}).values()]
    return kinds[0] if kinds and 1 < len(kinds[0]) <= MOST_KINDS and all(of == kinds[0] for of in kinds) else []


def defect_rows(results: Results, undefined: str = "") -> list[list[str]]:
    """Cells of each category's image AUROC by kind of defect, then of their mean."""
    kinds, rows = kinds_of(results), list[list[str]]()
    of = [[figures[kind]["image_auroc"] for kind in kinds] for figures in results.get("defects", {}).values()]
    for name, values in zip(results.get("defects", {}), of, strict=True):
        rows.append([row_name(name), *(_cell(value, undefined) for value in values)])
    columns = [[value for value in column if value is not None] for column in zip(*of, strict=True)]
    means = [sum(column) / len(column) if column else None for column in columns]
    return [*rows, ["mean", *(_cell(value, undefined) for value in means)]]


def _named(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    categories = [(row_name(category), figures) for category, figures in results["categories"].items()]
    return [*categories, *((name, results[name]) for name in SUMMARIES)]


def row_name(category: str) -> str:
    """What a category is called in a table, where two rows have names of their own.

    >>> row_name("bolt"), row_name("Mean")
    ('bolt', 'Mean (category)')
    """
    return f"{category} (category)" if category.casefold() in SUMMARIES else category


def _cell(value: float | int | None, undefined: str) -> str:
    """
    >>> _cell(0.98765, "-"), _cell(12345.678, "-"), _cell(7, "-"), _cell(None, "-")
    ('0.9877', '12345.7', '7', '-')
    """
    if value is None:
        return undefined
    return str(value) if isinstance(value, int) else f"{value:.4f}" if value < 10 else f"{value:.6g}"


def csv_table(results: Results) -> str:
    """Comma-separated rows; an undefined figure is an empty cell."""
    both = zip(figure_rows(results), operating_rows(results), strict=True)
    rows = [[*figures, *operating[1:-1]] for figures, operating in both]
    return csv_text([["category", *FIGURES, *OPERATING], *rows])


def markdown_tables(results: Results, notes: Sequence[str] = ()) -> str:
    """Markdown tables, with notes as a list below."""
    lines = markdown_table(["category", *HEADINGS.values()], figure_rows(results, "-"))
    if kinds := kinds_of(results):
        lines += ["", f"{BY_DEFECT}:", ""]
        lines += markdown_table(["category", *kinds], defect_rows(results, "-"))
    lines += ["", "Verdicts at the threshold:", ""]
    lines += markdown_table(["category", *OPERATING.values(), ORACLE], operating_rows(results, "-"))
    return "\n".join(lines + markdown_notes(notes)) + "\n"


def markdown_table(heading: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table whose columns, but for the first, are numbers."""
    lines = [_markdown_row(heading), "|---|" + "---:|" * (len(heading) - 1)]
    return lines + [_markdown_row(row) for row in cells]


def markdown_notes(notes: Sequence[str]) -> list[str]:
    """The lines of a list below a table."""
    return ["", *(f"- {markdown_text(note)}" for note in notes)]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"


def markdown_text(text: str) -> str:
    """Text in which nothing is markup.

    >>> print(markdown_text("a|b <i> *c*"))
    a\\|b \\<i\\> \\*c\\*
    """
    text = " ".join(text.split())  # a line break would end the row
    return "".join(f"\\{c}" if c in "\\|`*<>[]" else c for c in text)


def console_tables(results: Results) -> list[Table]:
    """The tables as rich prints them."""
    kinds = kinds_of(results)
    by_defect = [console_table(BY_DEFECT, ["category", *kinds], defect_rows(results, "-"), 1)] if kinds else []
    return [
        console_table("Test, in fractions of 1", ["category", *HEADINGS.values()], figure_rows(results, "-"), 2),
        *by_defect,
        console_table(
            "Verdicts at the threshold", ["category", *OPERATING.values(), ORACLE], operating_rows(results, "-"), 2
        ),
    ]


def console_table(title: str, heading: Sequence[str], cells: Sequence[Sequence[str]], last: int = 0) -> Table:
    """A table whose columns, but for the first, are numbers; a line parts the `last` rows from those above.

    `Text` keeps square brackets in a name from being read as markup.
    """
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)  # narrow: eight columns in a terminal of 80
    for number, name in enumerate(heading):
        longest = max(map(len, name.split()), default=0)
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold", min_width=longest)
    for i, (name, *values) in enumerate(cells):
        table.add_row(Text(name), *(Text(value) for value in values), end_section=i == len(cells) - last - 1)
    return table
