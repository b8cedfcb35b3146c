"""A line of JSON for each request."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RequestLog:
    """Writes time, method, path, status, milliseconds and what the request added to `scope["told"]` to stderr.

    It also answers where everything else has failed, so that no request goes without.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, told = time.perf_counter(), 0, dict[str, Any]()
        scope["told"] = told

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            told["failure"] = f"{type(error).__name__}: {error}"
            if status == 0:
                body = json.dumps({"error": "The model failed on this image; the server's log says how."}).encode()
                headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
                await noted({"type": "http.response.start", "status": 500, "headers": headers})
                await noted({"type": "http.response.body", "body": body})
        finally:
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1e3 * (time.perf_counter() - start), 1),
            }
            print(json.dumps(line | told), file=sys.stderr, flush=True)  # one write: lines never mix
