"""What the operating system says of this machine, and how it hands out memory."""

import contextlib
import ctypes
import os
from pathlib import Path
from typing import NamedTuple

STATUS = Path("/proc/self/status")
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 * 1024, 65_536


class _Groups(NamedTuple):
    """Files that tell of the memory of a group of processes."""

    top: str  # folder of all groups
    limit: str
    use: str
    copies: tuple[str, str]  # of files in memory, which count as used and are given up first


GROUPS = {
    "": _Groups("", "memory.max", "memory.current", ("active_file", "inactive_file")),  # version 2
    "memory": _Groups(  # version 1
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
}


def cpus() -> int:
    """CPUs that this process may use, which in a container are often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that may still be taken: of the machine, or of the container or job that this process is in.

    Read from the files of Linux below `root`; None where there are none.
    """
    try:
        said = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        free = [int(said["MemAvailable"].split()[0]) * 1024]
        groups = [line.split(":", 2)[1:] for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except (OSError, KeyError, ValueError):
        return None
    for kinds, path in groups:
        for kind in set(kinds.split(",")) & GROUPS.keys():
            # A group counts for those in it. A container sees its own at the top, whatever path it is told.
            for group in (Path(path), *Path(path).parents):
                free += _left(root / "sys/fs/cgroup" / GROUPS[kind].top / str(group).lstrip("/"), GROUPS[kind])
    return max(0, min(free))


def _left(group: Path, files: _Groups) -> list[int]:
    """Bytes left to the group; nothing where it has no limit, or is not to be seen."""
    try:
        most, used = (int((group / name).read_text()) for name in (files.limit, files.use))
        lines = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
    except (OSError, ValueError):  # a limit of "max" is none
        return []
    return [most - used + sum(int(value) for name, value in lines if name in files.copies)]


def peak_memory() -> int | None:
    """Bytes that this process has held at most; None where the system does not tell."""
    if not STATUS.exists():
        return None
    said = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(said.split()[1]) * 1024


def keep_freed_memory(keep: bool = True) -> bool:
    """Keep freed memory for the next tensor instead of giving it back to the system; says whether that could be set.

    By default glibc gives large blocks back at once. The next tensor's pages are then new ones, which the system must
    clear first: on a CPU that takes longer than a softmax over them. What is kept is more than is needed at any time
    (1.9 GB in place of 1.6 for batches of 16 of the paper's model, of which 0.6 GB are free between two batches).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError):  # another C library, another system
        return False
    done = mallopt(M_MMAP_MAX, 0 if keep else DEFAULT_MMAP_MAX)
    return bool(done and mallopt(M_TRIM_THRESHOLD, -1 if keep else DEFAULT_TRIM_THRESHOLD))


def share_heap() -> bool:
    """Have all threads to come use one heap, whose freed memory is kept; says whether that could be set.

    By default glibc gives threads heaps of their own, which it returns to the system whatever else was asked for. To
    be called before the threads that compute are started, and so before a model is loaded.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1))
    except (AttributeError, TypeError):
        return False


def give_back_freed_memory() -> None:
    """Return to the system what is kept, so that memory in use can be told from memory once used."""
    with contextlib.suppress(AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
