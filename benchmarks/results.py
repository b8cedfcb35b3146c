"""Writes the tables of the pages in DOCUMENTS from the records in docs/results.jsonl, and checks prose; adds records.

    python benchmarks/results.py
    python benchmarks/results.py add --table four --command "sivt fit --config small --seed_everything SEED" \\
        --commit 1ecc997 --machine "AMD EPYC, one core" runs/four/version_*
    python benchmarks/results.py add --table plus runs/experiments/plus.csv

A comment `<!-- table: NAME -->` stands before each table (`<!-- table: NAME | FIGURE; FIGURE -->` where it shows only
these), or `<!-- rows: TABLE | ROW; ... -->` before one whose rows are of several; a comment
`<!-- figures: TABLE | ROW | FIGURE; ... -->` ends each paragraph that tells figures and names their records, in order:
parts that are left out are those of the record before, and of a row its beginning is enough. Figures are all decimal
numbers but settings in `code`, versions, and those with a unit. What a record is, and how seeds are joined:
benchmarks/records.py.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from measured import Told, measured
from records import Rows, add, joined, read_records

REPOSITORY = Path(__file__).parents[1]
# Where in a document all figures are those of records: from one heading to another.
DOCUMENTS = {
    "docs/results.md": ("# Results", None),
    "docs/results-appendix.md": ("# Results: appendix", None),
    "README.md": ("## Results", "## In Python"),
}
TABLE = re.compile(r"(<!-- table: (.+) -->\n\|)([^|]*)(\|.*\n(?:\|.*\n)*)")
ROWS = re.compile(r"<!-- rows:([^>]+)-->\n(\|.*)\n\|[-:| ]+\n((?:\|.*\n)*)")
REFERENCES = re.compile(r"<!-- figures:(.*?)-->", re.DOTALL)
NO_FIGURE = re.compile(r"`[^`]*`|<!--.*?-->|\b(?:Python|torch) [\d.]+|\b\d+\.\d+ (?:ms|M|points?|minutes)\b", re.DOTALL)
FIGURE = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.]*\d)")


class Reference(NamedTuple):
    """One record."""

    table: str
    row: str
    figure: str


def with_tables(text: str, records: Rows) -> str:
    """The document with each table as the records have it; only its first column, or the name of that, is its own."""

    def table(match: re.Match[str]) -> str:
        name, _, chosen = match[2].partition(" | ")
        rows = records[name]
        every = dict.fromkeys(figure for row in rows.values() for figure in row)
        figures = chosen.split("; ") if chosen else list(every)
        if lost := set(figures) - every.keys():
            raise ValueError(f"{name}: has no {lost.pop()}, only {', '.join(every)}")
        lines = [f"| {' | '.join(figures)} |", "|---" + "|---:" * len(figures) + "|"]
        for name, row in rows.items():
            lines.append(f"| {name} | {' | '.join(row.get(figure, '-') for figure in figures)} |")
        return match[1] + match[3] + "\n".join(lines) + "\n"

    def rows(match: re.Match[str]) -> str:
        _, *figures = (cell.strip() for cell in match[2].strip("|").split("|"))
        lines, places = match[3].splitlines(), _items(match[1])
        for number, (line, place) in enumerate(zip(lines, places, strict=True)):
            row = records[place[0]][_row_of(records, *place)]
            lines[number] = f"|{line.split('|')[1]}| {' | '.join(row.get(figure, '-') for figure in figures)} |"
        return match[0][: match.start(3) - match.start()] + "\n".join(lines) + "\n"

    return ROWS.sub(rows, TABLE.sub(table, text))


def faults(text: str, records: Rows) -> Iterator[str]:
    """What is wrong with the figures of a document's prose, and which of its tables are not written from records."""
    for block in re.split(r"\n\s*\n", text):
        if re.search(r"^\|", block, re.MULTILINE):
            if not (TABLE.fullmatch(block.strip() + "\n") or ROWS.fullmatch(block.strip() + "\n")):
                yield f"a table without a comment that names its records: {block.splitlines()[0]}"
            continue
        figures = FIGURE.findall(NO_FIGURE.sub("", block))
        try:
            references = list(_references("; ".join(REFERENCES.findall(block)), records))
        except ValueError as error:
            yield str(error)
            continue
        if len(figures) != len(references):
            yield f"{len(figures)} figures ({', '.join(figures)}), but {len(references)} records named: {block}"
            continue
        for figure, reference in zip(figures, references, strict=True):
            value = records[reference.table][reference.row][reference.figure].split()[0]
            step = Decimal(1).scaleb(Decimal(figure).as_tuple().exponent)  # type: ignore[arg-type]
            if abs(Decimal(figure) - Decimal(value)) > step / 2:
                yield f"{figure} is {value} in the records ({' | '.join(reference)})"


def _references(text: str, records: Rows) -> Iterator[Reference]:
    table, row = "", ""
    for *place, figure in _items(text):
        if len(place) == 2:
            table = place[0]
        if place or not row:
            row = _row_of(records, table, place[-1] if place else "")
        if figure not in records[table][row]:
            raise ValueError(f"{figure}: {table} | {row} has {', '.join(records[table][row])} only")
        yield Reference(table, row, figure)


def _items(text: str) -> list[list[str]]:
    """Of a comment: places of records, in parts."""
    return [" ".join(item.split()).split(" | ") for item in text.split(";") if item.strip()]


def _row_of(records: Rows, table: str, beginning: str) -> str:
    if table not in records:
        raise ValueError(f"{beginning}: there is no table {table!r}")
    rows = [name for name in records[table] if name == beginning]
    rows = rows or [name for name in records[table] if name.strip("*").startswith(beginning)]
    if len(rows) != 1:
        raise ValueError(f"{beginning}: {len(rows)} rows of {table} begin so")
    return rows[0]


def part_of(document: str, text: str) -> str:
    """That in which all figures are those of records."""
    start, end = DOCUMENTS[document]
    return text[text.index(f"{start}\n") : None if end is None else text.index(f"{end}\n")]


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description="Write the tables of the pages from the records, and check the prose.")
    adding = parser.add_subparsers(dest="do").add_parser("add", help="add records of what was measured")
    adding.add_argument(
        "places", nargs="+", type=Path, help="tested runs, metrics.json, <name>.csv of `sivt experiment`"
    )
    adding.add_argument("--table", required=True)
    adding.add_argument("--row", help="with --by category it follows the category's name")
    adding.add_argument("--by", choices=("category", "mean"), default="category", help="a row for each, or one")
    adding.add_argument("--part", help="of a JSON file that holds several, as nearest_neighbour.py writes")
    adding.add_argument("--command", help="that trained, or else measured; SEED in it is each record's seed")
    adding.add_argument("--commit", help="of the code that ran")
    adding.add_argument("--machine")
    adding.add_argument("--date", help="2026-11-26; if not given, the day that the file was written")
    adding.add_argument("--seed", type=int, help="if not given, that of the model")
    return parser.parse_args()


def main() -> int:
    """Writes the tables, or adds records; 1 where the prose says something else, or a record is wrong."""
    given = vars(arguments())
    try:
        if given.pop("do"):
            new = measured(given.pop("places"), Told(**given))
            add(new)
            print(f"{len(new)} records added. `python benchmarks/results.py` writes the tables from them.")
            return 0
        wrong = list(written(joined(read_records())))
    except ValueError as error:
        wrong = [str(error)]
    for fault in wrong:
        print(fault, file=sys.stderr)
    return int(bool(wrong))


def written(records: Rows) -> Iterator[str]:
    """Writes the tables; what the prose says otherwise."""
    for document in DOCUMENTS:
        file = REPOSITORY / document
        text = with_tables(file.read_text(encoding="utf-8"), records)
        file.write_text(text, encoding="utf-8")
        yield from (f"{document}: {fault}" for fault in faults(part_of(document, text), records))


if __name__ == "__main__":
    sys.exit(main())
