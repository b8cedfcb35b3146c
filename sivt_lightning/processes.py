"""The processes of one training: what they tell one another, and work that they divide."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch.distributed as dist

from sivt_lightning.errors import Agreed, SIVTError

T = TypeVar("T")
R = TypeVar("R")


def gather(value: T) -> list[T]:
    """The value of every process in order of rank; of this one alone where there are no others.

    Objects, not tensors: ranks hold different amounts, and NCCL would refuse tensors on the CPU.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def place() -> tuple[int, int]:
    """(rank of this process, number of processes)."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def divide(work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
    """`work(items)`, of which each process does every n-th item; called by all of them, it returns all to all.

    What fails on one process is raised on every one: the others would wait for it.
    """
    rank, count = place()
    done: Sequence[R] = []
    failure: Exception | None = None
    try:
        done = work(items[rank::count])
    except Exception as error:
        failure = error
    parts = gather((done, failure and (str(failure) or type(failure).__name__)))
    if failure is not None and (count == 1 or not isinstance(failure, SIVTError)):
        raise failure
    if reasons := [reason for _, reason in parts if reason]:
        raise Agreed(reasons[0]) from failure
    return [parts[position % count][0][position // count] for position in range(len(items))]


def everywhere(work: Callable[[], None]) -> None:
    """Work that every process does at its own place; what fails on one is raised on every one."""

    def here(share: Sequence[int]) -> Sequence[int]:
        work()
        return share

    divide(here, range(place()[1]))
