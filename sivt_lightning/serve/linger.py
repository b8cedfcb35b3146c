"""A refusal reaches the client that is still sending."""

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Linger:
    """Answers at once, but ends an answer only after the rest of the request's body, which it discards.

    A connection that is closed with something unread in it is reset, and a reset takes the answer with it: clients
    that send all before they read would never see why they were refused.

    Args:
        most: bytes to discard.
        seconds: to wait for them.
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Who asks whether to go on has sent nothing yet, and to read would be to say yes.
        coming, ended = (b"expect", b"100-continue") not in scope["headers"], False

        async def reading() -> Message:
            nonlocal coming, ended
            coming = not ended  # what is read behind the body says that the client has gone
            message = await receive()
            coming = message.get("more_body", False)
            ended = not coming
            return message

        async def rest() -> None:
            left = self.most
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.seconds):
                    while coming and left > 0:
                        left -= len((await reading()).get("body", b""))

        async def answering(message: Message) -> None:
            if coming and message["type"] == "http.response.body" and not message.get("more_body", False):
                await send({**message, "more_body": True})
                try:
                    await rest()
                finally:  # even where the server is ended at once
                    await send({"type": "http.response.body"})
            else:
                await send(message)

        await self.app(scope, reading, answering)
