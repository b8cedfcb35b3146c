"""What the operating system says of a machine, read from files like Linux's."""

from pathlib import Path

import pytest

from sivt_lightning.system import free_memory

MB = 2**20


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def version_2(path: str, limit: str, used: int, copies: int = 0) -> dict[str, str]:
    folder = f"sys/fs/cgroup{path}"
    stat = f"anon 5\nactive_file {copies}\ninactive_file {copies}\n"
    return {f"{folder}/memory.max": limit, f"{folder}/memory.current": str(used), f"{folder}/memory.stat": stat}


def version_1(path: str, limit: int, used: int) -> dict[str, str]:
    folder = f"sys/fs/cgroup/memory{path}"
    stat = f"inactive_file {900 * MB}\ntotal_inactive_file {MB}\ntotal_active_file {MB}\n"
    files = {"limit_in_bytes": str(limit), "usage_in_bytes": str(used), "stat": stat}
    return {f"{folder}/memory.{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("0::/\n", {}, 1000),
        ("0::/job\n", version_2("/job", "max\n", 10 * MB), 1000),
        ("0::/job\n", version_2("/job", f"{200 * MB}\n", 150 * MB, 10 * MB), 70),  # of 150, 20 are copies of files
        ("0::/job/step\n", version_2("/job/step", "max", 0) | version_2("/job", f"{9 * MB}", 8 * MB), 1),
        ("0::/seen/outside\n", version_2("", f"{30 * MB}", 10 * MB), 20),
        ("0::/job\n", version_2("/job", f"{3000 * MB}", 10 * MB), 1000),
        ("0::/job\n", version_2("/job", f"{30 * MB}", 40 * MB), 0),
        ("3:cpu,cpuacct:/\n4:memory:/job\n0::/\n", version_1("/job", 100 * MB, 60 * MB), 42),
        ("4:memory:/seen/outside\n", version_1("", 100 * MB, 60 * MB), 42),
    ],
)
def test_free_memory_is_that_of_the_tightest_group(
    groups: str, files: dict[str, str], free: int, tmp_path: Path
) -> None:
    meminfo = "MemTotal:  4096000 kB\nMemFree:  10 kB\nMemAvailable:  1024000 kB\n"
    assert free_memory(write(tmp_path, {"proc/meminfo": meminfo, "proc/self/cgroup": groups} | files)) == free * MB


def test_another_system_does_not_tell(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None


def test_this_machine_has_some() -> None:
    free = free_memory()
    assert free is None or 0 < free < 2**50
