"""What the operating system says of this machine."""

import os
from pathlib import Path
from typing import NamedTuple


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
