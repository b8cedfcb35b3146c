"""`sivt serve`: a trained model behind a port."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from sivt_lightning.cli.arguments import parse, verb_parser
from sivt_lightning.data.depth import Depth
from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.inference.predictor import Predictor
from sivt_lightning.system import share_heap

TOKEN = "SIVT_TOKEN"
SHORTEST = 16  # letters of a token: fewer can be guessed
UNREAD = 6.0  # seconds that an answer waits to be read once the server ends; more than it lingers for an upload


def serve(args: Sequence[str]) -> int:
    """`sivt serve --model FILE --port P`, until it is told to end; what it has taken by then is answered."""
    parser = verb_parser("serve")
    parser.add_argument("--model", type=str, required=True, help="A .ckpt, .xml (OpenVINO) or .onnx file.")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="Address to listen on; others need a token.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one.")
    told = f"File that holds the token that requests must send. Default: the environment variable {TOKEN}."
    parser.add_argument("--token_file", type=str | None, help=told)
    parser.add_argument("--threshold", type=float | None, help="Score above which an image is anomalous.")
    parser.add_argument("--category", type=str | None, help="Take the threshold of this category.")
    parser.add_argument("--depth", type=Depth | None, help="Of photos of more than 8 bits. Default: the training's.")
    parser.add_argument("--device", type=str | None, help="Where the model runs, as Predictor has it.")
    parser.add_argument("--max_batch", type=int, default=8, help="Images computed at a time.")
    parser.add_argument("--max_requests", type=int, default=64, help="Requests taken at a time; more get 503.")
    parser.add_argument("--max_bytes", type=int, default=32_000_000, help="Of an image's file; larger ones get 413.")
    parser.add_argument("--max_pixels", type=int, default=50_000_000, help="Of an image; larger ones get 400.")
    told = "Of uploads and decoded images together, in MB. Default: enough for four of the largest files and one image."
    parser.add_argument("--max_memory", type=int | None, help=told)
    told = "Place of a web page, such as https://line.example, whose scripts may ask, too; several may follow."
    parser.add_argument("--cors_origin", type=str, nargs="+", default=[], metavar="ORIGIN", help=told)
    settings = parse(parser, args)
    for name in ("max_batch", "max_requests", "max_bytes", "max_pixels", "max_memory"):
        if settings[name] is not None and settings[name] < 1:
            raise SIVTError(f"{name} is {settings[name]}: give 1 or more.")
    token = find_token(settings.token_file)
    if token is None and not is_loopback(settings.host):
        raise SIVTError(
            f"host {settings.host} can be reached by others, so a token is needed: put it into the environment "
            f"variable {TOKEN} or name a file with --token_file."
        )
    try:
        import uvicorn

        from sivt_lightning.serve.app import Limits, build_app
        from sivt_lightning.serve.cors import check_origins
        from sivt_lightning.serve.log import JSONLines
    except ImportError as error:
        raise SIVTError("`sivt serve` needs more packages: pip install 'sivt-lightning[serve]'.") from error
    origins = check_origins(settings.cors_origin)
    place = listening(settings.host, settings.port)
    share_heap()
    with place:
        predictor = Predictor(
            settings.model, settings.device, settings.threshold, settings.category, depth=settings.depth
        )
        warm_up(predictor, settings.model)
        memory = None if settings.max_memory is None else settings.max_memory * 1_000_000
        limits = Limits(settings.max_bytes, settings.max_pixels, settings.max_requests, settings.max_batch, memory)
        app = build_app(predictor, limits, token, origins)
        place.listen()  # from now on whoever comes waits, instead of being refused
        print(
            f"Serving {settings.model} on http://{settings.host}:{place.getsockname()[1]}. Ctrl-C ends it.", flush=True
        )
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", server_header=False, http="h11")
        server = uvicorn.Server(config)
        log = logging.getLogger("uvicorn.error")
        log.handlers, log.propagate = [JSONLines(logging.WARNING)], False
        log.addFilter(lambda _: not server.force_exit)  # which leaves many things undone, and uvicorn tells each
        unread = asyncio.run(run(server, place, app.state.service))
    if server.force_exit:
        print("Ended at once; requests that were waiting have no verdict.")
        return 1
    if unread:
        told = f"but {unread} of the clients did not read their answers within {UNREAD:g} s."
        print(f"Ended; every request that was taken has its verdict, {told}")
        return 0
    print("Ended; every request that was taken has been answered.")
    return 0


def warm_up(predictor: Predictor, path: str) -> None:
    """A model's first call, which takes longer than others. Raises SIVTError where it fails."""
    size = predictor.model.image_size
    try:
        predictor.model(torch.zeros(1, 3, size, size))
    except SIVTError:
        raise
    except Exception as error:
        remedy = "Try another --device, or export the model again."
        raise SIVTError(f"Model {path} cannot be run on this machine: {first_line(error)}. {remedy}") from error


async def run(server: Any, place: socket.socket, service: Any) -> int:
    """Serves until SIGINT or SIGTERM, which ends in good order and not, as uvicorn has it, by the signal.

    A second SIGINT ends at once. Returns how many clients were cut off because they did not read.
    """
    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        server.handle_exit(number, None)
        service.end()

    with contextlib.suppress(NotImplementedError):  # on Windows, where it ends in uvicorn's way
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told, number)
        server.capture_signals = _nothing
    deadline = asyncio.create_task(cut_off(server, service))
    await server.serve(sockets=[place])
    return 0 if deadline.cancel() else deadline.result()


async def cut_off(server: Any, service: Any) -> int:
    """Ends, some time after the last verdict, the connections that are still open: uvicorn waits for them forever.

    Its own deadline counts from the signal, so it could strike while images wait for the model.
    """
    while not server.should_exit or service.taken:
        await asyncio.sleep(0.1)
    await asyncio.sleep(UNREAD)
    left = list(server.server_state.connections)
    for connection in left:
        connection.transport.abort()
    return len(left)


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to this place. Raises SIVTError where that cannot be."""
    if not 0 <= port < 2**16:
        raise SIVTError(f"port {port}: give one from 0 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        place = socket.socket(family, kind, protocol)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
        return place
    except OSError as error:
        raise SIVTError(f"Cannot listen on {host}, port {port}: {error.strerror}. Choose another.") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "camera")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_token(path: str | None) -> str | None:
    """From the file, or the environment. Raises SIVTError where there is a place for it, but no token in it."""
    if path is None:
        token, place = os.environ.get(TOKEN), f"The environment variable {TOKEN}"
        if token is None:
            return None
    else:
        place = f"token_file {path}"
        try:
            token = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SIVTError(f"{place} cannot be read. Give a text file that holds the token.") from error
    token = token.strip()
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise SIVTError(f"{place} holds no token: put one word of {SHORTEST} or more ASCII letters and digits into it.")
    return token
