"""What becomes of freed memory."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from sivt_lightning.cli import fit, main

# Resident megabytes before 64 are taken, with them, after they are freed, and after all is given back.
TAKE = """
import ctypes, sys
from pathlib import Path
from sivt_lightning.system import give_back_freed_memory, keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

library, size = ctypes.CDLL(None), 64 * 2**20
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
for keep in sys.argv[1:]:
    assert keep_freed_memory(keep == "keep")
seen = [resident()]
block = library.malloc(size)
ctypes.memset(block, 1, size)
seen.append(resident())
library.free(block)
seen.append(resident())
give_back_freed_memory()
print(*seen, resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
@pytest.mark.parametrize("settings", [["keep"], [], ["keep", "return"]])
def test_freed_memory_is_kept_where_that_is_asked_for(settings: list[str]) -> None:
    printed = subprocess.run([sys.executable, "-c", TAKE, *settings], check=True, capture_output=True, text=True).stdout
    before, taken, freed, given_back = map(int, printed.split())
    assert taken - before >= 60
    assert (freed - before >= 60) == (settings == ["keep"])
    assert given_back - before < 30


def test_only_training_keeps_it(
    tiny_config: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept: list[str] = []
    monkeypatch.setattr(fit, "keep_freed_memory", lambda: kept.append(verb))
    for verb in ("test", "fit"):
        given = ["--ckpt_path", str(checkpoint)] if verb == "test" else ["--config", str(tiny_config)]
        assert main([verb, *given, *(["--trainer.max_epochs", "1"] if verb == "fit" else ["--output", "out"])]) == 0
    assert kept == ["fit"]
