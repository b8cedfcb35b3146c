"""`sivt serve` under load for a long time: memory, latencies, and whether any answer is lost or another's.

    python benchmarks/soak.py --minutes 30                  (the paper's model, random weights, int8 by OpenVINO)
    python benchmarks/soak.py --minutes 1 --small true

Photos of 256 to 3000 pixels, JPEG and PNG, come at a steady rate, which is a share of what the server answers to eight
clients in the beginning; one request in a hundred is hostile (see HOSTILE). A latency counts from when a photo was due,
not from when a client was free. Every answer is held against the score that the same photo had by itself.
"""

import argparse
import http.client
import io
import json
import queue
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from serving import bomb, load, make_photos, megabytes, percentiles, served, told_apart, write_export

SIDES = (256, 512, 1024, 1024, 1024, 2048, 3000)
CLIENTS = 32  # that photos wait for
TRIED = 200  # photos that the rate is found with
PATIENCE = 60.0  # s, for an answer


@dataclass
class Seen:
    """What has come back."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    hostile: Counter[str] = field(default_factory=Counter)
    wrong: int = 0


def mixed_photos() -> list[bytes]:
    """Files that the model tells apart, of other sizes; every third is a PNG."""
    photos = []
    for number, side in enumerate(SIDES):
        photo = Image.open(io.BytesIO(make_photos(number + 1, side)[-1]))
        file = io.BytesIO()
        photo.save(file, "PNG" if number % 3 == 2 else "JPEG", compress_level=1, quality=90)
        photos.append(file.getvalue())
    return photos


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def said(line: socket.socket) -> str:
    """The status of the answer, or how the connection ended."""
    try:
        first = line.recv(100)
    except OSError:
        return "broken off"
    return first.split()[1].decode() if first.startswith(b"HTTP/") else "closed"


def head(length: int) -> bytes:
    """Of an upload of so many bytes."""
    return f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def silent(port: int, photo: bytes) -> str:
    """Says nothing."""
    with connected(port) as line:
        return said(line)


def trickling(port: int, photo: bytes) -> str:
    """A head that comes byte by byte."""
    with connected(port) as line:
        for byte in b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n":
            try:
                line.send(bytes([byte]))
            except OSError:
                return "broken off"
            time.sleep(0.5)
        return said(line)


def leaving(port: int, photo: bytes) -> str:
    """Goes in the middle of an upload."""
    with connected(port) as line:
        line.sendall(head(len(photo)) + photo[: len(photo) // 2])
    return "left"


def impatient(port: int, photo: bytes) -> str:
    """Goes before the answer."""
    with connected(port) as line:
        line.sendall(head(len(photo)) + photo)
    return "left"


def posted(port: int, body: bytes) -> str:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    line.request("POST", "/v1/predict", body)
    return str(line.getresponse().status)


def torn(port: int, photo: bytes) -> str:
    """Half a file."""
    return posted(port, photo[: len(photo) // 2])


def noise(port: int, photo: bytes) -> str:
    """No image."""
    return posted(port, np.random.default_rng(len(photo)).bytes(50_000))


def large(port: int, photo: bytes) -> str:
    """Few bytes, and more pixels than are taken."""
    return posted(port, bomb(20_000))


def endless(port: int, photo: bytes) -> str:
    """Says that it has a terabyte."""
    with connected(port) as line:
        line.sendall(head(10**12))
        return said(line)


def nonsense(port: int, photo: bytes) -> str:
    """Speaks another protocol."""
    with connected(port) as line:
        line.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP\r\n\r\n")
        return said(line)


HOSTILE: tuple[Callable[[int, bytes], str], ...] = (
    silent, trickling, leaving, impatient, torn, noise, large, endless, nonsense,
)  # fmt: skip


def expected(port: int, photos: list[bytes]) -> list[float]:
    """The scores of photos that come alone."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    scores = []
    for photo in photos:
        line.request("POST", "/v1/predict", photo)
        scores.append(json.loads(line.getresponse().read())["score"])
    return scores


def soak(port: int, process: int, photos: list[bytes], rate: float, seconds: float) -> None:
    """Prints a line a minute, and what came of all."""
    scores, seen, due = expected(port, photos), Seen(), queue.Queue[tuple[float, int] | None]()
    apart = told_apart(scores)

    def client() -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        while (one := due.get()) is not None:
            time.sleep(max(0.0, one[0] - time.perf_counter()))
            try:
                line.request("POST", "/v1/predict", photos[one[1]])
                answer = line.getresponse()
                told = json.loads(answer.read())
                seen.statuses[str(answer.status)] += 1
                seen.wrong += answer.status == 200 and not abs(told["score"] / scores[one[1]] - 1) < apart / 2
            except OSError as error:
                seen.statuses[type(error).__name__] += 1
                line.close()
            seen.seconds.append(time.perf_counter() - one[0])

    def attack(number: int) -> None:
        kind = HOSTILE[number % len(HOSTILE)]
        try:
            seen.hostile[f"{kind.__name__} {kind(port, photos[number % len(photos)])}"] += 1
        except OSError as error:
            seen.hostile[f"{kind.__name__} {type(error).__name__}"] += 1

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    attackers = []
    for one in clients:
        one.start()
    start, memory, told, number = time.perf_counter(), [megabytes(process, "VmRSS")], 0, 0
    while (passed := time.perf_counter() - start) < seconds:
        number += 1
        if number % 100 == 50:
            attackers.append(threading.Thread(target=attack, args=(number // 100,)))
            attackers[-1].start()
        else:
            due.put((start + number / rate, number % len(photos)))
        time.sleep(max(0.0, start + (number - CLIENTS) / rate - time.perf_counter()))
        if passed // 60 > told:
            told += 1
            memory.append(megabytes(process, "VmRSS"))
            lately = np.quantile(seen.seconds[-int(60 * rate) :], (0.5, 0.99))
            print(
                f"{told:3} min: {memory[-1]} MB, p50 {1e3 * lately[0]:.0f} ms, p99 {1e3 * lately[1]:.0f} ms", flush=True
            )
    for _ in clients:
        due.put(None)
    for one in [*clients, *attackers]:
        one.join()
    asked = number - len(attackers)
    rates = f"{rate:.1f} a second: {percentiles(seen.seconds)}, at most {1e3 * max(seen.seconds):.0f} ms"
    print(f"{asked} photos in {seconds / 60:.1f} minutes, {rates}; ", end="")
    print(f"statuses {dict(seen.statuses)}, {asked - len(seen.seconds)} lost, {seen.wrong} wrong")
    print(f"memory by the minute {memory} MB, {megabytes(process, 'VmHWM')} MB at most")
    print(f"hostile: {dict(sorted(seen.hostile.items()))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", choices=["true", "false"], default="false", help="the model of configs/small.yaml")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.9, help="of the rate that it answers at most")
    settings = parser.parse_args()
    photos = mixed_photos()
    with tempfile.TemporaryDirectory() as folder:
        model = write_export(Path(folder), settings.small == "true", "int8")
        with served(model) as (server, port):
            load(port, photos, 4 * len(photos), 8)
            rate, _, _ = load(port, photos, TRIED, 8)
            print(f"{rate:.1f} photos a second to eight clients; {settings.share:.0%} of that from now on", flush=True)
            soak(port, server.pid, photos, settings.share * rate, 60 * settings.minutes)
        print(f"the server ended with exit code {server.returncode}")


if __name__ == "__main__":
    main()
