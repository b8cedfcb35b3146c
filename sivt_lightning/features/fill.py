"""Computing the features that are kept: each process its share of the images, each thread one image at a time.

One at a time, because the rounding of a convolution depends on how many images it is given; and each by one thread,
because it also depends on the number of threads, and because threads that share an operation wait for one another:
where other programs take the processors, nearly all the time.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.features.store import (
    DiskStore,
    FeatureDataset,
    FeatureStore,
    MemoryStore,
    check_memory,
    content_digests,
    item_bytes,
    make_room,
)
from sivt_lightning.processes import divide, everywhere, gather, place

Read = Callable[[int], Float[Tensor, "3 S S"]]
Compute = Callable[[Float[Tensor, "1 3 S S"]], Float[Tensor, "1 C H W"]]


class Wanted(NamedTuple):
    """Images whose features are to be kept."""

    paths: Sequence[Any]  # what names each to `digests`, by default its file
    read: Read  # the image at a position
    features: FeatureDataset  # is given the store
    dtype: torch.dtype
    digests: Callable[[Sequence[Any]], Sequence[str]] = content_digests  # names images by their content


def keep(
    wanted: Sequence[Wanted], folder: Path | None, shape: Sequence[int], compute: Compute, threads: int, processes: int
) -> None:
    """Computes the features that are not there yet. All processes of a training call it together.

    Args:
        folder: of the files; None keeps the features in memory.
        shape: (C, H, W).
        compute: features of an image. It and `Wanted.read` are called by threads that have none of this one's
            contexts, such as autocast and no_grad.
        threads: images that this process computes at a time.
        processes: of the training, on this machine.

    Raises SIVTError at an unreadable image, and where memory or disk have no room.
    """
    if folder is None:
        size = sum(len(part.paths) * item_bytes(shape, part.dtype) for part in wanted)
        everywhere(lambda: check_memory(size, processes))
    else:
        folder = gather(folder)[0]  # processors that round differently may have measured other statistics
    for paths, _, features, dtype, digests in wanted:
        if folder is None:
            features.store = MemoryStore(len(paths), shape, dtype)
        else:
            features.store = DiskStore(paths, folder, shape, dtype, digests)
    missing = [features.store.missing(range(len(paths))) for paths, _, features, *_ in wanted]
    if place()[0] == 0:
        _announce(wanted, sum(map(len, missing)), "in memory" if folder is None else f"in {folder}")
    if folder is not None:
        needed = sum(part.features.store.item_size * len(gaps) for part, gaps in zip(wanted, missing, strict=True))
        everywhere(lambda: make_room(folder, needed))
    for part, gaps in zip(wanted, missing, strict=True):
        fill(part.features.store, gaps, part.read, compute, threads)


def _announce(wanted: Sequence[Wanted], missing: int, where: str) -> None:
    images = sum(len(part.paths) for part in wanted)
    size = sum(len(part.paths) * part.features.store.item_size for part in wanted)
    todo = f"computing {missing} of them" if missing else "all there"
    print(f"Features of {images} images, {size / 1e9:.2f} GB {where}: {todo}", flush=True)


def fill(store: FeatureStore, missing: Sequence[int], read: Read, compute: Compute, threads: int) -> None:
    """Puts the features of the images at `missing`, and lets every process have them."""

    def put(position: int) -> None:
        store.put(position, compute(read(position)[None])[0])

    with single_threads(threads) as pool:  # nobody goes on before all have put theirs
        divide(lambda share: list(pool.map(put, share)), missing)
    store.share()


@contextmanager
def single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads each of which computes alone."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, "features", torch.set_num_threads, (1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)  # of threads to come; this one has kept its own number
