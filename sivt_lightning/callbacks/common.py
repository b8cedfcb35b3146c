"""What the callbacks share: gathering over processes, and what none of them may do."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from sivt_lightning.errors import SIVTError

T = TypeVar("T")


def gather(value: T) -> list[T]:
    """The value of every process in order of rank; of this one alone where there are no others.

    Objects, not tensors: ranks hold different amounts, and NCCL would refuse tensors on the CPU.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def spare(photos: Iterable[Path], files: Iterable[Path]) -> None:
    """Raises SIVTError where one of the files to be written would replace a photo."""
    if lost := set(photos) & set(files):
        raise SIVTError(f"The results would overwrite the photo {min(lost)}. Name another folder with --output.")


NOT_FINITE = (
    "not a finite number: the model diverged in training, or the precision is too narrow for it. "
    "Train with a lower learning rate, or run with --trainer.precision 32-true."
)
