"""The server: every request gets its own answer, whatever is sent, and whenever it is told to end."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
import pytest
import schemathesis
from coloured import PRODUCTS, TOKEN, Coloured, client_of, listening, photo, served
from fastapi.testclient import TestClient
from forked import Forked
from hypothesis import HealthCheck, settings
from parts import about_of
from PIL import Image

from sivt_lightning import Predictor, SIVTError
from sivt_lightning.cli import main
from sivt_lightning.inference.judge import Asked
from sivt_lightning.serve.app import Limits, build_app
from sivt_lightning.serve.place import find_token


def test_it_says_what_the_predictor_says(checkpoint: Path, tiny_data: Path) -> None:
    predictor = Predictor(checkpoint, device="cpu")
    with client_of(predictor) as client:
        for path in sorted(tiny_data.glob("*/test/*/*.png")):
            right = predictor(path)
            answer = client.post("/v1/predict", params={"map": True}, content=path.read_bytes())
            assert answer.status_code == 200
            verdict = answer.json()
            assert verdict["score"] == pytest.approx(right.score)
            assert (verdict["threshold"], verdict["pixel_threshold"]) == (right.threshold, right.pixel_threshold)
            assert verdict["is_anomalous"] == right.is_anomalous
            assert (verdict["verdict"], verdict.get("product")) == (right.verdict, right.product)
            assert verdict["known"] == (right.verdict != "unknown")
            assert verdict["calibrated"] == pytest.approx(right.calibrated)
            assert (verdict["width"], verdict["height"]) == right.size
            assert [tuple(one["box"]) for one in verdict["regions"]] == [region.box for region in right.regions]
            levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(verdict["map"]["png"]))))
            assert levels.dtype == np.uint16
            close = right.anomaly_map.max() / 65535
            np.testing.assert_allclose(levels * verdict["map"]["scale"], right.anomaly_map, rtol=0, atol=close)
        assert "map" not in client.post("/v1/predict", content=path.read_bytes()).json()
        about = client.get("/v1/model").json()
    assert about["categories"] == ["across", "down"]
    assert about["image_size"] == 32
    assert about["false_alarms"] == 0.05
    for name in ("across", "down"):
        threshold = predictor.judge.threshold(name)
        assert about["thresholds"][name] == {"score": threshold.image, "pixel": threshold.pixel}


def of(client: TestClient, red: int, green: int) -> dict[str, Any]:
    return client.post("/v1/predict", content=photo(red, green=green)).json()


def test_products_are_told_apart(capfd: pytest.CaptureFixture[str]) -> None:
    with client_of(Coloured(known=PRODUCTS)) as client:
        about = client.get("/v1/model").json()
        assert about["thresholds"].keys() == {"bolt", "nut"}
        assert about["false_alarms"] == 0.05
        for given, verdict, product in (
            ((50, 0), "normal", "bolt"),
            ((97, 0), "anomalous", "bolt"),
            ((50, 200), "normal", "nut"),
            ((97, 200), "anomalous", "nut"),
            ((50, 100), "unknown", None),
        ):
            answer = of(client, *given)
            assert (answer["verdict"], answer.get("product")) == (verdict, product)
            assert answer["known"] == (verdict != "unknown")
            assert answer["is_anomalous"] == (verdict != "normal")
            assert answer["calibrated"] == pytest.approx(-np.log10((100 - given[0]) / 100), abs=1e-3)
        assert answer["threshold"] == pytest.approx(95, rel=1e-4)
        drift = client.get("/v1/drift").json()
    assert (drift["parts"], drift["unknown"]) == (5, 1)
    assert [(one["product"], one["parts"]) for one in drift["products"]] == [("bolt", 2), ("nut", 2)]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["verdict"] for line in lines if "verdict" in line][-1] == "unknown"


def test_verdicts_may_be_asked_for_otherwise() -> None:
    for asked, verdict in (
        (Asked(unknown=False), "normal"),
        (Asked(unknown=False, false_alarms=0.6), "anomalous"),
        (Asked(unknown=False, threshold=40.0), "anomalous"),
        (Asked(category="bolt"), "unknown"),
    ):
        with client_of(Coloured(known=PRODUCTS, asked=asked)) as client:
            assert of(client, 50, 100)["verdict"] == verdict
            about = client.get("/v1/model").json()
        assert about["thresholds"].keys() == ({"bolt"} if asked.category else {"bolt", "nut"})
        assert about.get("false_alarms") == (None if asked.threshold else asked.false_alarms or 0.05)


def test_a_model_of_an_earlier_version_is_served_as_it_was() -> None:
    with client_of(Coloured()) as client:
        answer, about = of(client, 101, 100), client.get("/v1/model").json()
    assert (answer["verdict"], answer["known"], answer["threshold"]) == ("anomalous", True, 100.0)
    assert not {"product", "calibrated"} & answer.keys()
    assert (about["threshold"], about["pixel_threshold"]) == (100.0, 1.0)
    assert (about["thresholds"], about["false_alarms"]) == ({"": {"score": 100.0, "pixel": 1.0}}, None)


def test_under_load_no_answer_is_lost_or_swapped() -> None:
    predictor = Coloured(seconds=0.01)
    colours = [red for red in range(256) if red != 13]
    with client_of(predictor, Limits(batch=8)) as client, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda red: client.post("/v1/predict", content=photo(red)), colours))
    assert [answer.json()["score"] for answer in answers] == colours
    assert [answer.json()["is_anomalous"] for answer in answers] == [red > 100 for red in colours]
    assert sum(predictor.batches) == len(colours)
    assert max(predictor.batches) <= 8
    assert len(predictor.batches) < len(colours) / 2  # they came in batches


def test_one_image_that_fails_takes_no_other_with_it(capfd: pytest.CaptureFixture[str]) -> None:
    predictor = Coloured(seconds=0.02)
    colours = [*range(10, 20)] * 3
    with client_of(predictor) as client, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda red: client.post("/v1/predict", content=photo(red)), colours))
        for red, answer in zip(colours, answers, strict=True):
            if red == 13:
                assert answer.status_code == 500
                assert answer.json() == {"error": "The model failed on this image; the server's log says how."}
            else:
                assert answer.json()["score"] == red
        assert client.post("/v1/predict", content=photo(7)).json()["score"] == 7
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert sum(line.get("failure") == "RuntimeError: thirteen" for line in lines) == 3
    assert len(lines) == len(colours) + 1
    assert all({"time", "method", "path", "status", "ms"} <= line.keys() for line in lines)


def test_what_cannot_be_taken_is_told_to_come_again() -> None:
    predictor = Coloured()
    predictor.free.clear()
    with client_of(predictor, Limits(requests=3)) as client, ThreadPoolExecutor(8) as threads:
        taken = [threads.submit(client.post, "/v1/predict", content=photo(red)) for red in range(8)]
        end = time.monotonic() + 20
        while sum(one.done() for one in taken) < 5 and time.monotonic() < end:
            time.sleep(0.01)
        refused = [one.result() for one in taken if one.done()]
        predictor.free.set()
        answers = [one.result() for one in taken]
    assert len(refused) == 5
    assert {answer.status_code for answer in refused} == {503}
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    for red, answer in enumerate(answers):
        assert answer in refused or answer.json()["score"] == red


def test_only_those_with_the_token_are_served(capfd: pytest.CaptureFixture[str]) -> None:
    with client_of(Coloured(), token=TOKEN) as client:
        for given in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"}):
            for answer in (
                client.post("/v1/predict", content=photo(1), headers=given),
                client.get("/v1/model", headers=given),
            ):
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "token" in answer.json()["error"]
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post("/v1/predict", content=photo(1), headers=known).json()["score"] == 1
        assert client.get("/health").json() == {"status": "alive"}
        assert client.get("/ready").json() == {"status": "ready"}
    assert TOKEN not in capfd.readouterr().err


def bomb() -> bytes:
    """A PNG whose header says 40,000 x 40,000 pixels."""
    made = bytearray(photo(1))
    made[16:24] = (40_000).to_bytes(4, "big") * 2
    made[29:33] = zlib.crc32(bytes(made[12:29])).to_bytes(4, "big")
    return bytes(made)


def tile_bomb(side: int = 256) -> bytes:
    """A TIFF of 10 x 10 pixels whose one tile has `side` x `side`."""
    tile = zlib.compress(bytes(side * side))
    tags = [(256, 10), (257, 10), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side)]
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (324, start), (325, len(tile))]]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + tile


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"", 400, "there is nothing in it"),
        (b"no image", 400, "not a valid PNG"),
        (b"%PDF-1.7 photo.png", 400, "not a valid PNG"),
        (photo(1)[:-30], 400, "cut off or damaged"),
        (photo(1, kind="GIF"), 400, "not a valid PNG"),
        (photo(1, (60, 50)), 400, "too many pixels"),
        (bomb(), 400, "too many pixels"),
        (tile_bomb(), 400, "too many pixels"),
        (b"x" * 3001, 413, "more than 3000 bytes"),
    ],
    ids=["empty", "text", "PDF", "cut off", "GIF", "large", "bomb", "tile", "heavy"],
)
def test_what_is_no_image_is_refused_with_a_sentence(content: bytes, status: int, sentence: str) -> None:
    with client_of(Coloured(), Limits(bytes=3000, pixels=2000)) as client:
        for body in (content, iter([content])):  # of a length that is told before, or not
            answer = client.post("/v1/predict", content=body)
            assert answer.status_code == status
            assert sentence in answer.json()["error"]
        assert client.post("/v1/predict", content=photo(5)).json()["score"] == 5


def test_other_requests_are_refused_with_a_sentence() -> None:
    with client_of(Coloured()) as client:
        assert client.get("/v1/predict").status_code == 405
        assert "openapi.json" in client.get("/v2").json()["error"]
        answer = client.post("/v1/predict", params={"map": "perhaps"}, content=photo(1))
        assert answer.status_code == 422
        assert "query.map" in answer.json()["error"]


pytest_plugins = ["schemathesis.pytest.plugin"]  # makes a test of each path
schema = schemathesis.openapi.from_asgi("/openapi.json", build_app(Coloured(), Limits(bytes=5000), TOKEN))


@schema.parametrize()
@settings(max_examples=15, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_it_keeps_to_its_openapi_document(case: Any) -> None:
    answer = case.call(headers={"Authorization": f"Bearer {TOKEN}"}) if case.path.startswith("/v1") else case.call()
    case.validate_response(
        answer,
        excluded_checks=[
            schemathesis.checks.ignored_auth,  # has a test of its own, with wrong tokens
            schemathesis.checks.negative_data_rejection,  # it would have unknown query parameters refused
            schemathesis.checks.positive_data_acceptance,  # bytes that are no image fit the document, too
        ],
    )


START = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc"


def test_a_client_that_stops_sending_is_let_go() -> None:
    with listening(Limits(seconds=0.3)) as (host, port):
        with socket.create_connection((host, port)) as line:
            line.sendall(START)
            assert line.recv(100).startswith(b"HTTP/1.1 408")
        with socket.create_connection((host, port)) as line:  # one that goes away
            line.sendall(START)
        assert httpx.post(f"http://{host}:{port}/v1/predict", content=photo(9)).json()["score"] == 9


@pytest.mark.parametrize(
    ("limits", "given", "status", "header"),
    [
        (Limits(), "", 401, "WWW-Authenticate"),
        (Limits(requests=0), TOKEN, 503, "Retry-After"),
        (Limits(bytes=7_900_000), TOKEN, 413, "Content-Type"),
    ],
    ids=["no token", "busy", "heavy"],
)
def test_a_client_that_sends_all_before_it_reads_sees_why_it_is_refused(
    limits: Limits, given: str, status: int, header: str
) -> None:
    with listening(limits, TOKEN) as (host, port):
        url, headers = f"http://{host}:{port}/v1/predict", {"Authorization": f"Bearer {given}"}
        for _ in range(5):  # one may be lucky
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(url, bytes(8_000_000), headers), timeout=20)
            with refused.value as answer:
                assert answer.code == status
                assert answer.headers[header]
                assert json.load(answer)["error"]


def test_the_rest_of_what_is_refused_is_not_waited_for_long() -> None:
    start = START.replace(b"Host", b"Connection: close\r\nHost")
    with listening(Limits(bytes=100_000, linger=0.3), TOKEN) as address:
        with socket.create_connection(address, timeout=10) as line:
            line.sendall(start)  # and no more of it
            assert line.recv(100).startswith(b"HTTP/1.1 401")
            while line.recv(1000):
                pass
        with socket.create_connection(address, timeout=10) as line:
            large = start.replace(b"1000", b"30000000") + bytes(30_000_000 - 3)
            with pytest.raises(ConnectionError):  # more than is discarded
                line.sendall(large)
        with socket.create_connection(address, timeout=10) as line:
            line.sendall(START.replace(b"Host", b"Expect: 100-continue\r\nHost").removesuffix(b"abc"))
            assert line.recv(100).startswith(b"HTTP/1.1 401")  # and not 100


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_finishes_what_it_took(number: int, checkpoint: Path, tiny_data: Path) -> None:
    process = Forked("serve", "--model", str(checkpoint), "--port", "0", "--device", "cpu")
    url = process.stdout.readline().split(" on ")[1].split(". Ctrl-C")[0]
    content = (tiny_data / "across/test/square/000.png").read_bytes()
    right = Predictor(checkpoint, device="cpu")(tiny_data / "across/test/square/000.png").score
    answers = list[httpx.Response]()

    def ask() -> None:
        with contextlib.suppress(httpx.TransportError):  # the server has ended
            while True:
                answers.append(httpx.post(f"{url}/v1/predict", content=content, timeout=30))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answers) < 8:
        time.sleep(0.01)
    os.kill(process.pid, number)
    done = process.wait()
    for thread in threads:
        thread.join()
    assert done.returncode == 0, done
    assert "every request that was taken has been answered" in done.stdout
    assert {answer.status_code for answer in answers} <= {200, 503}
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert len([line for line in lines if line["status"] == 200]) == sum(one.status_code == 200 for one in answers)
    assert all(one.json()["score"] == pytest.approx(right) for one in answers if one.status_code == 200)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_an_upload_that_never_ends_does_not_hold_up_the_end(checkpoint: Path) -> None:
    process, address = served(checkpoint)
    with socket.create_connection(address) as line:
        line.sendall(START)
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGTERM)
        done = process.wait(15)  # an upload may take 30 s otherwise
        assert line.recv(100).startswith(b"HTTP/1.1 503")
    assert done.returncode == 0
    assert "every request that was taken has been answered" in done.stdout


def test_clients_that_do_not_read_do_not_hold_up_the_end(checkpoint: Path, tiny_data: Path) -> None:
    hasty = "import sys, sivt_lightning.cli, sivt_lightning.serve.server as server; server.UNREAD = 1.0\n"
    process, address = served(checkpoint, hasty + "sys.exit(sivt_lightning.cli.main())")
    content = (tiny_data / "across/test/square/000.png").read_bytes()
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(2)
        line.connect(address)
        with pytest.raises(TimeoutError):  # the server reads no further, for nobody reads its answers
            line.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400_000)
        assert httpx.post("http://{}:{}/v1/predict".format(*address), content=content).status_code == 200
        os.kill(process.pid, signal.SIGTERM)
        done = process.wait(15)
    assert done.returncode == 0
    assert "every request that was taken has its verdict, but 1 of the clients did not read" in done.stdout
    assert all(json.loads(line)["status"] == 200 for line in done.stderr.splitlines())  # and no complaint of uvicorn's


def test_a_second_ctrl_c_ends_at_once_and_says_so(checkpoint: Path, tiny_data: Path) -> None:
    process, address = served(checkpoint)
    content = (tiny_data / "across/test/square/000.png").read_bytes()
    lines = [socket.create_connection(address) for _ in range(60)]
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    for line in lines:
        line.sendall(head + content)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.02)  # or the system would make one of them
    os.kill(process.pid, signal.SIGINT)
    done = process.wait(15)
    answers = set[bytes]()
    for line in lines:
        with line, contextlib.suppress(ConnectionResetError):  # of one that was not yet read, as the system ends it
            answers.add(line.recv(12))
    assert answers <= {b"HTTP/1.1 200", b"HTTP/1.1 503", b""}  # or the connection was not yet looked at
    assert "Traceback" not in done.stderr
    assert all(json.loads(line)["time"] for line in done.stderr.splitlines())
    if done.returncode == 0:  # it was done before the second one came
        assert "every request that was taken has been answered" in done.stdout
    else:
        assert "Ended at once" in done.stdout


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--host", "0.0.0.0"], "a token is needed"),
        (["--token_file", "nowhere"], "token_file nowhere cannot be read"),
        (["--max_batch", "0"], "max_batch is 0"),
        (["--port", "70000"], "from 0 to 65535"),
        (["--host", "no.such.host.invalid", "--token_file", "token"], "Cannot listen on no.such.host.invalid"),
        (["--max_memory", "0"], "max_memory is 0"),
        (["--cors_origin", "https://line.example", "line.example"], "cors_origin line.example: give what stands"),
        (["--cors_origin", "https://line.example/page"], "cors_origin https://line.example/page"),
        (["--host_name", "http://line.example"], "host_name http://line.example: give a name such as line.example"),
        (["--category", "bolt"], "no threshold for category 'bolt'"),
        (["--false_alarms", "5"], "false_alarms is 5.0: give the share of good parts"),
        (["--false_alarms", "0.1", "--threshold", "3"], "give one"),
    ],
)
def test_settings_that_cannot_be(
    given: list[str],
    sentence: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("token").write_text(TOKEN)
    port = [] if "--port" in given else ["--port", "0"]
    assert main(["serve", "--model", str(checkpoint), *port, *given]) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RuntimeError("CUDA out of memory.\nTried to allocate"), "best.ckpt cannot be run on this machine: CUDA out"),
        (MemoryError(), "cannot be run on this machine: MemoryError. Try another --device"),
        (SIVTError("The device is gone."), "sivt: error: The device is gone."),
    ],
)
def test_a_model_that_fails_before_it_serves(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = Coloured()
    predictor.model = Mock(about=about_of(None, 8), side_effect=error)
    monkeypatch.setattr("sivt_lightning.inference.predictor.Predictor", lambda *_, **__: predictor)
    assert main(["serve", "--model", "best.ckpt", "--port", "0"]) == 1
    output = capsys.readouterr()
    assert sentence in output.err
    assert output.err.count("\n") == 1
    assert "Serving" not in output.out


def test_what_is_asked_for_reaches_the_server(checkpoint: Path, tiny_data: Path) -> None:
    asked = ("--false_alarms", "0.2", "--unknown", "false", "--host_name", "Line.example")
    process, (host, port) = served(checkpoint, None, *asked)
    right = Predictor(checkpoint, "cpu", false_alarms=0.2, unknown=False)
    photo = tiny_data / "across/test/square/000.png"
    try:
        about = httpx.get(f"http://{host}:{port}/v1/model", headers={"Host": "line.example"}).json()
        answer = httpx.post(f"http://{host}:{port}/v1/predict", content=photo.read_bytes()).json()
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait()
    assert about["false_alarms"] == 0.2
    assert about["thresholds"]["down"]["score"] == right.judge.threshold("down").image
    assert (answer["verdict"], answer["product"]) == (right(photo).verdict, right(photo).product)


def test_a_port_that_is_taken(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", "--model", str(checkpoint), "--port", str(port)]) == 1
    assert f"Cannot listen on 127.0.0.1, port {port}: Address already in use" in capsys.readouterr().err


def test_an_empty_token_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert find_token(str(tmp_path / "token")) == TOKEN
    for wrong in ("", " \n", "two words of a secret", "schlüssel-der-linie", "short"):
        monkeypatch.setenv("SIVT_TOKEN", wrong)
        with pytest.raises(SIVTError, match="SIVT_TOKEN holds no token"):
            find_token(None)
    monkeypatch.delenv("SIVT_TOKEN")
    assert find_token(None) is None
