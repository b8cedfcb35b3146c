"""What requests may hold in memory at a time."""

import asyncio
from collections import deque


class Share:
    """What one request holds of a budget, until it is left as a context."""

    def __init__(self, budget: "Budget", amount: int) -> None:
        self.budget, self.amount = budget, amount

    def shrink(self, amount: int) -> None:
        """To no more than this; the rest is others'."""
        amount = min(amount, self.amount)
        self.budget._give_back(self.amount - amount)
        self.amount = amount

    def __enter__(self) -> "Share":
        return self

    def __exit__(self, *_: object) -> None:
        self.shrink(0)


class Budget:
    """Bytes that may be held at a time. Whoever does not fit waits, and is not overtaken by smaller ones.

    Nobody may wait for more of a budget while he holds some of it: then all waits end.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held, self.peak = most, 0, 0
        self.queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int) -> Share:
        """Once there is room for it. Raises ValueError where there never will be."""
        if amount > self.most:
            raise ValueError(f"{amount} of {self.most} bytes")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.queue.append((amount, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            self._give_back(0 if turn.cancelled() else amount)  # it may have been admitted at the same moment
            raise
        return Share(self, amount)

    def _give_back(self, amount: int) -> None:
        self.held -= amount
        self._admit()

    def _admit(self) -> None:
        while self.queue:
            amount, turn = self.queue[0]
            if not turn.cancelled():
                if self.held + amount > self.most:
                    return
                self.held += amount
                self.peak = max(self.peak, self.held)
                turn.set_result(None)
            self.queue.popleft()
