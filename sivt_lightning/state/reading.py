"""What people have marked, for other commands; the server may be at work in the folder meanwhile."""

import sqlite3
from pathlib import Path

from sivt_lightning.data.folders import PARTS
from sivt_lightning.data.remote import RemotePath
from sivt_lightning.errors import SIVTError
from sivt_lightning.state.kept_parts import check_format, connected, marked, trouble
from sivt_lightning.state.part import Part


def is_state(folder: Path) -> bool:
    """Whether a server keeps its parts there."""
    return not isinstance(folder, RemotePath) and (folder / PARTS).is_file()


def marked_parts(folder: Path) -> list[Part]:
    """Oldest first. Raises SIVTError where the folder cannot be read, or is damaged or not ours."""
    file = folder / PARTS
    if not is_state(folder):
        raise SIVTError(f"{folder} is no --state of `sivt serve`: it has no {PARTS}.")
    # A log beside it is of a server that runs, or was killed. Without one nothing is made here, as SQLite else would.
    mode = "ro" if file.with_name(f"{PARTS}-wal").exists() else "ro&immutable=1"
    try:
        database = connected(file, mode)
        try:
            check_format(database, file)
            return marked(database)
        finally:
            database.close()
    except sqlite3.Error as error:
        raise trouble(file, error) from error


def has_photo(folder: Path, part: Part) -> Path | None:
    """Where its photo is, None where somebody has deleted it."""
    file = folder / "photos" / part.file
    return file if file.is_file() else None
