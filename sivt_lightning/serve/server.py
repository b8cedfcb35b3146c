"""A server from its first request to its end."""

import asyncio
import logging
import socket
from typing import NamedTuple

from fastapi import FastAPI

from sivt_lightning.serve.log import JSONLines
from sivt_lightning.serve.service import Service
from sivt_lightning.serve.uvicorn_server import Server

UNREAD = 6.0  # seconds that an answer waits to be read once the server ends; more than it lingers for an upload


class Ended(NamedTuple):
    """How a server has come to its end."""

    at_once: bool  # for a second SIGINT: requests that were waiting have no verdict
    unread: int  # clients that did not read their answers


def serve(app: FastAPI, place: socket.socket) -> Ended:
    """Serves on a socket that listens until SIGINT or SIGTERM; what is taken by then is answered."""
    server = Server(app, JSONLines(logging.WARNING))
    unread = asyncio.run(run(server, place, app.state.service))
    return Ended(server.ended_at_once, unread)


async def run(server: Server, place: socket.socket, service: Service) -> int:
    """Serves until SIGINT or SIGTERM. Returns how many clients were cut off because they did not read."""
    server.hear_signals(service.end)
    deadline = asyncio.create_task(cut_off(server, service))
    await server.serve(sockets=[place])
    return 0 if deadline.cancel() else deadline.result()


async def cut_off(server: Server, service: Service) -> int:
    """Ends, some time after the last verdict, the connections that are still open: uvicorn waits for them forever.

    Its own deadline counts from the signal, so it could strike while images wait for the model.
    """
    while not server.ends or service.taken:
        await asyncio.sleep(0.1)
    await asyncio.sleep(UNREAD)
    return server.cut_off()
