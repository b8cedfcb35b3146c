"""What requests hold together stays within what the server may take, whatever their files cost."""

import asyncio
import base64
import contextlib
import io
import json
import os
import re
import socket
import struct
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import imagecodecs
import numpy as np
import pytest
from coloured import Coloured, client_of, listening, photo, served
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sivt_lightning.data.images import read_image_bytes, to_tensor
from sivt_lightning.serve.app import Limits
from sivt_lightning.serve.body import Encoded, Form
from sivt_lightning.serve.header import decoding_cost
from sivt_lightning.serve.memory import Budget
from sivt_lightning.serve.messages import Refusal


def test_a_budget_is_never_exceeded_and_large_ones_are_not_overtaken() -> None:
    async def scene() -> tuple[list[str], Budget]:
        budget, order = Budget(10), list[str]()

        async def hold(name: str, amount: int) -> None:
            with await budget.take(amount):
                order.append(name)
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(hold(name, amount)) for name, amount in (("a", 6), ("b", 9), ("c", 1), ("d", 9))]
        await asyncio.sleep(0)
        assert [amount for amount, _ in budget.queue] == [9, 1, 9]
        tasks[3].cancel()
        await asyncio.wait(tasks)
        with pytest.raises(ValueError, match="11 of 10"):
            await budget.take(11)
        return order, budget

    order, budget = asyncio.run(scene())
    assert order == ["a", "b", "c"]
    assert (budget.held, budget.peak, len(budget.queue)) == (0, 10, 0)


def test_a_turn_that_comes_as_its_request_ends_is_given_on() -> None:
    async def scene() -> Budget:
        budget = Budget(10)
        first = await budget.take(10)
        waiting = [asyncio.create_task(budget.take(10)) for _ in range(2)]
        await asyncio.sleep(0)
        first.shrink(0)  # admits the first of them
        waiting[0].cancel()  # before it hears of it
        share = await asyncio.wait_for(waiting[1], 5)
        assert waiting[0].cancelled()
        share.shrink(4)
        share.shrink(7)
        return budget

    assert asyncio.run(scene()).held == 4


def as_json(content: bytes) -> dict[str, Any]:
    body = json.dumps({"image": base64.b64encode(content).decode()})
    return {"content": body, "headers": {"Content-Type": "application/json"}}


def test_all_that_is_held_is_counted_and_given_back() -> None:
    limits = Limits(bytes=3000, pixels=20_000, memory=120_000)
    good = photo(7, (100, 60))
    requests: list[tuple[int, dict[str, Any]]] = [
        (200, {"content": good}),
        (200, {"files": {"file": good}}),
        (200, as_json(good)),
        (200, {"content": iter([good])}),
        (400, {"content": good[:100]}),
        (400, {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        (400, {"files": {"one": good, "two": good}}),
        (413, {"content": bytes(3001)}),
        (400, {"content": photo(7, (200, 120))}),
    ]
    with client_of(Coloured(), limits) as client, ThreadPoolExecutor(12) as threads:
        sent = [*requests[:3], *requests[4:]] * 5 + [requests[3]]
        answers = threads.map(lambda one: client.post("/v1/predict", **one[1]).status_code, sent)
        assert list(answers) == [status for status, _ in sent]
        service = client.app.state.service  # type: ignore[attr-defined]
    for budget, least in ((service.uploads, 3000), (service.decoding, 100 * 60 * 14)):
        assert budget.held == 0
        assert least <= budget.peak <= budget.most
    assert service.uploads.most + service.decoding.most == 120_000


@pytest.mark.parametrize(
    ("memory", "given", "status", "sentence"),
    [
        (100_000, {"content": photo(1, (100, 70))}, 400, "takes 98768 bytes to decode, and the server has 75000"),
        (10_000, {"content": photo(1)[:-1] + bytes(2500)}, 413, "and the server has 2500 for it"),
        (10_000, as_json(bytes(800)), 413, "or send it as it is"),
        (10_000, {"content": iter([bytes(2501)])}, 413, "more than 3000 bytes"),
    ],
    ids=["pixels", "bytes", "JSON", "unknown length"],
)
def test_one_that_would_never_fit_is_told_so(memory: int, given: dict[str, Any], status: int, sentence: str) -> None:
    with client_of(Coloured(), Limits(bytes=3000, pixels=20_000, memory=memory)) as client:
        answer = client.post("/v1/predict", **given)
        assert answer.status_code == status
        assert sentence in answer.json()["error"]
        assert client.post("/v1/predict", content=photo(5)).json()["score"] == 5


@pytest.mark.parametrize("length", [b"Content-Length: 3000", b"Transfer-Encoding: chunked"])
def test_who_finds_no_room_for_an_upload_comes_again(length: bytes) -> None:
    with listening(Limits(bytes=3000, memory=13_000, wait=0.2)) as (host, port):
        url = f"http://{host}:{port}/v1/predict"
        with socket.create_connection((host, port)) as line:  # of unknown length is as long as it may be
            line.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n\r\n")
            with httpx.Client(timeout=20) as client:
                while (answer := client.post(url, content=photo(1) + bytes(500))).status_code == 200:
                    pass  # the other has not begun
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "no memory left" in answer.json()["error"]
        assert httpx.post(url, content=photo(3) + bytes(500)).status_code == 200  # the other has gone


def test_who_finds_no_room_for_decoding_comes_again() -> None:
    with client_of(Coloured(), Limits(wait=0.1)) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        share = client.portal.call(service.decoding.take, service.decoding.most)  # type: ignore[union-attr]
        answer = client.post("/v1/predict", content=photo(1))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert service.uploads.held == 0
        client.portal.call(share.shrink, 0)  # type: ignore[union-attr]
        assert client.post("/v1/predict", content=photo(1)).status_code == 200


def noise(height: int, width: int, mode: str, kind: str, **settings: Any) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 4), np.uint8)
    if mode == "16 bits":
        return imagecodecs.png_encode(values[..., :3].astype(np.uint16) * 257)
    if mode in ("I;16", "F"):
        plain = values[..., 0] / np.float32(255)
        image = Image.fromarray(plain if mode == "F" else (plain * 65535).astype(np.uint16))
    else:
        image = Image.fromarray(values, "CMYK") if mode == "CMYK" else Image.fromarray(values).convert(mode)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x112] = 6  # turned
    image.save(file, kind, exif=exif.tobytes(), **settings)
    return file.getvalue()


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize(
    ("mode", "kind", "settings"),
    [
        ("RGB", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("P", "PNG", {"transparency": 3}),
        ("I;16", "PNG", {}),
        ("CMYK", "JPEG", {"progressive": True, "subsampling": 0}),
        ("F", "TIFF", {"compression": "tiff_lzw"}),
        ("16 bits", "PNG", {}),
        ("RGB", "WEBP", {"lossless": True, "method": 0}),
        ("RGBA", "WEBP", {"lossless": True, "method": 0}),
    ],
)
def test_an_image_takes_no_more_than_its_header_says(mode: str, kind: str, settings: dict[str, Any]) -> None:
    small, content = noise(300, 300, mode, kind, **settings), noise(1000, 1600, mode, kind, **settings)
    cost = decoding_cost(content, 10**8)

    def kilobytes(which: str) -> int:
        return int(re.findall(rf"^{which}:\s*(\d+)", Path("/proc/self/status").read_text(), re.M)[0])

    child = os.fork()
    if child == 0:  # nothing but this thread, and nobody else's peak
        to_tensor(read_image_bytes(small).image, 256)  # loads what is needed
        before = kilobytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        to_tensor(read_image_bytes(content).image, 256)
        grown = 1024 * (kilobytes("VmHWM") - before)
        os._exit(0 if grown < cost + 2_000_000 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert decoding_cost(content, 1000) == 0  # refused, not decoded


def commented() -> bytes:
    """A PNG of 60 kB whose comments have 60 million characters of four bytes."""
    comments, file = PngInfo(), io.BytesIO()
    for number in range(60):
        comments.add_itxt(f"comment {number}", "a" * 1_000_000 + "\U0001f600", zip=True)
    Image.new("L", (10, 10)).save(file, "PNG", pnginfo=comments)
    return file.getvalue()


def numbered(order: str, big: bool) -> bytes:
    """A TIFF whose resolution is a million fractions."""
    head = struct.pack(f"{order}HHHQ" if big else f"{order}HL", *((43, 8, 0, 16) if big else (42, 8)))
    tags = [(256, 3, 1, 10), (257, 3, 1, 10), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (282, 5, 1_000_000, 500)]
    entries = b"".join(struct.pack(f"{order}HHQQ" if big else f"{order}HHLL", *tag) for tag in tags)
    count = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    return (b"II" if order == "<" else b"MM") + head + count + entries + bytes(8_000_500)


def exif_of(content: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("L", (10, 10)).save(file, "PNG", exif=b"Exif\0\0" + content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [numbered("<", False), numbered(">", False), numbered("<", True), exif_of(numbered("<", False))],
    ids=["TIFF", "big-endian", "BigTIFF", "EXIF"],
)
def test_metadata_that_grows_in_memory_is_refused(content: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(Refusal, match="more than 1000000 bytes of metadata"):
        decoding_cost(content, 1000)
    assert tracemalloc.get_traced_memory()[1] < 4 * len(content)  # they would become over 30 times as many
    tracemalloc.stop()


def test_comments_that_grow_in_memory_are_refused() -> None:
    content = commented()
    tracemalloc.start()
    with client_of(Coloured()) as client:
        assert client.post("/v1/predict", content=content).status_code == 400
    assert tracemalloc.get_traced_memory()[1] < 40_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("text", [b'{"image": [' + b"[]," * 2_000_000, b'{"image": ' + b"1" * 5_000_000 + b"}"])
def test_json_that_grows_in_memory_is_refused(text: bytes) -> None:
    body = Encoded()
    body.add(text)
    tracemalloc.start()
    with pytest.raises(Refusal, match="The JSON cannot be taken"):
        body.file()
    assert tracemalloc.get_traced_memory()[1] < Encoded.copies * len(text)
    tracemalloc.stop()


@pytest.mark.parametrize("line", [b"%s", b"data:image/png;base64,%s"])
def test_json_takes_as_many_copies_as_are_counted(line: bytes) -> None:
    content = bytes(3_000_000)
    text = json.dumps({"image": (line % base64.encodebytes(content)).decode()}).encode()
    tracemalloc.start()
    body = Encoded()
    for start in range(0, len(text), 65_536):
        body.add(text[start : start + 65_536])
    assert body.file() == content
    assert tracemalloc.get_traced_memory()[1] < (Encoded.copies + 0.3) * len(text)
    tracemalloc.stop()


def test_a_form_takes_one_copy_and_no_long_search() -> None:
    body = Form(b"edge")
    content = b"\r\n--edg" * 500_000  # nearly its end, all the time
    tracemalloc.start()
    body.add(b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n')
    for start in range(0, len(content), 65_536):
        body.add(content[start : start + 65_536])
    body.add(b"\r\n--edge--\r\n")
    assert body.file() == content
    assert tracemalloc.get_traced_memory()[1] < 1.3 * len(content) + 100_000
    tracemalloc.stop()


MANY = """
import sys, sivt_lightning.cli as cli, sivt_lightning.system as system
system.cpus = lambda: 8
sys.exit(cli.main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_a_flood_does_not_fill_the_memory(checkpoint: Path) -> None:
    """8 images of 9 million pixels at a time, in 8 decoders, and 48 uploads of 8 MB at a time."""
    process, (host, port) = served(checkpoint, MANY, "--max_memory", "180", "--max_bytes", "8000000")

    def megabytes(which: str) -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(re.findall(rf"^{which}:\s*(\d+)", status, re.M)[0]) // 1024

    file = io.BytesIO()
    Image.new("L", (3000, 3000)).save(file, "PNG")
    before, go, junk = megabytes("VmRSS"), threading.Event(), bytes(7_900_000)

    def upload(_: int) -> None:
        with socket.create_connection((host, port), timeout=60) as line, contextlib.suppress(OSError):
            line.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: [::]\r\nContent-Length: {len(junk)}\r\n\r\n".encode())
            line.sendall(junk[:-100])
            go.wait()
            line.sendall(junk[-100:])
            line.recv(100)

    with ThreadPoolExecutor(48) as threads:
        url = f"http://{host}:{port}/v1/predict"
        answers = list(threads.map(lambda _: httpx.post(url, content=file.getvalue(), timeout=60), range(8)))
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert answers[0].status_code == 200
        threading.Timer(2.0, go.set).start()
        list(threads.map(upload, range(48)))
        assert httpx.post(url, content=photo(1), timeout=60).status_code == 200
        most = megabytes("VmHWM")
    os.kill(process.pid, 15)
    assert process.wait(30).returncode == 0
    assert most - before < 300
