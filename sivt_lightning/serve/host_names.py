"""By which names the server may be asked: what another site calls its own may lead here, too."""

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
    """Refuses requests for another host, 421 as HTTP has it: a page of that one's could read all that is here.

    A browser lets the scripts of a page ask the host that the page is of, and that host's owner says which address it
    has: after the page has come, this machine's (DNS rebinding). An address is no name that could be given another one.
    Starlette's TrustedHostMiddleware knows names only, and answers in plain text.

    Args:
        names: under which the server is known, beside localhost and the machine's own.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self.app = app
        machine = socket.gethostname().lower()
        self.names = {"localhost", machine, machine.partition(".")[0], *names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""
        name = PORT.sub("", host.lower()).strip("[]").removesuffix(".")
        if not host or name in self.names or is_address(name):  # HTTP/1.1 has one, and browsers speak no other
            await self.app(scope, receive, send)
            return
        name = name[:LONGEST]
        reason = f"{name} is no name of this server, but may be another site's, whose pages must not ask it"
        remedy = f"open it by its address, such as 127.0.0.1, or start it with --host_name {name}"
        await answer(send, 421, f"{reason}: {remedy}.")


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
