"""What has been judged, and what is still to be sent: the log, and beside it a database that follows the log.

The log alone says what has been judged. The database answers "has this photo a line?" in microseconds and without
memory, whatever the log's length, and holds the webhook's queue. Each of its transactions says up to which byte of the
log it has come: after a kill it reads on from there, so a line is never missed, and without it all is read once.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from sivt_lightning.database import transaction
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import escaped, unescaped
from sivt_lightning.watch.result_log import ResultLog

# One row for a name: of the photo that was last judged under it, until it is known to be moved away.
SCHEMA = """
CREATE TABLE IF NOT EXISTS judged (name TEXT PRIMARY KEY, size INT, mtime_ns INT, target TEXT, moved INT) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS moves ON judged (name) WHERE target IS NOT NULL;
CREATE TABLE IF NOT EXISTS queue (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, line TEXT);
CREATE TABLE IF NOT EXISTS place (log_end INT, before BLOB);
"""
MOST_QUEUED = 10_000


class Stamp(NamedTuple):
    """By which a photo of a name is told from another."""

    size: int
    mtime_ns: int


class Move(NamedTuple):
    """A photo that has a line, and where it belongs."""

    name: str
    stamp: Stamp
    target: str


class Queued(NamedTuple):
    """A line to be sent."""

    number: int
    id: str
    line: str


class Record:
    """The log with its database, for one process at a time.

    Args:
        path: of the log.
        most_queued: lines for the webhook; 0 for none. Of more the oldest are left out: they stand in the log.

    Raises SIVTError where another process has it, or it cannot be written.
    """

    def __init__(self, path: Path, most_queued: int = 0) -> None:
        self.log, self.most_queued = ResultLog(path), most_queued
        self.file = path.with_name(f"{path.name}.db")
        self.lock = Lock()  # the webhook's thread asks, too
        self.left_out = 0  # lines that the webhook will never have
        with self._troubles():
            self.database = sqlite3.connect(self.file, timeout=1, isolation_level=None, check_same_thread=False)
            # Exclusive: no second process, and no shared memory, which a network share has not.
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL"):
                self.database.execute(f"PRAGMA {pragma}")
            self.database.execute("BEGIN EXCLUSIVE")
            self.database.execute("COMMIT")
            self.database.executescript(SCHEMA)
        self.log.cut_torn_line()
        with self._troubles():
            self.queued = self.database.execute("SELECT count(*) FROM queue").fetchone()[0]
            self._catch_up()

    def _catch_up(self) -> None:
        """With the lines that it does not know: the last one after a kill, or all of them."""
        place = self.database.execute("SELECT log_end, before FROM place").fetchone()
        # Of another log, or of none: it is made anew, and what this log says has been sent long since.
        known = place is not None and self.log.tail(place[0]) == place[1]
        with transaction(self.database):
            if not known:
                self.database.execute("DELETE FROM judged")
            begin = end = place[0] if known else 0
            for text, said, end in self.log.lines(begin):  # noqa: B007
                self._enter(said, text if known else None)
            self._stand_at(end)

    def _enter(self, said: dict[str, Any], text: str | None) -> None:
        row = (said["path"], said["size"], said["mtime_ns"], said["moved_to"], 0)
        self.database.execute("REPLACE INTO judged VALUES (?, ?, ?, ?, ?)", row)
        if not self.most_queued or text is None:
            return
        self.database.execute("INSERT INTO queue (id, line) VALUES (?, ?)", (said["id"], text))
        self.queued += 1
        if self.queued > self.most_queued:
            self.database.execute("DELETE FROM queue WHERE number = (SELECT min(number) FROM queue)")
            self.queued -= 1
            self.left_out += 1

    def _stand_at(self, end: int) -> None:
        self.database.execute("DELETE FROM place")
        self.database.execute("INSERT INTO place VALUES (?, ?)", (end, self.log.tail(end)))

    def add(self, line: dict[str, Any]) -> None:
        """The line of a photo that has been judged. Raises SIVTError where it could not be written."""
        text, end = self.log.append(line)
        with self.lock, self._troubles(), transaction(self.database):
            self._enter(line, text)
            self._stand_at(end)

    def has(self, name: str, stamp: Stamp) -> bool:
        """Whether the photo of this name has its line. One that was moved away has left the name to others."""
        with self.lock, self._troubles():
            query = "SELECT size, mtime_ns FROM judged WHERE name = ? AND NOT moved"
            return self.database.execute(query, (escaped(name),)).fetchone() == stamp

    def moves(self, all_known: bool) -> list[Move]:
        """Of photos that have a line and were not moved; all known are also those of which the disk may not know."""
        query = "SELECT name, size, mtime_ns, target FROM judged WHERE target IS NOT NULL AND (? OR NOT moved)"
        with self.lock, self._troubles():
            rows = self.database.execute(query, (all_known,))
            return [Move(unescaped(name), Stamp(size, time), unescaped(to)) for name, size, time, to in rows]

    def moved(self, name: str) -> None:
        """Its photo is where it belongs, as far as this process knows; the disk may not know yet."""
        with self.lock, self._troubles():
            self.database.execute("UPDATE judged SET moved = 1 WHERE name = ?", (escaped(name),))

    def forget_moved(self) -> None:
        """Once the disk knows, too."""
        with self.lock, self._troubles():
            self.database.execute("DELETE FROM judged WHERE moved")

    def first_queued(self) -> Queued | None:
        """The line to be sent next."""
        with self.lock, self._troubles():
            row = self.database.execute("SELECT number, id, line FROM queue ORDER BY number LIMIT 1").fetchone()
            return row and Queued(*row)

    def sent(self, queued: Queued) -> None:
        """It is done with."""
        with self.lock, self._troubles():
            self.queued -= self.database.execute("DELETE FROM queue WHERE number = ?", (queued.number,)).rowcount

    def close(self) -> None:
        with self.lock:
            self.database.close()
            self.log.close()

    @contextmanager
    def _troubles(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise SIVTError(
                    f"Another `sivt watch` writes log {self.log.path}: end it, or name another log with --log."
                ) from error
            if isinstance(error, sqlite3.OperationalError):
                raise SIVTError(
                    f"{self.file} cannot be written: {error}. Make room, or name another log with --log, and start "
                    "again: no line of the log is lost."
                ) from error
            raise SIVTError(
                f"{self.file} is damaged ({error}): remove it. It is made anew from the log, without what the webhook "
                "had still to send."
            ) from error
