"""The log: a line of JSON for each photo, whole and on the disk before anything is done with the photo."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sivt_lightning.errors import SIVTError

START = b'{"id": '  # of each line, by which the log is told from another file
BLOCK = 2**16


class ResultLog:
    """A file of lines that only grows. What a kill or a full disk has left of a line is cut off when it is opened.

    Raises SIVTError where the file cannot be written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = os.open(path, flags, 0o644)
        except OSError as error:
            raise SIVTError(f"log {path} cannot be written: {error.strerror}. Name another with --log.") from error

    def cut_torn_line(self) -> None:
        """To be called by the only writer. Raises SIVTError where what is there is no log."""
        with self.path.open("rb") as file:
            start = file.read(len(START))
            if not START.startswith(start):
                raise SIVTError(f"log {self.path} holds something else: name another file with --log.")
            size = end = file.seek(0, os.SEEK_END)
            while end > 0:
                begin = max(0, end - BLOCK)
                file.seek(begin)
                newline = file.read(end - begin).rfind(b"\n")
                end = begin + newline + 1 if newline >= 0 else begin
                if newline >= 0:
                    break
        if end < size:
            os.ftruncate(self.file, end)

    def append(self, line: dict[str, Any]) -> tuple[str, int]:
        """Writes a line with one call, so none is ever mixed with another; gives its text, and where the next begins.

        Raises SIVTError, with nothing written, where the disk is full or fails.
        """
        text = json.dumps(line, allow_nan=False)
        content = f"{text}\n".encode()
        before = os.fstat(self.file).st_size
        try:
            if os.write(self.file, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self.file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, before)
            raise SIVTError(
                f"log {self.path} cannot be written: {error.strerror}. Make room and start again: what has no line is "
                "judged then."
            ) from error
        return text, before + len(content)

    def lines(self, start: int) -> Iterator[tuple[str, dict[str, Any], int]]:
        """From a place on: the text of each line, what it says, and where the next begins."""
        with self.path.open("rb") as file:
            file.seek(start)
            for content in file:
                start += len(content)
                text = content.decode("utf-8", "replace").rstrip("\r\n")
                try:
                    said = json.loads(text)
                    told = {key: said[key] for key in ("id", "path", "size", "mtime_ns", "moved_to")}
                except (ValueError, TypeError, KeyError) as error:
                    raise SIVTError(
                        f"log {self.path} has a line, before byte {start}, that is none of sivt watch: remove it, or "
                        "name another file with --log."
                    ) from error
                yield text, told, start

    def tail(self, end: int, count: int = 64) -> bytes:
        """The last bytes before a place, by which a log is known again."""
        with self.path.open("rb") as file:
            file.seek(max(0, end - count))
            return file.read(end - file.tell())

    def close(self) -> None:
        os.close(self.file)
