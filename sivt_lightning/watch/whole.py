"""Whether a file is there whole: what can be known of it without the program that writes it."""

import errno
import os
import signal
import stat
from pathlib import Path
from typing import NamedTuple

from sivt_lightning.watch.record import Stamp

try:
    import fcntl
except ImportError:  # Windows, where a file that is being written can mostly not be opened
    fcntl = None  # type: ignore[assignment]

LARGEST = 1_000_000_000  # bytes of a photo's file
FLAGS = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


class Seen(NamedTuple):
    """A file as it was found."""

    stamp: Stamp
    # In nanoseconds, when it was last written, or got its name. Of a copy that keeps the time of its original, too.
    arrived: int


class NotWhole(Exception):
    """It is being written, or has changed while it was read."""


def look_at(path: Path) -> Seen | None:
    """None for what is no file of its own: a folder, a pipe, a link to somewhere else, or nothing at all."""
    try:
        found = path.lstat()
    except (OSError, ValueError):
        return None
    return _seen(found) if stat.S_ISREG(found.st_mode) else None


def read_whole(path: Path, seen: Seen, even_if_open: bool = False) -> bytes:
    """What is in a file that nobody writes, and that is as it was seen before and after it is read.

    Raises NotWhole, and OSError where it cannot be read.
    """
    file = os.open(path, os.O_RDONLY | FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode) or (not even_if_open and is_being_written(file)):
            raise NotWhole
        with open(file, "rb", closefd=False) as stream:
            content = stream.read(LARGEST)
        if _seen(os.fstat(file)).stamp != seen.stamp:
            raise NotWhole
        return content
    finally:
        os.close(file)


def is_being_written(file: int) -> bool:
    """Whether a program on this machine has the file open for writing; False where the system does not say.

    Linux gives a lease to read on no such file. Its own files are leased to a user, those on local disks; on a share,
    and of other users' files, it is size, time and the decoder that must tell.
    """
    if fcntl is None or not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def ignore_lost_leases() -> None:
    """For who opens a file to write while it is leased, which is for microseconds: the signal would end the program."""
    if hasattr(signal, "SIGIO"):
        signal.signal(signal.SIGIO, signal.SIG_IGN)


def _seen(found: os.stat_result) -> Seen:
    # Of a write, a renaming and a copy alike this is the moment, but on Windows, where it is that of the creation.
    changed = found.st_mtime_ns if os.name == "nt" else found.st_ctime_ns
    return Seen(Stamp(found.st_size, found.st_mtime_ns), changed)
