"""Whatever the model, its thread or the decoders do, each request is answered, and /ready tells the truth."""

import asyncio
import concurrent.futures
import contextlib
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from coloured import Coloured, client_of, listening, photo

from sivt_lightning import SIVTError
from sivt_lightning.data.images import read_image_bytes
from sivt_lightning.serve.app import Limits

UNUSUAL = [
    StopIteration("odd"),
    StopAsyncIteration("odd"),
    GeneratorExit("odd"),
    SystemExit("odd"),
    KeyboardInterrupt("odd"),
    asyncio.CancelledError("odd"),
    concurrent.futures.CancelledError("odd"),
    TimeoutError("odd"),
    MemoryError("odd"),
]


class Odd(Coloured):
    """Answers to red of 99 as it is told to."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.odd = answer

    def predict(self, images: Any) -> Any:
        predictions = super().predict(images)
        if not any(one.score == 99 for one in predictions):
            return predictions
        if isinstance(self.odd, BaseException):
            raise self.odd
        return self.odd


def failures(capfd: pytest.CaptureFixture[str]) -> list[str]:
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    return [line["failure"] for line in lines if "failure" in line]


@pytest.mark.parametrize("error", UNUSUAL, ids=repr)
def test_a_model_that_raises_something_unusual(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    with listening(Limits(), predictor=Odd(error)) as (host, port), ThreadPoolExecutor(3) as threads:
        url = f"http://{host}:{port}"
        colours = [99, 1, 2] * 3
        answers = threads.map(lambda red: httpx.post(f"{url}/v1/predict", content=photo(red), timeout=10), colours)
        assert [answer.status_code for answer in answers] == [500, 200, 200] * 3
        assert httpx.get(f"{url}/ready").status_code == 200
    assert failures(capfd) == [f"{told}{type(error).__name__}: odd" for told in [prefix(error)] * 3]


def prefix(error: BaseException) -> str:
    return "" if isinstance(error, (MemoryError, TimeoutError)) else "Tamed: "


@pytest.mark.parametrize("odd", [None, [], ["anomalous"], 7], ids=repr)
def test_a_model_that_gives_something_else(odd: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with client_of(Odd(odd)) as client:
        answer = client.post("/v1/predict", content=photo(99))
        assert answer.status_code == 500
        assert answer.json() == {"error": "The model failed on this image; the server's log says how."}
        assert client.post("/v1/predict", content=photo(5)).json()["score"] == 5
    assert failures(capfd)[0].startswith(("TypeError", "RuntimeError: 0 predictions of 1"))


@pytest.mark.parametrize("error", [*UNUSUAL, SIVTError("odd")], ids=repr)
def test_a_decoder_that_raises_something_unusual(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(content: bytes, *given: Any) -> Any:
        photo = read_image_bytes(content, *given)
        if photo.image.getpixel((0, 0)) == (99, 0, 0):
            raise error
        return photo

    monkeypatch.setattr("sivt_lightning.inference.predictor.read_image_bytes", read)
    with listening(Limits()) as (host, port):
        url = f"http://{host}:{port}"
        answer = httpx.post(f"{url}/v1/predict", content=photo(99), timeout=10)
        assert answer.status_code == (400 if isinstance(error, SIVTError) else 500)
        assert httpx.post(f"{url}/v1/predict", content=photo(5), timeout=10).json()["score"] == 5
        assert httpx.get(f"{url}/ready").status_code == 200


def test_when_the_batcher_has_ended_nobody_waits(capfd: pytest.CaptureFixture[str]) -> None:
    predictor = Coloured()
    predictor.free.clear()
    with client_of(predictor) as client, ThreadPoolExecutor(4) as threads:
        batcher = client.app.state.service.model.batcher  # type: ignore[attr-defined]
        waiting = [threads.submit(client.post, "/v1/predict", content=photo(red)) for red in range(4)]
        while len(batcher.waiting) < 4:
            pass
        client.portal.call(batcher.task.cancel)  # type: ignore[union-attr]
        answers = [one.result(timeout=10) for one in waiting] + [client.post("/v1/predict", content=photo(1))]
        assert [answer.status_code for answer in answers] == [500] * 5
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert "the batcher has ended: it was cancelled. Start it again." in answer.json()["error"]
        assert client.get("/health").status_code == 200
        predictor.free.set()
    notes = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["message"] for line in notes if line.get("level") == "error"] == [
        "the batcher has ended: it was cancelled; /ready says no. Start the server again."
    ]


@pytest.mark.parametrize("name", ["model", "decoder"])
def test_a_pool_that_takes_no_work(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with client_of(Coloured()) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        (service.decoders if name == "decoder" else service.model.batcher.thread).pool.shutdown()
        answers = [client.post("/v1/predict", content=photo(red)) for red in range(3)]
        assert [answer.status_code for answer in answers] == [500] * 3
        answer = client.get("/ready")
        assert answer.status_code == 503
        assert f"{name}: cannot schedule new futures after shutdown" in answer.json()["error"]
    assert all("cannot schedule new futures" in failure for failure in failures(capfd))


def test_connections_that_do_not_say_what_they_want_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silent ones, ones that come byte by byte, and those that do so after an answer; who asks in time is served."""
    monkeypatch.setattr("sivt_lightning.serve.uvicorn_server.HEAD", 0.6)
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def ended(address: tuple[str, int], before: bytes, pause: float) -> float:
        """Seconds until a connection ends that sends a byte now and then."""
        with socket.create_connection(address) as line:
            line.sendall(before)
            line.settimeout(pause)
            start = time.monotonic()
            for number in range(200):
                with contextlib.suppress(TimeoutError):
                    while line.recv(1000):
                        pass
                    return time.monotonic() - start
                line.sendall(head[number % 20 : number % 20 + 1] if pause < 1 else b"")
        raise AssertionError("it is still open")

    with listening(Limits()) as address:
        for before, pause in ((b"", 5.0), (b"", 0.05), (head, 0.05)):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                assert 0.4 < ended(address, before, pause) < 4
        with socket.create_connection(address) as line, line.makefile("rb") as answers:  # in two parts, and twice
            for _ in range(2):
                line.sendall(head[:9])
                time.sleep(0.1)
                line.sendall(head[9:])
                assert answers.readline().startswith(b"HTTP/1.1 200")
                while answers.readline() != b"\r\n":
                    pass
                assert answers.read(18) == b'{"status":"alive"}'


def test_a_thread_that_the_system_refuses_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(Coloured()) as client:
        pool = client.app.state.service.model.batcher.thread.pool  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setattr(pool, "submit", lambda *_: (_ for _ in ()).throw(RuntimeError("can't start new thread")))
            assert client.post("/v1/predict", content=photo(1)).status_code == 500
            assert client.get("/ready").status_code == 503
        assert client.post("/v1/predict", content=photo(1)).status_code == 200
        assert client.get("/ready").status_code == 200
