"""Lists of photos as CSV or JSON lines: a photo each, with what is known of it. Paths in them begin at the list."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sivt_lightning.data.folders import exists
from sivt_lightning.data.names import meaning
from sivt_lightning.data.remote import RemotePath
from sivt_lightning.data.samples import Sample
from sivt_lightning.data.urls import in_archive, is_url, path_of
from sivt_lightning.errors import SIVTError, listing
from sivt_lightning.files import csv_text, unguarded

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
# What others call the columns, in lower case and with underscores.
COLUMNS = {
    "path": "path image image_path img img_path file filename file_name filepath file_path photo",
    "category": "category product object category_name product_name cls_name class_name",
    "split": "split subset partition set part phase",
    "label": "label anomalous anomaly is_anomaly",
    "defect": "defect defect_type anomaly_class anomaly_type kind type",
    "mask": "mask mask_path ground_truth gt gt_path segmentation",
    "roi": "roi roi_path",
}
FILES = ("path", "mask", "roi")  # the columns that name them
CALLED = {other: column for column, others in COLUMNS.items() for other in others.split()}
SEPARATORS = ",;\t"
GOOD, DEFECT = ("0", "false", "no"), ("1", "true", "yes")  # of a column that asks whether it is anomalous


class Row(NamedTuple):
    """A line as it is written, "" where it says nothing."""

    line: int  # on which it begins
    path: str
    category: str = ""
    split: str = ""
    label: str = ""
    defect: str = ""
    mask: str = ""
    roi: str = ""


class Table(NamedTuple):
    """A list as it is written."""

    file: Path
    base: Path  # where paths begin
    columns: list[str]  # of COLUMNS, that it has
    others: list[str]  # that nothing is known of
    rows: list[Row]

    def fault(self, row: Row, said: str) -> SIVTError:
        """One that names the line."""
        return SIVTError(f"{self.file}, line {row.line}: {said}")

    def place(self, row: Row, text: str) -> Path:
        """Where the file or folder is that a cell names. Raises SIVTError where there is none."""
        # As it stands, as our own tables have it, so that no spreadsheet runs it, or as people align columns.
        for written in (text, unguarded(text), text.strip()):
            if is_url(written):
                path = path_of(written)
            elif isinstance(self.base, RemotePath):
                path = (self.base / written).resolve()
            else:
                path = in_archive(Path(os.path.normpath(self.base / written)))
            if exists(path):
                return path
        raise self.fault(row, f"{self.base / text} is not there. Correct its path, or take the line out.")


def is_list(path: str | Path) -> bool:
    """Whether it names a list rather than a folder."""
    place = path_of(path) if isinstance(path, str) else path
    return place.suffix.lower() in SUFFIXES and not place.is_dir()


def read_table(file: Path, example: str, needed: Sequence[str] = ("path",)) -> Table:
    """A list's rows.

    Args:
        example: how the sentence names columns, where one that is `needed` is missing.

    Raises SIVTError, with the number of the line where one is at fault.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise SIVTError(f"{file} does not exist. Name a list of photos, or a folder of them.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SIVTError(f"{file} cannot be read as a list of photos ({error}). Save it as CSV in UTF-8.") from error
    read = _json_records if file.suffix.lower() in (".jsonl", ".ndjson") else _csv_records
    records = list(read(file, text))
    names = list(dict.fromkeys(name for _, record in records for name in record))
    known = {name: CALLED[_plain(name)] for name in names if _plain(name) in CALLED}
    columns = list(known.values())
    if twice := [name for name, column in known.items() if columns.count(column) > 1]:
        raise SIVTError(f"{file} has two columns for the same thing, {listing(twice)}: rename or delete one of them.")
    if not set(needed) <= set(columns):
        raise SIVTError(f"{file}: {example}")
    # A record of no cells tells the columns of a list without rows.
    rows = [
        _row(line, {known[name]: text for name, text in of.items() if name in known}) for line, of in records if line
    ]
    if pathless := next((row for row in rows if not row.path), None):
        raise SIVTError(f"{file}, line {pathless.line}: it names no photo. Fill in its path, or take the line out.")
    return Table(file, file.parent, columns, [name for name in names if name and name not in known], rows)


def _row(line: int, cells: dict[str, str]) -> Row:
    # A file's name may begin or end in spaces.
    return Row(line, **{name: text if name in FILES else text.strip() for name, text in cells.items()})


def anomalous_of(table: Table, row: Row) -> bool | None:
    """What a row's label and defect say of its photo; None for nothing. Raises SIVTError where that is unclear."""
    label = _anomalous(row.label)
    defect = _anomalous(row.defect) is not False if row.defect else None
    if row.label and label is None:
        raise table.fault(row, f"its label is {row.label!r}; give good or defect, or leave it empty.")
    if None not in (label, defect) and label != defect:
        raise table.fault(row, f"its label is {row.label!r}, but its defect {row.defect!r}: correct one of them.")
    return defect if label is None else label


def _anomalous(text: str) -> bool | None:
    """
    >>> [_anomalous(text) for text in ("OK", "0", "anomaly", "True", "burr")]
    [False, False, True, True, None]
    """
    kind, plain = meaning(text).kind, text.casefold()
    if kind == "good" or plain in GOOD:
        return False
    return True if kind == "defects" or plain in DEFECT else None


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


def _csv_records(file: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(number of the line it begins on, cells by column); first a record of the line that names the columns."""
    heading, separator = list[str](), ","
    for separator in SEPARATORS:
        heading = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        if any(CALLED.get(_plain(name)) == "path" for name in heading):
            break
    if twice := [name for name in heading if name and heading.count(name) > 1]:
        raise SIVTError(f"{file} has two columns called {twice[0]}: rename or delete one of them.")
    yield 0, dict.fromkeys(heading, "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    line = 1
    try:
        for number, cells in enumerate(reader):
            if number and cells:
                if len(cells) > len(heading):
                    raise SIVTError(
                        f"{file}, line {line}: it has {len(cells)} cells, but the first line names {len(heading)}. Put "
                        'a name that holds the separator in quotes: "a,b.png".'
                    )
                yield line, dict(zip(heading, cells, strict=False))
            line = reader.line_num + 1
    except csv.Error as error:
        raise SIVTError(f"{file}, line {line}: it is no CSV ({error}). Save the list as CSV in UTF-8.") from error


def _json_records(file: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for line, written in enumerate(text.split("\n"), 1):  # other ends of lines may stand within a name
        if not written.strip():
            continue
        try:
            values = json.loads(written)
        except json.JSONDecodeError as error:
            raise SIVTError(f"{file}, line {line}: it is no JSON ({error}). Put one object on each line.") from error
        if not isinstance(values, dict):
            raise SIVTError(f'{file}, line {line}: it is no object, such as {{"path": "a.png", "label": "good"}}.')
        yield line, {name: _written(value) for name, value in values.items()}


def _written(value: object) -> str:
    """As a cell of CSV has it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def list_text(samples: Sequence[Sample], base: Path) -> str:
    """Photos as a list that lies in `base`: paths begin there where a photo lies below it, else they are absolute."""

    def seen(path: Path | None) -> str:
        if path is None or isinstance(path, RemotePath):
            return str(path or "")
        return str(path.relative_to(base) if path.is_relative_to(base) else path.absolute())

    def row(sample: Sample) -> list[str]:
        label = "" if sample.split == "predict" else "defect" if sample.anomalous else "good"
        defect = sample.defect if sample.anomalous else ""
        known = [seen(sample.path), sample.category, sample.split, label, defect, seen(sample.mask_path)]
        return [*known, seen(sample.roi_path)][: len(columns)]

    columns = [name for name in COLUMNS if name != "roi" or any(sample.roi_path for sample in samples)]
    return csv_text([columns, *map(row, samples)])


def once(table: Table, photos: Iterable[tuple[Row, Path]]) -> None:
    """Raises SIVTError where two rows are of one photo, which would count twice, or as good and as a defect."""
    seen: dict[str, int] = {}
    for row, photo in photos:
        line = seen.setdefault(str(photo) if isinstance(photo, RemotePath) else os.path.realpath(photo), row.line)
        if line != row.line:
            raise table.fault(row, f"{photo} stands in an earlier line, too ({line}). Take one out.")
