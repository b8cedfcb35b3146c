"""What the callbacks share: gathering over processes, and files that appear whole."""

import csv
import errno
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from sivt_lightning.errors import SIVTError

T = TypeVar("T")
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def gather(value: T) -> list[T]:
    """The value of every process in order of rank; of this one alone where there are no others.

    Objects, not tensors: ranks hold different amounts, and NCCL would refuse tensors on the CPU.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def writable_folder(folder: Path, option: str = "--output") -> Path:
    """The folder, made where it is missing; refused before the work starts rather than after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SIVTError(f"Cannot write into {folder}: {error.strerror}. Name another folder with {option}.") from error
    return folder


def spare(photos: Iterable[Path], files: Iterable[Path]) -> None:
    """Raises SIVTError where one of the files to be written would replace a photo."""
    if lost := set(photos) & set(files):
        raise SIVTError(f"The results would overwrite the photo {min(lost)}. Name another folder with --output.")


def write_whole(path: Path, text: str) -> None:
    """Write the file under another name and move it into place, so that it is there whole or not at all."""
    part = path.with_name(path.name + ".tmp")
    # surrogateescape: file names that are no UTF-8 go out as the bytes they came in as
    with part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)
    part.replace(path)


def csv_text(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> str:
    """Rows of cells, without a heading."""
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()


NOT_FINITE = (
    "not a finite number: the model diverged in training, or the precision is too narrow for it. "
    "Train with a lower learning rate, or run with --trainer.precision 32-true."
)
