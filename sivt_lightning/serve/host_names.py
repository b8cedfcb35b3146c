"""Who may ask a server without a token: not the pages of other sites, whatever their names lead to."""

import ipaddress
import re
import socket
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sivt_lightning.errors import SIVTError
from sivt_lightning.serve.log import answer

PORT = re.compile(r":\d*$")
NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
LONGEST = 100  # letters of a name that are repeated


class HostNames:
    """Refuses requests for another host, 421 as HTTP has it, and those of other sites' pages, 403.

    A browser lets the scripts of a page read what the host of that page answers, and that host's owner says which
    address it has: after the page has come, this machine's (DNS rebinding). An address is no name that could be given
    another one. What another host answers they may not read, but they may ask it, and a POST does something.
    Starlette's TrustedHostMiddleware knows names only, and answers in plain text.

    Args:
        names: under which the server is known, beside localhost and the machine's own.
        origins: of pages that may ask, beside its own; * for all.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str], origins: Sequence[str]) -> None:
        self.app, self.given, self.origins = app, frozenset(names), frozenset(origins)
        machine = socket.gethostname().lower()
        self.names = {"localhost", machine, machine.partition(".")[0], *names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(Headers(scope=scope))):
            await answer(send, *refusal)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        name = name_of(host)
        if host and name not in self.names and not is_address(name):  # HTTP/1.1 has one, and browsers speak no other
            name = name[:LONGEST]
            reason = f"{name} is no name of this server, but may be another site's, whose pages must not ask it"
            return 421, f"{reason}: open it by its address, such as 127.0.0.1, or start it with --host_name {name}."
        if origin is None or {origin, "*"} & self.origins:
            return None
        place = origin.lower().partition("://")[2]
        if place == host or name_of(place) in self.given:
            return None
        reason = f"{origin[:LONGEST]} is the place of a page of another site, which must not ask this server"
        return 403, f"{reason}: open the server's own page, or name that place with --cors_origin."


def name_of(host: str) -> str:
    """Of what a Host header says, in small letters.

    >>> [name_of(host) for host in ("line.example:8000", "[::1]:80", "127.0.0.1", "line.example.")]
    ['line.example', '::1', '127.0.0.1', 'line.example']
    """
    return PORT.sub("", host).strip("[]").removesuffix(".")


def is_address(text: str) -> bool:
    """
    >>> [is_address(text) for text in ("192.168.0.7", "::1", "camera", "1.2.3.4.example")]
    [True, True, False, False]
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def check_names(names: Sequence[str]) -> list[str]:
    """As a browser sends them. Raises SIVTError for what none would.

    >>> check_names(["Line.example"])
    ['line.example']
    """
    for name in names:
        if not NAME.fullmatch(name.lower()):
            raise SIVTError(f"host_name {name}: give a name such as line.example, without port and http://.")
    return [name.lower() for name in names]
