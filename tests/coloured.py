"""A server whose model scores an image by its colour, in this process or in one of its own."""

import contextlib
import io
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
import uvicorn
from fastapi.testclient import TestClient
from forked import Forked
from parts import about_of
from PIL import Image
from torch import Tensor

from sivt_lightning import Prediction, Predictor
from sivt_lightning.inference.calibration import Calibration, Good, calibrate
from sivt_lightning.inference.judge import Asked, judge_of
from sivt_lightning.inference.predictor import Prepared
from sivt_lightning.inference.thresholds import Threshold, Thresholds
from sivt_lightning.model.detection import Detection
from sivt_lightning.serve.app import build_app
from sivt_lightning.serve.service import Limits
from sivt_lightning.serve.uvicorn_server import Connection
from sivt_lightning.state.kept_parts import KeptParts

TOKEN = "a-secret-of-the-line"


def good(number: float) -> Good:
    """99 parts whose scores are 1 to 99, of which 94 pass at 5 % false alarms; the descriptor is about `number`."""
    scores = np.arange(1.0, 100.0)
    return Good(scores, scores, number + np.linspace(-2, 2, 99)[:, None])


# What is not green is a bolt, what is green is a nut, and what is half green is none of them.
PRODUCTS = calibrate({"bolt": good(0.0), "nut": good(200.0)}, {})
THRESHOLDS = Thresholds(0.99, Threshold(100.0, 1.0, 9), {"bolt": Threshold(100.0, 1.0, 9)})


class ColouredModel:
    """The score, and every value of the map, is the first pixel's red, in bytes; the descriptor is its green."""

    precision, device = "32-true", torch.device("cpu")

    def __init__(self, known: Calibration | Thresholds) -> None:
        self.about = about_of(known, 8)

    def identity(self) -> str:
        return "coloured"

    def __call__(self, images: Tensor) -> Detection:
        red, green, _ = (255 * images[:, :, 0, 0]).round().unbind(1)
        return Detection(red, red[:, None, None].expand(-1, 8, 8), green[:, None])


class Coloured(Predictor):
    """Judges an image by its colour; a red of 13 fails, and each batch takes a while."""

    def __init__(
        self,
        seconds: float = 0.0,
        known: Calibration | Thresholds = THRESHOLDS,
        asked: Asked = Asked(),  # noqa: B008
    ) -> None:
        self.model: Any = ColouredModel(known)
        self.judge, self.category = judge_of(known, asked), asked.category
        self.depth = None
        self.seconds, self.batches, self.free = seconds, list[int](), threading.Event()
        self.free.set()

    def predict(self, images: Sequence[Prepared]) -> list[Prediction]:
        time.sleep(self.seconds)
        assert self.free.wait(30)
        self.batches.append(len(images))
        if any(round(255 * float(image.images[0, 0, 0, 0])) == 13 for image in images):
            raise RuntimeError("thirteen")
        return super().predict(images)


def photo(red: int, size: tuple[int, int] = (12, 10), kind: str = "PNG", green: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (red, green, 0)).save(file, kind)
    return file.getvalue()


def client_of(predictor: Predictor, limits: Limits = Limits(), token: str | None = None, **more: Any) -> TestClient:  # noqa: B008
    """Of a server that is asked by its address."""
    return TestClient(build_app(predictor, limits, token, **more), base_url="http://127.0.0.1")


@contextlib.contextmanager
def listening(
    limits: Limits, token: str | None = None, predictor: Predictor | None = None, kept: KeptParts | None = None
) -> Iterator[tuple[str, int]]:
    """The address of a real server."""
    app = build_app(Coloured() if predictor is None else predictor, limits, token, kept=kept)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on", http=Connection))
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
