"""A server from its first request to its end, which uvicorn would have otherwise."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import uvicorn
from fastapi import FastAPI

from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.inference.predictor import Predictor
from sivt_lightning.serve.log import JSONLines

UNREAD = 6.0  # seconds that an answer waits to be read once the server ends; more than it lingers for an upload


class Ended(NamedTuple):
    """How a server has come to its end."""

    at_once: bool  # for a second SIGINT: requests that were waiting have no verdict
    unread: int  # clients that did not read their answers


def serve(app: FastAPI, place: socket.socket) -> Ended:
    """Serves on a socket that listens until SIGINT or SIGTERM; what is taken by then is answered."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", server_header=False, http="h11")
    server = uvicorn.Server(config)
    log = logging.getLogger("uvicorn.error")
    log.handlers, log.propagate = [JSONLines(logging.WARNING)], False
    log.addFilter(lambda _: not server.force_exit)  # which leaves many things undone, and uvicorn tells each
    unread = asyncio.run(run(server, place, app.state.service))
    return Ended(server.force_exit, unread)


def warm_up(predictor: Predictor, path: str) -> None:
    """A model's first call, which takes longer than others. Raises SIVTError where it fails."""
    size = predictor.model.about.image_size
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
