"""A tiny data set in MVTec layout, and a configuration that trains on it in a second."""

import contextlib
import csv
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch is loaded, and for every process that a test starts: what is computed here is so small that a second
# thread only waits for the first, and where other programs share the processors it waits for them as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Those that take longest, and few of which have many tests, begin first: none is left to one process at the end.
LONGEST = ("test_cli", "test_export", "test_experiment", "test_processes", "test_restart", "test_calibrate")
TINY = """
model:
  backbone: test_resnet
  strides: [2, 4]
  weights: random
  image_size: 32
  patch_size: 1
  feature_stride: 8
  width: 16
  encoder_depth: 1
  decoder_depth: 1
  heads: 4
  smoothing_sigma: 2.0
  memory_bank: 64
  latent_dropout: 0.2
  learning_rate: 1.0e-3
data: {root: ROOT, batch_size: 4, num_workers: 0}
trainer: {max_epochs: 2, accelerator: cpu}
"""


def pytest_collectstart() -> None:
    """Not above: the process that hands tests to others collects none, and they wait until it has started."""
    # Before the package is: what is first loaded from within it, where jaxtyping adds its checks, is compiled anew.
    import kornia  # noqa: F401
    import lightning.pytorch.cli  # noqa: F401
    import timm  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def write_tiny_data(root: Path, train: int = 10, good: int = 3, bad: int = 3) -> Path:
    """Two categories: stripes along one axis or the other with noise; a defect is a bright square."""
    generator = np.random.default_rng(0)
    for number, category in enumerate(("across", "down")):
        for part, kind, count in (("train", "good", train), ("test", "good", good), ("test", "square", bad)):
            for index in range(count):
                stripes = 100 + 50 * np.sin(np.arange(40) / 2 + generator.uniform(0, 6))
                picture = np.broadcast_to(stripes if number else stripes[:, None], (40, 40)).copy()
                picture += generator.normal(0, 5, picture.shape)
                mask = np.zeros((40, 40), np.uint8)
                if kind == "square":
                    y, x = generator.integers(5, 25, 2)
                    mask[y : y + 10, x : x + 10] = 255
                    picture[mask > 0] = 250
                folder = root / category / part / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{index:03d}.png")
                if kind == "square":
                    masks = root / category / "ground_truth" / kind
                    masks.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(masks / f"{index:03d}_mask.png")
    return root


def rows_of(path: Path) -> list[dict[str, str]]:
    """Of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Watched:
    """The steps that trainings take: epoch, images and learning rate; Ctrl-C comes in that of number `stop`."""

    def __init__(self) -> None:
        self.stop = 0
        self.steps: list[tuple[int, list[int], float]] = []

    def images_of(self, epoch: int) -> list[int]:
        return [i for at, images, _ in self.steps for i in images if at == epoch]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    from sivt_lightning.training.module import SIVT

    seen, step = Watched(), SIVT.training_step

    def training_step(self: SIVT, batch: Any, batch_idx: int) -> Any:
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        seen.steps.append((self.current_epoch, batch.index.tolist(), rate))
        if len(seen.steps) == seen.stop:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SIVT, "training_step", training_step)
    return seen


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("tiny_data"))


@pytest.fixture(scope="session")
def two_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """And a third that is held out: what a step of a large model needs."""
    return write_tiny_data(tmp_path_factory.mktemp("two_images"), train=3, good=1, bad=1)


@pytest.fixture(scope="session")
def tiny_config(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY.replace("ROOT", str(tiny_data)))
    return path


@pytest.fixture(scope="session")
def checkpoint(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a training of one epoch."""
    from sivt_lightning.cli import main  # here, for pytest has to add its checks of shapes to the package first

    folder = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(folder):
        assert main(["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1"]) == 0
    return folder / "runs/tiny/version_0/checkpoints/best.ckpt"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever asks for another machine gets none, and fails the test even if it copes with that."""
    asked, find = [], socket.getaddrinfo

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("there is no network")

    def look_up(host: object, *rest: object, **settings: object) -> object:
        return find(host, *rest, **settings) if host == "127.0.0.1" else refuse(host)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert asked == []


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Of one file of tests: its loop of events is in the way of others."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        settings = ["--no-sandbox", "--use-fake-device-for-media-stream"]  # a camera, where a page may use one
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=settings)
        yield started
        started.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """A tab that must say nothing in its console, fail to load nothing, and open no dialog of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    tab, faults = context.new_page(), []
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("requestfailed", lambda request: faults.append(request.url))
    tab.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    yield tab
    assert not faults
    context.close()
