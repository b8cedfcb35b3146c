"""A folder watched by a process of its own, whose model is quick: an image's first pixel is its verdict."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sivt_lightning.errors import SIVTError

COLOURS = {"normal": (0, 0, 0), "anomalous": (255, 0, 0), "unknown": (0, 255, 0)}
PROGRAM = """
import signal, sys, time
from pathlib import Path
from watched import Quick
from sivt_lightning.watch.record import Record
from sivt_lightning.watch.watcher import Asked, Watcher
from sivt_lightning.watch.whole import ignore_lost_leases
folder, log, seconds, asked = sys.argv[1:]
asked = eval(asked)
url = asked.pop("url", None)
record = Record(Path(log), asked.pop("queue", 100) if url else 0)
if url:
    from sivt_lightning.watch.webhook import Webhook
    webhook = Webhook(record, url, "a-secret-of-the-line")
    webhook.start()
watcher = Watcher(Path(folder), Quick(float(seconds)), record, Asked(**asked), webhook.ring if url else None)
signal.signal(signal.SIGTERM, lambda *_: watcher.end())
ignore_lost_leases()
print("ready", flush=True)
watcher.run()
if url:
    webhook.end()
record.close()
"""


class Said:
    """What there is of a Prediction."""

    score, threshold, product, calibrated, pixel_threshold, size, note = 0.5, 1.0, "bolt", None, 1.0, (4, 4), ""
    regions: Sequence[Any] = ()

    def __init__(self, verdict: str) -> None:
        self.verdict, self.is_anomalous = verdict, verdict != "normal"


class Quick:
    """A Predictor that takes so many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def prepare(self, content: bytes) -> Any:
        try:
            with Image.open(io.BytesIO(content)) as image:
                return image.convert("RGB").getpixel((0, 0))
        except Exception as error:
            raise SIVTError("The image cannot be read: it is cut off or damaged.") from error

    def predict(self, images: Sequence[Any]) -> list[Any]:
        time.sleep(self.seconds)
        if images[0] == (0, 0, 255):
            raise RuntimeError("no kernel for blue\nat line 7")
        return [Said(next(verdict for verdict, colour in COLOURS.items() if colour == images[0]))]


def picture(verdict: str = "normal", side: int = 4, kind: str = "PNG") -> bytes:
    """A photo that is judged so."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), COLOURS.get(verdict, (0, 0, 255))).save(file, kind)
    return file.getvalue()


def started(folder: Path, log: Path, seconds: float = 0.0, **asked: Any) -> "subprocess.Popen[str]":
    """A process that watches; it is ready."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(log), str(seconds), repr(asked)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | {"PYTHONPATH": PATH})
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


PATH = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])


@contextlib.contextmanager
def watching(folder: Path, log: Path, seconds: float = 0.0, **asked: Any) -> Iterator["subprocess.Popen[str]"]:
    """Ends in good order."""
    process = started(folder, log, seconds, **asked)
    try:
        yield process
    finally:
        process.terminate()
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 0, said
    assert "Traceback" not in said, said


def lines(log: Path) -> list[dict[str, Any]]:
    """All that are whole."""
    text = log.read_bytes() if log.exists() else b""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]


def paths(log: Path) -> list[str]:
    return [line["path"] for line in lines(log)]


def until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    """Waits for it."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
