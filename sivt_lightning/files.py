"""Files that appear whole, and CSV that any program can take in: names of files are data, whatever they are made of."""

import codecs
import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sivt_lightning.errors import SIVTError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# Where a spreadsheet, which may take a semicolon for the comma, would see a formula's beginning.
_FORMULA = r"[\"']*[=+\-@\t\r\n＝＋－＠]"
_UNGUARDED = re.compile(rf"(^|[;\r\n])(?={_FORMULA})")
_GUARDED = re.compile(rf"(^|[;\r\n])'(?={_FORMULA})")
_HARMLESS = re.compile(r"[+-]?(?:[0-9.]+(?:e[+-]?[0-9]+)?|inf|nan)|-")  # a number, or the dash that stands for none
_BYTE = re.compile(r"\\x([0-9a-f]{2})")
# Quoted, cut off within quotes, or plain; then what ends it. Any text is a row of these.
_CELL = re.compile(r'(?:"((?:[^"]|"")*+)(?:"([^,\r\n]*)|\Z)|([^,\r\n]*))(,|\r\n|\r|\n|\Z)')


def writable_folder(folder: Path, option: str = "--output") -> Path:
    """The folder, made where it is missing; refused before the work starts rather than after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SIVTError(f"Cannot write into {folder}: {error.strerror}. Name another folder with {option}.") from error
    return folder


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another name to write the file under; it is moved into place at the end, so it is there whole or not at all."""
    part = path.with_name(f"{path.name}.tmp")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # of a disk that has failed already
            part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """A text that is there whole or not at all."""
    with whole(path) as part:
        part.write_bytes(visible(text).encode())


def visible(text: str) -> str:
    r"""Text that is UTF-8 always: a byte of a file name that is not is shown as \xff.

    >>> print(visible("Gr\udcf6\udcdfe"))
    Gr\xf6\xdfe
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def escaped(text: str) -> str:
    r"""As `visible`, but so that `unescaped` gives the text back: a backslash before an x is \x5c.

    >>> print(escaped("\udcff"), escaped(r"\xff"), unescaped(escaped(r"\xff")))
    \xff \x5cxff \xff
    """
    return visible(text.replace("\\x", "\\x5cx"))


def unescaped(text: str) -> str:
    """What `escaped` was given."""
    return _BYTE.sub(lambda escape: bytes.fromhex(escape[1]).decode("utf-8", "surrogateescape"), text)


def _shown(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    shown = (visible(letter) if "\udc80" <= letter <= "\udcff" else letter for letter in letters)
    return "".join(shown).encode("ascii", "backslashreplace").decode(), error.end


SHOWN = "sivt_shown"  # how a screen takes what it cannot encode: a file's name is shown as in tables
codecs.register_error(SHOWN, _shown)


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    r"""Rows of cells as CSV that no spreadsheet runs and that is UTF-8 always; `read_csv` gives the cells back.

    What a spreadsheet would take for a formula, and is no number, gets an apostrophe before it; a byte that is
    no UTF-8 is \xff, and a backslash before an x, that no name looks like one, \x5c.

    >>> print(csv_text([["=1+1.png", "-1.5", "-"], ["a, b", "\udcff", r"\xff"]]), end="")
    '=1+1.png,-1.5,-
    "a, b",\xff,\x5cxff
    """
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows)


def _cell(text: str) -> str:
    text = escaped(text)
    if not _HARMLESS.fullmatch(text):
        text = _UNGUARDED.sub(r"\1'", text)
    return '"' + text.replace('"', '""') + '"' if re.search('[",;\r\n]', text) else text


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a file that `csv_text` made, by the names in its first; but those that a kill has cut short.

    Python's own reader stops at cells of 131,072 characters, a limit that can be moved only for all of a process.
    """
    # A table of an earlier version may be no UTF-8; one that a spreadsheet has saved may begin with a mark.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        rows = _rows(stream.read())
    heading = rows[0] if rows else []
    return [dict(zip(heading, row, strict=True)) for row in rows[1:] if len(row) == len(heading)]


def _rows(text: str) -> list[list[str]]:
    rows, row, position = [], list[str](), 0
    while (match := _CELL.match(text, position)) and match[4]:  # the end of the file ends no row
        quoted, rest, plain, end = match.groups()
        row.append(unguarded(plain if quoted is None else quoted.replace('""', '"') + rest))
        if end != ",":
            rows.append(row)
            row = []
        position = match.end()
    return rows


def unguarded(cell: str) -> str:
    r"""What a cell of `csv_text`, or of a list that report.html saved, stands for.

    >>> unguarded("'=1+1.png"), unguarded("o'clock.png")
    ('=1+1.png', "o'clock.png")
    """
    cell = cell if _HARMLESS.fullmatch(cell) else _GUARDED.sub(r"\1", cell)
    return unescaped(cell)


def spare(photos: Iterable[Path], files: Iterable[Path]) -> None:
    """Raises SIVTError where one of the files to be written would replace a photo."""
    if lost := set(photos) & set(files):
        raise SIVTError(f"The results would overwrite the photo {min(lost)}. Name another folder with --output.")
