"""How long `sivt watch` takes from a photo's arrival to its line, beside the model's own time.

    python benchmarks/watching.py                           (the paper's model, random weights, int8 by OpenVINO)
    python benchmarks/watching.py --small true --photos 200
    python benchmarks/watching.py --model best-int8.xml --poll 0.05       (a model of yours; as on a network share)

Starts the command as a user would. Photos of 1024 x 1024 as JPEG arrive one after the other, each written in place and
closed, every so many seconds; a second look at the log says when its line is there. `ms` of a line is the time to read,
decode and judge the photo: what is left is waiting and writing. `--others 2000` photos that have been judged lie there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from serving import make_photos, write_export


def lines_of(log: Path, start: int) -> tuple[list[dict], int]:
    """The whole lines from a byte on, and where the next begins."""
    with log.open("rb") as file:
        file.seek(start)
        content = file.read()
    content = content[: content.rfind(b"\n") + 1]
    return [json.loads(line) for line in content.splitlines()], start + len(content)


def measure(folder: Path, log: Path, photos: list[bytes], count: int, every: float) -> np.ndarray:
    """Milliseconds, for each photo: from its file's close to its line, and of these the model's own."""
    place, took = log.stat().st_size, []
    for number in range(count):
        (folder / f"{number:05d}.jpg").write_bytes(photos[number % len(photos)])
        closed = time.perf_counter()
        found: list[dict] = []
        while not found:
            time.sleep(0.001)
            found, place = lines_of(log, place)
        took.append((1000 * (time.perf_counter() - closed), found[0]["ms"]))
        time.sleep(every)
    return np.array(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: one with random weights is exported")
    parser.add_argument("--small", type=lambda text: text == "true", default=False)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--others", type=int, default=0)
    parser.add_argument("--every", type=float, default=0.2, help="seconds between a line and the next photo")
    parser.add_argument("--poll", help="as of `sivt watch`")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, log = Path(place) / "camera", Path(place) / "results.jsonl"
        folder.mkdir()
        model = asked.model or write_export(Path(place), asked.small, asked.precision)
        photos = make_photos(4, 1024)
        for number in range(asked.others):
            (folder / f"other-{number:05d}.bmp").write_bytes(b"no photo, which is said once")
        command = [sys.executable, "-m", "sivt_lightning", "watch", "--model", str(model), "--folder", str(folder)]
        command += ["--log", str(log), "--give_up", "0", *(["--poll", asked.poll] if asked.poll else [])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        print(process.stdout.readline().strip())
        while len(lines_of(log, 0)[0]) < asked.others:
            time.sleep(0.1)
        time.sleep(1)
        took = measure(folder, log, photos, asked.photos, asked.every)
        process.terminate()
        process.wait()
    for name, values in (
        ("to the line", took[:, 0]),
        ("the model's own", took[:, 1]),
        ("beside it", -np.diff(took)[:, 0]),
    ):
        median, high = np.percentile(values, (50, 99))
        print(f"{name:16} median {median:6.1f} ms, p99 {high:6.1f} ms, most {values.max():6.1f} ms")


if __name__ == "__main__":
    main()
