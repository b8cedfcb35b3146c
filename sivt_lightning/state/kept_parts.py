"""The folder that keeps parts: `parts.sqlite`, and beside it `photos/`, `maps/` and `thumbnails/`."""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sivt_lightning.data.folders import PARTS, PARTS_FOLDERS
from sivt_lightning.database import transaction
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import writable_folder
from sivt_lightning.state.part import Count, Mark, Part, Says, now

KEPT = 100  # parts that were judged last, beside those that have a mark
HOURS = 48  # of which counts are told
FORMAT = 1
APPLICATION = 0x53495654  # "SIVT", by which SQLite tells whose file it is
WAIT = 5.0  # s, for another process that writes
COLUMNS = "id, time, name, product, verdict, score, threshold, calibrated, model, suffix, says, who, marked"
# A mark stands twice: what counts with its part, and in the history, to which lines are only ever added.
SCHEMA = f"""
CREATE TABLE parts (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, time TEXT NOT NULL, name TEXT,
    product TEXT, verdict TEXT NOT NULL, score REAL NOT NULL, threshold REAL NOT NULL, calibrated REAL,
    model TEXT NOT NULL, suffix TEXT NOT NULL, says TEXT, who TEXT, marked TEXT);
CREATE INDEX unmarked ON parts (number) WHERE says IS NULL;
CREATE TABLE marks (number INTEGER PRIMARY KEY, part TEXT NOT NULL, says TEXT, who TEXT NOT NULL, time TEXT NOT NULL);
CREATE TABLE counts (hour TEXT, product TEXT, verdict TEXT, parts INTEGER NOT NULL,
    PRIMARY KEY (hour, product, verdict)) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""
OURS = re.compile(r"[0-9a-f]{32}\.[a-z]+")  # files that may be deleted


class KeptParts:
    """Parts, marks and counts in a folder, which several processes may share; one thread at a time.

    Raises SIVTError where it cannot be written, or its database is damaged or not ours; each method does, too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folders = [folder / name for name in ("photos", *PARTS_FOLDERS)]
        for one in (folder, *self.folders):
            writable_folder(one, "--state")
        with self._troubles():
            self.database = connected(folder / PARTS, "rwc")
            self.database.execute("PRAGMA journal_mode = WAL")
            with self._transaction():
                check_format(self.database, folder / PARTS)
                if not self.database.execute("PRAGMA user_version").fetchone()[0]:
                    for statement in SCHEMA.split(";\n"):
                        self.database.execute(statement)
                self._clean()

    def _clean(self) -> None:
        """Away with files of parts that are not kept, as a kill leaves them."""
        kept = {name for (name,) in self.database.execute("SELECT id FROM parts")}
        for file in (file for folder in self.folders for file in folder.iterdir()):
            if OURS.fullmatch(file.name) and file.stem not in kept:
                _delete(file)

    def photo(self, part: Part) -> Path:
        """The file with the bytes that were uploaded."""
        return self.folder / "photos" / part.file

    def map(self, part: Part) -> Path:
        """The file with its map."""
        return self.folder / "maps" / f"{part.id}.png"

    def thumbnail(self, part: Part) -> Path:
        """The file with its small picture, which earlier versions made none of."""
        return self.folder / "thumbnails" / f"{part.id}.jpg"

    def add(self, part: Part | None, contents: Sequence[bytes], counts: Mapping[Count, int]) -> None:
        """A part with photo, map and thumbnail; and how many have been judged, with it or without one that is kept."""
        files = [] if part is None else self._files(part)
        try:
            with self._troubles(), self._transaction():
                query = "INSERT INTO counts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET parts = parts + ?4"
                rows = [(one.hour, one.product or "", one.verdict, parts) for one, parts in counts.items()]
                self.database.executemany(query, rows)
                if part is not None:
                    names = COLUMNS.split(", ")[:-3]  # nobody has marked it yet
                    query = f"INSERT INTO parts ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
                    self.database.execute(query, [getattr(part, name) for name in names])
                    for file, content in zip(files, contents, strict=True):
                        file.write_bytes(content)
                dropped = self._drop()
        except BaseException:
            for file in files:
                _delete(file)
            raise
        self._delete_files(dropped)

    def parts(self, last: int) -> list[Part]:
        """The newest first."""
        with self._troubles():
            rows = self.database.execute(f"SELECT {COLUMNS} FROM parts ORDER BY number DESC LIMIT ?", (last,))
            return [_part(row) for row in rows]

    def part(self, name: str) -> Part | None:
        """By its id."""
        with self._troubles():
            row = self.database.execute(f"SELECT {COLUMNS} FROM parts WHERE id = ?", (name,)).fetchone()
            return row and _part(row)

    def counts(self) -> list[tuple[Count, int]]:
        """Of the last hours, oldest first."""
        since = (datetime.now(UTC) - timedelta(hours=HOURS)).isoformat()[: len("2026-11-27T18")]
        with self._troubles():
            rows = self.database.execute("SELECT * FROM counts WHERE hour > ? ORDER BY 1, 2, 3", (since,))
            return [(Count(hour, product or None, verdict), parts) for hour, product, verdict, parts in rows]

    def mark(self, name: str, says: Says | None, who: str) -> Part | None:
        """What a person says that a part shows, None to undo it; the part, None where it is gone.

        What was said before stays in the history. Once this returns, it is on the disk.
        """
        time = now()
        with self._troubles():
            # The log of all writes reaches the disk with each mark, and else when the system likes to.
            self.database.execute("PRAGMA synchronous = FULL")
            try:
                with self._transaction():
                    part = self.part(name)
                    if part is None or (part.mark is None and says is None):
                        return part
                    self.database.execute(
                        "INSERT INTO marks (part, says, who, time) VALUES (?, ?, ?, ?)", (name, says, who, time)
                    )
                    stands = (None, None, None) if says is None else (says, who, time)
                    self.database.execute(
                        "UPDATE parts SET says = ?, who = ?, marked = ? WHERE id = ?", (*stands, name)
                    )
                    part = self.part(name)
                    dropped = self._drop()
            finally:
                self.database.execute("PRAGMA synchronous = NORMAL")
        self._delete_files(dropped)
        return part

    def marked(self) -> list[Part]:
        """Parts that have a mark, oldest first."""
        with self._troubles():
            return marked(self.database)

    def close(self) -> None:
        """Nothing more is asked."""
        self.database.close()

    def _drop(self) -> list[Part]:
        """Out of the table with what is neither among the last nor marked."""
        query = f"""DELETE FROM parts WHERE says IS NULL AND number <=
            (SELECT number FROM parts ORDER BY number DESC LIMIT 1 OFFSET {KEPT}) RETURNING {COLUMNS}"""
        return [_part(row) for row in self.database.execute(query).fetchall()]

    def _delete_files(self, dropped: list[Part]) -> None:
        for file in (file for part in dropped for file in self._files(part)):
            _delete(file)

    def _files(self, part: Part) -> list[Path]:
        return [self.photo(part), self.map(part), self.thumbnail(part)]

    def _transaction(self) -> AbstractContextManager[None]:
        """Of one that writes from its beginning: another process waits, and does not fail in its middle."""
        return transaction(self.database, "BEGIN IMMEDIATE")

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise trouble(self.folder / PARTS, error) from error


def connected(file: Path, mode: str) -> sqlite3.Connection:
    """As SQLite calls modes: ro, rwc."""
    place = f"{file.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(place, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)


def check_format(database: sqlite3.Connection, file: Path) -> None:
    """Raises SIVTError where this is another program's, or of a newer version."""
    whose, version = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if whose != APPLICATION and database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise SIVTError(f"{file} is another program's. Name another folder with --state.")
    if version > FORMAT:
        raise SIVTError(
            f"{file} was written by a newer version of sivt_lightning (format {version}, this one knows {FORMAT}). "
            "Install that version, or name another folder with --state."
        )


def trouble(file: Path, error: Exception) -> SIVTError:
    """In a sentence."""
    if isinstance(error, OSError):
        return SIVTError(f"Cannot write into {file.parent}: {error.strerror}. Make room there, or see who may write.")
    if isinstance(error, sqlite3.OperationalError):
        return SIVTError(f"{file} cannot be used: {error}. Make room there, or see who may write.")
    return SIVTError(f"{file} is damaged ({error}). Move it away, or name another folder with --state.")


def marked(database: sqlite3.Connection) -> list[Part]:
    """Parts that have a mark, oldest first."""
    rows = database.execute(f"SELECT {COLUMNS} FROM parts WHERE says IS NOT NULL ORDER BY number")
    return [_part(row) for row in rows]


def _part(row: tuple) -> Part:
    part, said = Part(*row[:-3]), row[-3:]
    return part if said[0] is None else replace(part, mark=Mark(*said))


def _delete(file: Path) -> None:
    with suppress(OSError):  # the next start finds it
        file.unlink()
