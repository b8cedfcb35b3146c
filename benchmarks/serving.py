"""A bounded load test of `sivt serve` on loopback: throughput, latencies, and whether each answer is the right one.

    python benchmarks/serving.py                            (the paper's model, random weights, int8 by OpenVINO)
    python benchmarks/serving.py --small true --precision bf16 --clients 4
    python benchmarks/serving.py --small true --flood true --decoders 16      (memory instead of speed)
    python benchmarks/serving.py --small true --pages 5 --rate 50             (what pages that are open cost)

Starts the server as a user would, on a free port. Each client sends photos that the model tells apart, one after the
other on its own connection; every answer is held against the score of the same photo computed here. The rate of the
same model alone (`Predictor` over the same photos in batches, decoded and resized likewise) is measured before and
after, in a process of its own.

`--flood true` sends what costs memory, and prints how far the server's grew at most (Linux): 64 uploads of nearly
`--max_bytes` at a time, then 64 PNGs of 6 kB whose pixels are nearly `--max_pixels`. Each is answered or refused.

`--pages 5` offers photos at a steady rate, in turns while nobody looks at the server's page and while so many do, each
of which asks as its script does. A latency counts from when a photo was due.
"""

import argparse
import http.client
import io
import itertools
import json
import multiprocessing
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from sivt_lightning.export.model_files import write_model
from sivt_lightning.inference.about import About
from sivt_lightning.inference.predictor import Predictor
from sivt_lightning.inference.thresholds import Threshold, Thresholds
from sivt_lightning.system import keep_freed_memory
from sivt_lightning.training.module import SIVT

SMALL = {"width": 128, "encoder_depth": 4, "decoder_depth": 2, "heads": 4}
BATCH = 8
FLOOD = 64  # requests at a time
HELD = 10.0  # seconds that the last bytes of uploads are held back, so that all are there at a time
Answer = tuple[int, dict]  # to which of the photos, and what
SCRIPT = (files("sivt_lightning.serve") / "page/start.js").read_text(encoding="utf-8")
PAUSE, EVERY = (int(re.findall(rf"const {name} = (\d+);", SCRIPT)[0]) for name in ("PAUSE", "EVERY"))
IN_VIEW = 12  # small pictures, in a window of 1280 x 800
TURNS = 8  # half of them with pages


def write_export(folder: Path, small: bool, precision: str) -> Path:
    """A model with random weights, exported for OpenVINO."""
    torch.manual_seed(0)
    module = SIVT(weights="random", **(SMALL if small else {})).eval()
    size = module.detector.backbone.image_size
    path = folder / "model.xml"
    images = [torch.rand(8, 3, size, size)] if precision == "int8" else []
    thresholds = Thresholds(0.99, Threshold(1.0, 1.0, 1), {})
    about = About("checkpoint", "32-true", size, None, None, thresholds, {}, {}, {})
    write_model(path, "openvino", precision, module.detector, about, images)  # type: ignore[arg-type]
    return path


def make_photos(count: int, side: int) -> list[bytes]:
    """JPEG files of noise, each of another strength."""
    generator = np.random.default_rng(0)
    photos = []
    for i in range(count):
        noise = ndimage.gaussian_filter(generator.normal(0, 60 * 1.6**i, (side, side, 3)), (4, 4, 0)) + 128
        file = io.BytesIO()
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        photos.append(file.getvalue())
    return photos


def alone(model: Path, photos: list[bytes], images: int) -> tuple[float, list[float]]:
    """Images a second of the model without a server, and the scores of the photos."""
    keep_freed_memory()
    predictor = Predictor(model, batch_size=BATCH)

    def predict(contents: list[bytes]) -> list[float]:
        prepared = [predictor.prepare(Image.open(io.BytesIO(content))) for content in contents]
        return [prediction.score for prediction in predictor.predict(prepared)]

    scores = [score for content in photos for score in predict([content])]
    predict((photos * BATCH)[:BATCH])
    start = time.perf_counter()
    for first in range(0, images, BATCH):
        predict([photos[i % len(photos)] for i in range(first, first + BATCH)])
    return images / (time.perf_counter() - start), scores


def measured_alone(model: Path, photos: list[bytes], images: int) -> tuple[float, list[float]]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(alone, (model, photos, images))


def load(port: int, photos: list[bytes], images: int, clients: int) -> tuple[float, list[float], list[Answer]]:
    """Images a second, seconds of each request, and the answers."""
    seconds, answers = list[float](), list[Answer]()

    def ask(client: int) -> None:
        line = http.client.HTTPConnection("127.0.0.1", port)
        for number in range(client, images, clients):
            start = time.perf_counter()
            line.request("POST", "/v1/predict", photos[number % len(photos)])
            answer = json.loads(line.getresponse().read())
            seconds.append(time.perf_counter() - start)
            answers.append((number % len(photos), answer))

    start = time.perf_counter()
    together([threading.Thread(target=ask, args=(client,)) for client in range(clients)])
    return images / (time.perf_counter() - start), seconds, answers


def together(threads: list[threading.Thread]) -> None:
    """From their start to their end."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def served(model: Path, decoders: int | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server, as a user starts it, and its port; it is told to end. `decoders` instead of one for each processor."""
    arguments = ["serve", "--model", str(model), "--port", "0"]
    if decoders is None:
        start = [sys.executable, "-m", "sivt_lightning", *arguments]
    else:
        code = "import sys, sivt_lightning.cli as cli, sivt_lightning.system as system\n"
        code += f"system.cpus = lambda: {decoders}\nsys.exit(cli.main())"
        start = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield server, int(server.stdout.readline().split(":")[2].split(".")[0])
        server.terminate()


def offered(port: int, photos: list[bytes], rate: float, seconds: float, clients: int) -> list[float]:
    """Seconds from when each photo was due until its answer."""
    waited, start = list[float](), time.perf_counter()

    def ask(client: int) -> None:
        line = http.client.HTTPConnection("127.0.0.1", port)
        for number in range(client, int(rate * seconds), clients):
            time.sleep(max(0.0, start + number / rate - time.perf_counter()))
            line.request("POST", "/v1/predict", photos[number % len(photos)])
            answer = line.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            waited.append(time.perf_counter() - start - number / rate)

    together([threading.Thread(target=ask, args=(client,)) for client in range(clients)])
    return waited


def look(port: int, closed: threading.Event, asked: list[str]) -> None:
    """What a page asks that is seen until it is closed."""
    line, known = http.client.HTTPConnection("127.0.0.1", port), set[str]()

    def ask(path: str) -> bytes:
        line.request("GET", path)
        asked.append(path)
        return line.getresponse().read()

    ask("/")
    for turn in itertools.count():
        parts = [f"/v1/parts/{part['id']}" for part in json.loads(ask("/v1/parts?last=100"))["parts"]]
        for path in ("/v1/model", "/v1/drift") if turn % EVERY == 0 else ():
            ask(path)
        for path in (f"{parts[0]}/photo", f"{parts[0]}/map") if turn == 0 else ():
            ask(path)
        for path in (f"{part}/thumbnail" for part in parts[:IN_VIEW] if part not in known):
            ask(path)
        known = {*parts}
        if closed.wait(PAUSE / 1000):
            return


def measure_pages(port: int, photos: list[bytes], rate: float, seconds: float, pages: int) -> None:
    """Prints a line for each turn, and what comes of all."""
    every: dict[int, list[float]] = {0: [], pages: []}
    for turn in range(TURNS):
        opened, closed, asked = (0, pages, pages, 0)[turn % 4], threading.Event(), list[str]()
        lookers = [threading.Thread(target=look, args=(port, closed, asked)) for _ in range(opened)]
        for one in lookers:
            one.start()
        start = time.perf_counter()
        waited = offered(port, photos, rate, seconds, 4 * BATCH)
        passed = time.perf_counter() - start
        closed.set()
        for one in lookers:
            one.join()
        every[opened] += waited
        print(f"{opened} pages: {percentiles(waited)}; {len(waited) / passed:.1f} photos and ", end="")
        print(f"{(len(waited) + len(asked)) / passed:.1f} requests a second", flush=True)
    for opened, waited in every.items():
        print(f"all turns with {opened} pages: {percentiles(waited)}")


def told_apart(scores: list[float]) -> float:
    """The least difference of two photos' scores, of which an answer of this photo's is within a half: batches of other
    sizes add up in another order, which moves narrow numbers a little. Two photos may have the same score."""
    return min(other / one - 1 for one, other in itertools.pairwise(sorted(set(scores))))


def percentiles(seconds: list[float]) -> str:
    """In words."""
    median, p95, p99 = (1e3 * float(np.quantile(seconds, share)) for share in (0.5, 0.95, 0.99))
    return f"p50 {median:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms"


def megabytes(process: int, kind: str) -> int:
    """`VmRSS`, what it has now, or `VmHWM`, the most that it ever had."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(rf"^{kind}:\s*(\d+) kB$", status, re.M)[0]) // 1000


def flood(port: int, body: bytes, held: float) -> Counter[str]:
    """How many of FLOOD such requests at a time got which status; their last kilobyte comes after `held` seconds."""
    answers, go = Counter[str](), threading.Event()

    def ask() -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        try:
            line.putrequest("POST", "/v1/predict")
            line.putheader("Content-Length", str(len(body)))
            line.endheaders(body[:-1000])
            go.wait()
            line.send(body[-1000:])
            answers[str(line.getresponse().status)] += 1
        except OSError:  # refused with the rest unread
            answers["broken off"] += 1

    threads = [threading.Thread(target=ask) for _ in range(FLOOD)]
    for thread in threads:
        thread.start()
    time.sleep(held)
    go.set()
    for thread in threads:
        thread.join()
    return answers


def bomb(side: int = 7071) -> bytes:
    """A PNG of so many pixels in width and height, all black."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


def measure_memory(model: Path, decoders: int | None) -> None:
    """Prints how far a server's memory grew under each kind of load."""
    uploads, bombs = np.random.default_rng(0).bytes(31_900_000), bomb()
    for name, body, held in (("uploads", uploads, HELD), ("bombs", bombs, 0.0)):
        with served(model, decoders) as (server, port):
            load(port, make_photos(2, 512), 2 * BATCH, 4)
            before, start = megabytes(server.pid, "VmRSS"), time.perf_counter()
            answers = flood(port, body, held)
            seconds = time.perf_counter() - start
            most, after = megabytes(server.pid, "VmHWM"), megabytes(server.pid, "VmRSS")
        print(
            f"{FLOOD} {name} of {len(body):,} bytes: from {before} MB to {most} MB at most, then {after} MB; ", end=""
        )
        print(f"answers: {dict(answers)}, {seconds:.1f} s; exit code {server.returncode}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", choices=["true", "false"], default="false", help="the model of configs/small.yaml")
    parser.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="int8")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--side", type=int, default=1024, help="of a photo, in pixels")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--flood", choices=["true", "false"], default="false", help="measure memory, not speed")
    parser.add_argument("--decoders", type=int, help="of the flooded server, instead of one for each processor")
    parser.add_argument("--pages", type=int, default=0, help="measure what so many that are open cost, not speed")
    parser.add_argument("--rate", type=float, help="photos a second beside pages; by default half of what it answers")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a turn with or without pages")
    settings = parser.parse_args()
    photos = make_photos(8, settings.side)
    with tempfile.TemporaryDirectory() as folder:
        model = write_export(Path(folder), settings.small == "true", settings.precision)
        if settings.flood == "true":
            measure_memory(model, settings.decoders)
            return
        if settings.pages:
            with served(model) as (_, port):
                load(port, photos, 2 * BATCH, BATCH)
                most, _, _ = load(port, photos, settings.images, BATCH)
                rate = settings.rate or most / 2
                print(f"{most:.1f} photos a second to {BATCH} clients at most; {rate:.1f} are offered", flush=True)
                measure_pages(port, photos, rate, settings.seconds, settings.pages)
            return
        before, scores = measured_alone(model, photos, settings.images)
        with served(model) as (server, port):
            load(port, photos, 2 * BATCH, settings.clients)
            rate, seconds, answers = load(port, photos, settings.images, settings.clients)
        ended = server.returncode
        after, _ = measured_alone(model, photos, settings.images)
    apart = told_apart(scores)
    wrong = [photo for photo, answer in answers if not abs(answer.get("score", 0) / scores[photo] - 1) < apart / 2]
    print(f"alone {before:.1f} and {after:.1f} images/s, served {rate:.1f} to {settings.clients} clients: ", end="")
    print(f"{2 * rate / (before + after):.3f} of it; {percentiles(seconds)}")
    print(f"{len(answers)} of {settings.images} answered, {len(wrong)} wrong (photos differ by {apart:.1%} or more)")
    print(f"the server ended with exit code {ended}")


if __name__ == "__main__":
    main()
