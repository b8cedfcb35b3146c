"""CSV that no spreadsheet runs, that is UTF-8 always, and that gives back what went in."""

import csv
import io
import random
import re
from pathlib import Path

import pytest

from sivt_lightning.files import csv_text, read_csv, write_whole

HEADING = ["path", "error"]


def written(folder: Path, *rows: list[str]) -> Path:
    write_whole(folder / "table.csv", csv_text([HEADING, *rows]))
    return folder / "table.csv"


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1.png", "'=1+1.png"),
        ("+1.png", "'+1.png"),
        ("-1.png", "'-1.png"),
        ("@SUM(1).png", "'@SUM(1).png"),
        ("\t=1.png", "'\t=1.png"),
        ("＝1.png", "'＝1.png"),
        ("'=1.png", "''=1.png"),
        ("'plain.png", "'plain.png"),
        ("a;=1+1.png", "a;'=1+1.png"),  # a semicolon begins a cell where the comma is the decimal sign
        ("-1.5", "-1.5"),
        ("-2e-05", "-2e-05"),
        ("-inf", "-inf"),
        ("-", "-"),
        ("Gr\udcf6\udcdfe.png", r"Gr\xf6\xdfe.png"),
        (r"Gr\xf6\xdfe.png", r"Gr\x5cxf6\x5cxdfe.png"),
        (r"C:\new\a.png", r"C:\new\a.png"),
    ],
)
def test_names_are_no_formulas_and_come_back(name: str, cell: str, tmp_path: Path) -> None:
    file = written(tmp_path, [name, f"{name} cannot be read"])
    with file.open(newline="", encoding="utf-8") as stream:
        assert next(csv.DictReader(stream))["path"] == cell
    assert read_csv(file) == [{"path": name, "error": f"{name} cannot be read"}]


def test_any_cells_come_back_and_none_runs(tmp_path: Path) -> None:
    draw = random.Random(0)
    parts = [*"a='\",;\n\r\t\\-+@1. é＝", r"\x", "x5c", "ff", "\udcff", "\udc80"]
    rows = [["".join(draw.choices(parts, k=draw.randint(0, 6))) for _ in HEADING] for _ in range(5000)]
    file = written(tmp_path, *rows)
    assert [list(row.values()) for row in read_csv(file)] == rows
    text = file.read_bytes().decode()  # which raises where it is no UTF-8
    assert len(list(csv.reader(io.StringIO(text, newline="")))) == len(rows) + 1
    for delimiter in ",;":
        cells = [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) for cell in row]
        runs = [cell for cell in cells if cell.startswith(tuple("=@\t\r＝")) or re.match(r"[+-].*=", cell, re.DOTALL)]
        assert [cell for cell in runs if not cell.startswith(("-,", "+,"))] == []  # a row whose first cell is a sign


def test_it_is_read_as_pythons_reader_does(tmp_path: Path) -> None:
    draw = random.Random(1)
    for _ in range(300):
        text = "a,b\n" + "".join(draw.choices(['"', ",", "\n", "\r\n", "x", " "], k=12)) + "\n"
        (tmp_path / "table.csv").write_text(text, newline="")
        rows, theirs = read_csv(tmp_path / "table.csv"), csv.DictReader(io.StringIO(text, newline=""))
        whole = [row for row in theirs if None not in row and None not in row.values()]
        assert rows == whole[: len(rows)]
        assert len(rows) >= len(whole) - 1  # theirs takes what ends within quotes for a row


def test_a_cell_may_have_any_length_and_pythons_limit_stays(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    long = 'x,"' * limit
    assert read_csv(written(tmp_path, ["a.png", long])) == [{"path": "a.png", "error": long}]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("cut", [1, 3, 8, 14])
def test_a_row_that_a_kill_cut_short_is_left_out(tmp_path: Path, cut: int) -> None:
    file = written(tmp_path, ["a.png", ""], ["two\nlines.png", "why"])
    file.write_bytes(file.read_bytes()[:-cut])
    assert read_csv(file) == [{"path": "a.png", "error": ""}]


def test_tables_of_earlier_versions_and_of_spreadsheets_are_read(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbfpath,error\r\n=1+1.png,\r\n\xff.png,\r\n")
    assert [row["path"] for row in read_csv(tmp_path / "table.csv")] == ["=1+1.png", "\udcff.png"]
    (tmp_path / "table.csv").write_text("")
    assert read_csv(tmp_path / "table.csv") == []
