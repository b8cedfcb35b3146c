"""Where features are kept: in memory, or in files that trainings and processes share.

Right only while an image's features never change: no augmentation, and a backbone that is not trained.
"""

import hashlib
import math
import shutil
import uuid
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from sivt_lightning.errors import SIVTError
from sivt_lightning.processes import divide, gather, place
from sivt_lightning.system import free_memory

HEADER = 512  # bytes of a feature file before its numbers, at most
RESERVE = 64 * 2**20  # bytes that a full disk is left with, for checkpoints and logs
MEMORY_RESERVE = 2**30  # bytes that a training takes beside its features, at the least
PARCEL = 64 * 2**20  # bytes that processes hand over at a time


T = TypeVar("T")
R = TypeVar("R")


class FeatureItem(NamedTuple):
    """One sample as features; see `FeatureBatch`."""

    features: Float[Tensor, "C H W"]
    position: int


class FeatureBatch(NamedTuple):
    """What a training with a cache is given in place of a `Batch`."""

    features: Float[Tensor, "B C H W"]  # as kept: float16 or float32
    index: Int64[Tensor, " B"]  # type: ignore[assignment]  # position in the samples; hides tuple.index


@runtime_checkable  # the tests check signatures
class FeatureStore(Protocol):
    """Feature maps by the position of their sample. All processes of a training make, ask and fill theirs together."""

    item_size: int  # bytes of one, at most

    def missing(self, positions: Sequence[int]) -> list[int]:
        """Those of the positions whose features are still to be computed."""

    def put(self, position: int, features: Float[Tensor, "C H W"]) -> None:
        """Keep the features of a sample."""

    def get(self, position: int) -> Float[Tensor, "C H W"]:
        """The features that were put."""

    def share(self) -> None:
        """Once every process has put its share of what was missing, every n-th, each can get all."""


class FeatureDataset(Dataset[FeatureItem]):
    """Samples as features: nothing is decoded, and no network is asked. `store` is there once it is filled."""

    store: FeatureStore

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> FeatureItem:
        return FeatureItem(self.store.get(index), index)


def collate_features(items: Sequence[FeatureItem]) -> FeatureBatch:
    """Stack items into one batch."""
    features, positions = zip(*items, strict=True)
    return FeatureBatch(torch.stack(features), torch.tensor(positions))


class MemoryStore:
    """Features in the memory of each process.

    Raises SIVTError where the system does not give so much.
    """

    def __init__(self, length: int, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.item_size = item_bytes(shape, dtype)
        try:
            self.maps = torch.empty((length, *shape), dtype=dtype)
        except RuntimeError as error:
            raise SIVTError(_no_memory(length * self.item_size, "in memory, but the system gives no more")) from error
        self.known: set[int] = set()

    def missing(self, positions: Sequence[int]) -> list[int]:
        return [position for position in positions if position not in self.known]

    def put(self, position: int, features: Float[Tensor, "C H W"]) -> None:
        self.maps[position] = features
        self.known.add(position)

    def get(self, position: int) -> Float[Tensor, "C H W"]:
        return self.maps[position]

    def share(self) -> None:
        rank, count = place()
        wanted = range(len(self.maps))
        if count > 1:
            step = count * max(1, PARCEL // (count * self.item_size))
            for start in wanted[::step]:
                parcel = self.maps[start : start + step]
                for other, maps in enumerate(gather(parcel[rank::count].clone())):  # a view would send all of its maps
                    parcel[other::count] = maps
        self.known.update(wanted)


class DiskStore:
    """Features in files, memory-mapped when read; one for each image's content, so that a changed image has a new one.

    Files appear whole or not at all, so processes and trainings may fill one folder at once and be killed at any time.
    Each holds a checksum of its numbers. Processes divide the reading of images and files among them.

    Args:
        paths: image files, or whatever else names images to `digests`.
        folder: of the features; another network, preprocessing or precision needs another folder.
        shape: of one feature map.
        dtype: in which they are kept.
        digests: names images by their content, by default from their bytes.
    """

    def __init__(
        self,
        paths: Sequence[Any],
        folder: Path,
        shape: Sequence[int],
        dtype: torch.dtype,
        digests: Callable[[Sequence[Any]], Sequence[str]] | None = None,
    ) -> None:
        self.shape, self.dtype = torch.Size(shape), dtype
        kind = str(dtype).removeprefix("torch.")
        names = divide(digests or content_digests, paths)
        self.files = [folder / f"{name}.{kind}.safetensors" for name in names]
        self.item_size = item_bytes(shape, dtype) + HEADER

    def missing(self, positions: Sequence[int]) -> list[int]:
        """Also those whose file is damaged: every file is read whole to know it."""
        sound = divide(lambda share: in_threads(self._is_sound, [self.files[p] for p in share]), positions)
        return [position for position, good in zip(positions, sound, strict=True) if not good]

    def put(self, position: int, features: Float[Tensor, "C H W"]) -> None:
        kept = features.to(self.dtype).cpu().contiguous()
        write_bytes(self.files[position], save({"features": kept}, {"crc32": str(checksum(kept))}))

    def get(self, position: int) -> Float[Tensor, "C H W"]:
        path = self.files[position]
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_tensor("features")
        except (OSError, SafetensorError) as error:
            raise SIVTError(
                f"{path} was removed or damaged since this training began, or lies in a folder that not all machines "
                "share. Go on from its last.ckpt: what is missing is computed again."
            ) from error

    def share(self) -> None:
        """Files are there for all of them."""

    def _is_sound(self, path: Path) -> bool:
        try:
            with safe_open(path, framework="pt") as file:
                features, stored = file.get_tensor("features"), (file.metadata() or {}).get("crc32")
        except (OSError, SafetensorError):
            return False
        return (features.shape, features.dtype, str(checksum(features))) == (self.shape, self.dtype, stored)


def item_bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Of one feature map."""
    return math.prod(shape) * dtype.itemsize


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """For work that waits for a disk."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(work, items))


def content_digest(path: Path) -> str:
    """Of a file's bytes, not of its name or date."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SIVTError(f"{path} cannot be read: {error.strerror}. Replace or remove it.") from error


def content_digests(paths: Sequence[Path]) -> list[str]:
    """Of files."""
    return in_threads(content_digest, paths)


def checksum(features: Tensor) -> int:
    """CRC-32 of the numbers' bytes."""
    return zlib.crc32(features.numpy().data)


def write_bytes(path: Path, content: bytes) -> None:
    """Under a name of its own first, then in place: another writer of the same file does the same, with the same."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def make_room(folder: Path, needed: int) -> None:
    """The folder, for so many bytes. Raises SIVTError where it cannot be made, or its disk has no room for them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SIVTError(
            f"Cannot write features into {folder}: {error.strerror}. Name another folder with --data.cache_dir."
        ) from error
    free = shutil.disk_usage(folder).free
    if needed + RESERVE > free:
        raise SIVTError(
            f"The features need {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free: make room, name "
            "another folder with --data.cache_dir, or set --data.cache to memory or off."
        )


def check_memory(needed: int, processes: int) -> None:
    """Raises SIVTError where this machine has not so many bytes for each of its processes."""
    free = free_memory()
    if free is not None and (needed + MEMORY_RESERVE) * processes > free:
        each = f"each of {processes} processes" if processes > 1 else "memory"
        reason = f"in {each}, and the training 1 GB or more, but {free / 1e9:.1f} GB are free"
        raise SIVTError(_no_memory(needed, reason))


def _no_memory(needed: int, reason: str) -> str:
    remedy = "set --data.cache to disk or off, or choose a smaller --model.image_size."
    return f"The features need {needed / 1e9:.1f} GB {reason}: {remedy}"
