"""A server whose model scores an image by its colour, in this process or in one of its own."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi.testclient import TestClient
from forked import Forked
from parts import about_of
from PIL import Image

from sivt_lightning import Prediction, Predictor
from sivt_lightning.inference.predictor import Prepared
from sivt_lightning.inference.thresholds import Threshold, Thresholds
from sivt_lightning.serve.app import build_app
from sivt_lightning.serve.service import Limits

TOKEN = "a-secret-of-the-line"


class Coloured(Predictor):
    """Scores an image by its first pixel's red, in bytes; 13 fails, and each batch takes a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.threshold = Threshold(100.0, 1.0, 9)
        thresholds = Thresholds(0.99, self.threshold, {"bolt": self.threshold})
        self.model: Any = SimpleNamespace(about=about_of(thresholds, 8))
        self.depth = None
        self.seconds, self.batches, self.free = seconds, list[int](), threading.Event()
        self.free.set()

    def predict(self, images: Sequence[Prepared]) -> list[Prediction]:
        time.sleep(self.seconds)
        assert self.free.wait(30)
        self.batches.append(len(images))
        scores = [round(255 * float(image.pixels[0, 0, 0])) for image in images]
        if 13 in scores:
            raise RuntimeError("thirteen")
        maps = [np.full((8, 8), score, np.float32) for score in scores]
        return [
            Prediction.of(float(score), one, self.threshold, image.size)
            for score, one, image in zip(scores, maps, images, strict=True)
        ]


def photo(red: int, size: tuple[int, int] = (12, 10), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (red, 0, 0)).save(file, kind)
    return file.getvalue()


def client_of(predictor: Predictor, limits: Limits = Limits(), token: str | None = None) -> TestClient:  # noqa: B008
    return TestClient(build_app(predictor, limits, token))


@contextlib.contextmanager
def listening(
    limits: Limits, token: str | None = None, predictor: Predictor | None = None
) -> Iterator[tuple[str, int]]:
    """The address of a real server."""
    app = build_app(Coloured() if predictor is None else predictor, limits, token)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on", http="h11"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join()


def served(checkpoint: Path, code: str | None = None, *settings: str) -> tuple[Forked, tuple[str, int]]:
    """A server in a process of its own, and its address."""
    arguments = ("serve", "--model", str(checkpoint), "--port", "0", "--device", "cpu", *settings)
    process = Forked(*arguments, code=code)
    place = process.stdout.readline().split("http://")[1].split(". Ctrl-C")[0]
    host, port = place.split(":")
    httpx.get(f"http://{place}/ready").raise_for_status()
    return process, (host, int(port))
