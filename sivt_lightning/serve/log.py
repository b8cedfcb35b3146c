"""A line of JSON for each request."""

import asyncio
import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = "x-request-id"
WORD = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")  # what others make up lands in a log


async def answer(send: Send, status: int, sentence: str) -> None:
    """As the application has it, for what did not come so far."""
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def note(level: str, message: str) -> None:
    """What the server itself has to say, in a line of the same kind."""
    _write({"level": level, "message": message})


class JSONLines(logging.Handler):
    """Records as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.levelname.lower(), self.format(record))


class RequestLog:
    """Writes time, id, method, path, status, milliseconds and what the request added to `scope["details"]` to stderr.

    The id is the client's own `X-Request-ID`, where it is a word, else a new one; the answer has it, too.

    Args:
        seen: is given each line.
    """

    def __init__(self, app: ASGIApp, seen: Callable[[Mapping[str, Any]], None]) -> None:
        self.app, self.seen = app, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, details = time.perf_counter(), 0, dict[str, Any]()
        sent = dict(scope["headers"]).get(REQUEST_ID.encode(), b"").decode("latin-1")
        details["id"] = name = sent if WORD.fullmatch(sent) else uuid.uuid4().hex
        scope["details"] = details

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (REQUEST_ID.encode(), name.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            line = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1e3 * (time.perf_counter() - start), 1),
            }
            _write(line | details)
            self.seen(line | details)


class LastWord:
    """Answers where everything else has failed, so that no request goes without; the log gets the reason."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except asyncio.CancelledError:  # the server is ended at once
            if not begun:
                await answer(noted, 503, "The server has been stopped.")
        except Exception as error:
            scope["details"]["failure"] = f"{type(error).__name__}: {error}"
            if not begun:
                await answer(noted, 500, "The model failed on this image; the server's log says how.")


def _write(line: dict[str, Any]) -> None:
    timed = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | line
    sys.stderr.write(json.dumps(timed) + "\n")  # in one piece: lines never mix
    sys.stderr.flush()
