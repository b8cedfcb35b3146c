"""`sivt compare`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.errors import SIVTError
from sivt_lightning.evaluation.comparison import comparison_notes, comparison_rows, group_seeds, read_tests
from sivt_lightning.files import csv_text, writable_folder, write_whole
from sivt_lightning.report.tables import FIGURES, console_table, markdown_notes, markdown_table


def run(args: Sequence[str]) -> int:
    """`sivt compare A B ...`: a table on screen, and as a file where asked for."""
    parser = verb_parser("compare")
    parser.add_argument("tests", type=str, nargs="+", help="metrics.json files, or run or test folders that hold one.")
    text = f"Rows to show, such as [image_auroc,pixel_ap]. Default: all of {', '.join(FIGURES)}."
    parser.add_argument("--figures", type=list[str] | None, help=text)
    parser.add_argument("--categories", type=bool, default=False, help="Also a row for each category.")
    parser.add_argument("--output", type=str | None, help="File for the table, ending in .md or .csv.")
    settings = parse(parser, args)
    figures = list(FIGURES) if settings.figures is None else settings.figures
    for figure in figures:
        if figure not in FIGURES:
            raise SIVTError(f"figures: {figure} is none of {', '.join(FIGURES)}. Give a list: [image_auroc,pixel_ap].")
    output = None if settings.output is None else Path(settings.output)
    if output is not None and output.suffix not in (".md", ".csv"):
        raise SIVTError(f"output {output}: give a file that ends in .md or .csv.")
    tests = read_tests(settings.tests)
    columns = group_seeds(tests)
    heading = ["", *(column.name for column in columns)]
    cells = comparison_rows(columns, figures, settings.categories)
    notes = comparison_notes(tests, columns)
    Console().print(console_table("Test figures side by side", heading, cells))
    print(*notes, sep="\n")
    if output is not None:
        writable_folder(output.parent)
        lines = markdown_table(heading, cells) + markdown_notes(notes)
        write_whole(output, csv_text([heading, *cells]) if output.suffix == ".csv" else "\n".join(lines) + "\n")
        print(f"Written: {output}")
    return 0
