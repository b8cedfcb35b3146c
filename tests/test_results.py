"""The figures of the pages are those of the records, in tables and in text."""

import re
from pathlib import Path

import pytest
from scripts import script

REPOSITORY = Path(__file__).parents[1]


results = script("benchmarks/results.py")
records = script("benchmarks/records.py")
RECORDS = records.joined(records.read_records())
documents = pytest.mark.parametrize("document", results.DOCUMENTS)


def text_of(document: str) -> str:
    return (REPOSITORY / document).read_text()


@documents
def test_the_tables_are_written_from_the_records(document: str) -> None:
    assert results.with_tables(text_of(document), RECORDS) == text_of(document)


@documents
def test_the_text_tells_the_figures_of_the_records(document: str) -> None:
    assert list(results.faults(results.part_of(document, text_of(document)), RECORDS)) == []


def test_every_record_is_shown() -> None:
    whole = "".join(map(text_of, results.DOCUMENTS))
    tables = {name.split(" | ")[0] for _, name, *_ in results.TABLE.findall(whole)}
    rows = [place for places, *_ in results.ROWS.findall(whole) for place in results._items(places)]
    shown = {(table, row) for table in tables for row in RECORDS[table]}
    shown |= {(table, results._row_of(RECORDS, table, row)) for table, row in rows}
    assert shown == {(table, row) for table in RECORDS.keys() - {"noted"} for row in RECORDS[table]}
    printed = {
        reference
        for block in re.split(r"\n\s*\n", whole)
        for reference in results._references("; ".join(results.REFERENCES.findall(block)), RECORDS)
    }
    noted = {("noted", row, figure) for row, figures in RECORDS["noted"].items() for figure in figures}
    assert noted <= printed


def test_each_figure_of_the_text_that_is_altered_is_noticed() -> None:
    parts = [results.part_of(document, text_of(document)) for document in results.DOCUMENTS]
    blocks = [block for part in parts for block in re.split(r"\n\s*\n", part) if results.REFERENCES.search(block)]
    altered = 0
    for block in blocks:
        hidden = results.NO_FIGURE.sub(lambda match: "x" * len(match[0]), block)  # in place
        for figure in results.FIGURE.finditer(hidden):
            last = figure.end() - 1
            other = block[:last] + str((int(block[last]) + 5) % 10) + block[last + 1 :]
            assert list(results.faults(other, RECORDS)), figure[0]
            altered += 1
    assert altered > 80


@documents
def test_each_cell_that_is_altered_is_noticed(document: str) -> None:
    text = text_of(document)
    for table in (*results.TABLE.finditer(text), *results.ROWS.finditer(text)):
        hidden = re.sub(r"<!--.*?-->", lambda comment: "x" * len(comment[0]), table[0], flags=re.DOTALL)  # in place
        cells = list(re.finditer(r"\| -?\d[\d.]*", hidden))
        assert cells
        for cell in (cells[0], cells[len(cells) // 2], cells[-1]):
            last = table.start() + cell.end() - 1
            other = text[:last] + str((int(text[last]) + 1) % 10) + text[last + 1 :]
            assert results.with_tables(other, RECORDS) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("It has image AUROC 0.655.", "but 0 records named"),
        ("It has 0.655. <!-- figures: sivt_plus | tire | pixel AUROC -->", "0.655 is 0.9887 in the records"),
        ("It has 0.655. <!-- figures: sivt_plus | tire | image AUROC; pixel AUROC -->", "but 2 records named"),
        ("It has 0.655. <!-- figures: sivt_plus | wheel | image AUROC -->", "0 rows of sivt_plus"),
        ("It has 0.655. <!-- figures: elsewhere | tire | image AUROC -->", "no table 'elsewhere'"),
        ("It has 0.655. <!-- figures: sivt_plus | tire | colour -->", "has image AUROC, "),
        ("| | AUROC |\n|---|---:|\n| tire | 0.6546 |", "a table without a comment"),
    ],
)
def test_what_names_no_record_is_noticed(text: str, sentence: str) -> None:
    (fault,) = results.faults(text, RECORDS)
    assert sentence in fault


@pytest.mark.parametrize(
    "text",
    [
        "Of 0.655 and 0.65. <!-- figures: sivt_plus | tire | image AUROC; image AUROC -->",
        "A power of `0.25` with torch 2.11 and Python 3.12.3 takes 0.4 ms.",
    ],
)
def test_what_is_right_is_left_alone(text: str) -> None:
    assert list(results.faults(text, RECORDS)) == []


def test_the_page_of_results_is_short() -> None:
    assert len(text_of("docs/results.md").splitlines()) <= 200


@documents
def test_lines_are_short_but_those_of_tables_and_pictures(document: str) -> None:
    lines = results.part_of(document, text_of(document)).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(("|", "!["))] == []


def test_a_table_shows_the_figures_that_are_asked_for() -> None:
    text = "<!-- table: induction | pixel AP; image AUROC -->\n|  |\n|---|\n"
    written = results.with_tables(text, RECORDS).splitlines()
    assert written[1:4] == ["|  | pixel AP | image AUROC |", "|---|---:|---:|", "| self-induction | 0.3822 | 0.8897 |"]
    with pytest.raises(ValueError, match="induction: has no colour, only image AUROC"):
        results.with_tables(text.replace("pixel AP", "colour"), RECORDS)
