"""A bounded load test of `sivt serve` on loopback: throughput, latencies, and whether each answer is the right one.

    python benchmarks/serving.py                            (the paper's model, random weights, int8 by OpenVINO)
    python benchmarks/serving.py --small true --precision bf16 --clients 4

Starts the server as a user would, on a free port. Each client sends photos that the model tells apart, one after the
other on its own connection; every answer is held against the score of the same photo computed here. The rate of the
same model alone (`Predictor` over the same photos in batches, decoded and resized likewise) is measured before and
after, in a process of its own.
"""

import argparse
import http.client
import io
import json
import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from sivt_lightning.allocator import keep_freed_memory
from sivt_lightning.export import write_model
from sivt_lightning.module import SIVT
from sivt_lightning.predictor import Predictor
from sivt_lightning.thresholds import Threshold, Thresholds

SMALL = {"width": 128, "encoder_depth": 4, "decoder_depth": 2, "heads": 4}
BATCH = 8
Answer = tuple[int, dict]  # to which of the photos, and what


def write_export(folder: Path, small: bool, precision: str) -> Path:
    """A model with random weights, exported for OpenVINO."""
    torch.manual_seed(0)
    module = SIVT(weights="random", **(SMALL if small else {})).eval()
    size = module.detector.backbone.image_size
    path = folder / "model.xml"
    images = [torch.rand(8, 3, size, size)] if precision == "int8" else []
    thresholds = asdict(Thresholds(0.99, Threshold(1.0, 1.0, 1), {}))
    write_model(path, "openvino", precision, module.detector, thresholds, images)  # type: ignore[arg-type]
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
        return [found.score for found in predictor.predict(prepared)]

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

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return images / (time.perf_counter() - start), seconds, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", choices=["true", "false"], default="false", help="the model of configs/small.yaml")
    parser.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="int8")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--side", type=int, default=1024, help="of a photo, in pixels")
    parser.add_argument("--clients", type=int, default=16)
    settings = parser.parse_args()
    photos = make_photos(8, settings.side)
    with tempfile.TemporaryDirectory() as folder:
        model = write_export(Path(folder), settings.small == "true", settings.precision)
        before, scores = measured_alone(model, photos, settings.images)
        told = [sys.executable, "-m", "sivt_lightning", "serve", "--model", str(model), "--port", "0"]
        with subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().split(":")[2].split(".")[0])
            load(port, photos, 2 * BATCH, settings.clients)
            rate, seconds, answers = load(port, photos, settings.images, settings.clients)
            server.terminate()
            ended = server.wait()
        after, _ = measured_alone(model, photos, settings.images)
    apart = min(abs(one / other - 1) for i, one in enumerate(scores) for other in scores[:i])
    # Batches of other sizes add up in another order, which moves narrow numbers a little.
    wrong = [photo for photo, answer in answers if not abs(answer.get("score", 0) / scores[photo] - 1) < apart / 2]
    median, p95, p99 = (1e3 * float(np.quantile(seconds, share)) for share in (0.5, 0.95, 0.99))
    print(f"alone {before:.1f} and {after:.1f} images/s, served {rate:.1f} to {settings.clients} clients: ", end="")
    print(f"{2 * rate / (before + after):.3f} of it; p50 {median:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms")
    print(f"{len(answers)} of {settings.images} answered, {len(wrong)} wrong (photos differ by {apart:.1%} or more)")
    print(f"the server ended with exit code {ended}")


if __name__ == "__main__":
    main()
