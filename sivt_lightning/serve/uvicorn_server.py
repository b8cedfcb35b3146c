"""uvicorn's inside, all that is used of it, as in uvicorn 0.54: how it ends, whom it still serves, where it logs.

It has no public way to end in good order by a signal and go on afterwards, nor to part with clients who do not read,
or do not say what they want.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 10.0  # s, for a request's line and headers


class Connection(H11Protocol):
    """Ends where a request's head does not come, or comes byte by byte: each one open takes a file of the process."""

    late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._hear()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._hear()
        elif self.late is None:
            self.late = self.loop.call_later(HEAD, self.timeout_keep_alive_handler)

    def _hear(self) -> None:
        if self.late is not None:
            self.late.cancel()
            self.late = None


class Server(uvicorn.Server):
    """Ends in good order by SIGINT or SIGTERM and not, as uvicorn has it, by the signal; a second SIGINT ends at once.

    Args:
        app: what it serves.
        log: takes what uvicorn complains of.
    """

    def __init__(self, app: ASGIApp, log: logging.Handler) -> None:
        super().__init__(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", server_header=False, http=Connection)
        )
        self.hears = False  # signals, by itself
        logger = logging.getLogger("uvicorn.error")
        logger.handlers, logger.propagate = [log], False
        logger.addFilter(lambda _: not self.ended_at_once)  # which leaves many things undone, and uvicorn tells each

    @property
    def ends(self) -> bool:
        """Whether it has been told to."""
        return self.should_exit

    @property
    def ended_at_once(self) -> bool:
        """Leaving requests without an answer."""
        return self.force_exit

    def hear_signals(self, also: Callable[[], None]) -> None:
        """From the running loop on; `also` is called at each."""

        def hear(number: int) -> None:
            self.handle_exit(number, None)
            also()

        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # on Windows, where it ends in uvicorn's way
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, hear, number)
            self.hears = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's takes them while it serves, and sends them again afterwards."""
        with contextlib.nullcontext() if self.hears else super().capture_signals():
            yield

    def cut_off(self) -> int:
        """Ends the connections that are still open; how many they were."""
        left = list(self.server_state.connections)
        for connection in left:
            connection.transport.abort()
        return len(left)
