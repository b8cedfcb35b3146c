"""Threads whose work can neither end the server nor hang it."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

# Raised again where a thread is waited for, the first two upset futures and coroutines, and asyncio takes the third
# for its own cancellation.
UNFIT = (StopIteration, StopAsyncIteration, concurrent.futures.CancelledError)


class Tamed(Exception):
    """What a thread raised that could not be raised again elsewhere; the message names it."""


def tame(work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """Calls it. Raises what it raises, or Tamed where that would end more than the call: SystemExit, for one."""
    try:
        return work(*args, **kwargs)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, UNFIT):
            raise
        raise Tamed(f"{type(error).__name__}: {error}") from error


class Threads:
    """A pool of threads.

    Args:
        count: how many.
        name: of each, with a number.
    """

    def __init__(self, count: int, name: str) -> None:
        self.pool = ThreadPoolExecutor(count, name)
        self.name = name
        self.trouble: str | None = None  # why it took no work when it was last given some

    async def run(self, work: Callable[..., Result], *given: object) -> Result:
        """What it returns. Raises what it raises, as `tame` has it, and RuntimeError where no thread takes it."""
        try:
            job = self.pool.submit(tame, work, *given)
        except RuntimeError as error:  # shut down, or the system has no thread left
            self.trouble = f"{self.name}: {error}"
            raise
        self.trouble = None
        return await asyncio.wrap_future(job)

    def close(self) -> None:
        """After what it was given."""
        self.pool.shutdown()
