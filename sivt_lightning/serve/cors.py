"""Pages of other places may ask the server, where they are named."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from sivt_lightning.errors import SIVTError


class CORS(CORSMiddleware):
    """Starlette's, whose refusals are sentences as all others are. A page still has to send the token.

    It has no public way to change them: the method that makes them is overridden, as it is in Starlette 1.10.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["DELETE", "GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser asks before it sends."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        reason = f"{bytes(answer.body).decode()}: a page may send DELETE, GET, HEAD, POST, Authorization, Content-Type"
        return JSONResponse({"error": f"{reason}, if --cors_origin names its place."}, answer.status_code, headers)


def check_origins(origins: Sequence[str]) -> list[str]:
    """As a browser writes them. Raises SIVTError for what none would.

    >>> check_origins(["https://line.example:8443", "*"])
    ['https://line.example:8443', '*']
    """
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"):
            raise SIVTError(
                f"cors_origin {origin}: give what stands before the path of a page's address, such as "
                "https://line.example:8443, or * for every page."
            )
    return list(origins)
