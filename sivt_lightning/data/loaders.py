"""How batches are read: by how many processes, and from where in an epoch."""

import math
import signal
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from sivt_lightning.data.dataset import Batch, ImageDataset, TrainSampler, collate
from sivt_lightning.errors import SIVTError
from sivt_lightning.features.store import FeatureDataset, collate_features
from sivt_lightning.system import cpus

MAX_WORKERS = 8
MIN_BATCHES_FOR_WORKERS = 4  # below that, starting worker processes costs more than they save


class Progress:
    """How far a training is: its epoch, and how many of the epoch's images all processes together have been given."""

    def __init__(self) -> None:
        self.set(0, 0)

    def set(self, epoch: int, images: int) -> None:
        """What is read next follows these."""
        self.epoch, self.images = epoch, images


class TrainLoader(DataLoader[Any]):
    """Goes on within an epoch where a checkpoint was saved, and starts reading at the first `next`, not at `iter`.

    Lightning's fit loop calls `iter` before it tells the sampler the first epoch's number, and workers start reading
    at once: resumed at epoch 5, a plain loader with workers gives epoch 0's order.
    """

    progress: Progress | None = None  # of a training that it follows

    def follow(self, progress: Progress, current_epoch: Callable[[], int]) -> None:
        """Read the epoch of this number from where the progress is in it, and keep the progress up to date."""
        self.progress, self.current_epoch = progress, current_epoch

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        sampler, progress = self.sampler, self.progress
        # Lightning makes another one of it for trainer.overfit_batches.
        if progress is None or not isinstance(sampler, TrainSampler):
            yield from super().__iter__()
            return
        sampler.epoch = epoch = self.current_epoch()
        # Lightning counts batches, which may have been of another size, or fewer at a time, before a checkpoint.
        sampler.skip = images = progress.images if progress.epoch == epoch else 0
        for batch in super().__iter__():
            images += len(batch.index) * sampler.world_size
            progress.set(epoch, images)
            yield batch

    def left(self, images: int) -> int:
        """Batches left in an epoch of which all processes together have been given so many images."""
        sampler: Any = self.sampler
        return math.ceil(sampler.left(images) / (self.batch_size or 1))


def readers(num_workers: int | None, processes: int) -> int:
    """Processes that read for each of those of a training on this machine: as many as are set, or its share of CPUs."""
    return min(cpus() // processes, MAX_WORKERS) if num_workers is None else num_workers


def loader_settings(
    dataset: ImageDataset | FeatureDataset, samples: int, batch_size: int, num_workers: int | None, processes: int
) -> dict[str, Any]:
    """Of a loader of so many samples of the dataset; `num_workers` and `processes` are those of `readers`."""
    kept = isinstance(dataset, FeatureDataset)
    if kept:
        workers = 0  # to hand a feature map over from another process takes longer than to read it
    elif num_workers is None and samples < MIN_BATCHES_FOR_WORKERS * batch_size:
        workers = 0
    else:
        workers = readers(num_workers, processes)
    return {
        "batch_size": batch_size,
        "collate_fn": collate_features if kept else collate,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": _ignore_interrupts,
        "generator": torch.Generator(),  # otherwise each epoch draws a seed for its workers from the global one
    }


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the main one decides when reading ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def raise_errors(batch: Any) -> None:
    """Raises SIVTError where an image of the batch could not be read."""
    errors = [error for error in batch.errors if error] if isinstance(batch, Batch) else []
    if errors:
        more = f" ({len(errors) - 1} more in the same batch.)" if len(errors) > 1 else ""
        raise SIVTError(errors[0] + more)
