"""A training's images as features that are computed once."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sivt_lightning.data.dataset import ImageDataset
from sivt_lightning.data.remote import RemotePath, version_of
from sivt_lightning.data.samples import Sample, Tile
from sivt_lightning.errors import SIVTError
from sivt_lightning.features.fill import Wanted, keep
from sivt_lightning.features.store import FeatureDataset, content_digest, in_threads


class KeptFeatures:
    """Stands in for the images of a training where their features are kept.

    Args:
        cache: where; "off" keeps none.
        folder: of those on disk.
    """

    def __init__(self, cache: Literal["off", "memory", "disk"], folder: Path) -> None:
        self.cache, self.folder = cache, folder
        self.features: dict[ImageDataset, FeatureDataset] = {}

    def begin(self, train_set: ImageDataset, val_set: ImageDataset) -> None:
        """Of these images, in the place of others before."""
        if self.cache != "off":
            self.features = {images: FeatureDataset(len(images)) for images in (train_set, val_set)}

    def or_images(self, images: ImageDataset) -> ImageDataset | FeatureDataset:
        """What a training reads."""
        return images if self.cache == "off" else self.features[images]

    def fill(
        self,
        compute: Callable[[Float[Tensor, "1 3 size size"]], Float[Tensor, "1 C H W"]],
        shape: tuple[int, int, int],
        key: str,
        threads: int,
        processes: int,
    ) -> None:
        """See `SIVTDataModule.keep_features`; the last two are those of `keep`."""
        if self.cache == "off":
            return
        folder = None if self.cache == "memory" else self.folder / key
        # Held-out scores become thresholds, so their features are as exact as those in prediction.
        dtypes = (torch.float16, torch.float32)
        wanted = [
            Wanted(images.samples, partial(_image, images), features, dtype, image_keys)
            for (images, features), dtype in zip(self.features.items(), dtypes, strict=True)
        ]
        with ExitStack() as stack:
            for images in self.features:
                stack.enter_context(images.photos_kept())
            keep(wanted, folder, shape, compute, threads, processes)


def image_keys(samples: Sequence[Sample]) -> list[str]:
    """By which features are found again: what photo they are of, and which tile of it."""
    paths = list(dict.fromkeys(sample.path for sample in samples))
    keys = dict(zip(paths, content_keys(paths), strict=True))
    return [keys[sample.path] + _named(sample.tile) for sample in samples]


def content_keys(paths: Sequence[Path]) -> list[str]:
    """Of photos: their bytes or, so that nothing is fetched, what their store says."""
    folders = {path.parent: None for path in paths if isinstance(path, RemotePath)}
    listed = {path: known for folder in folders for path, known in folder.listed().items()}
    said = {path: version for path, known in listed.items() if (version := version_of(path, known))}

    def key(path: Path) -> str:
        version = said.get(path) if isinstance(path, RemotePath) else None
        return content_digest(path) if version is None else hashlib.sha256(version.encode()).hexdigest()

    return in_threads(key, paths)


def _named(tile: Tile | None) -> str:
    return "" if tile is None else "-" + hashlib.sha256(repr(tile).encode()).hexdigest()[:16]


def _image(images: ImageDataset, position: int) -> Float[Tensor, "3 size size"]:
    item = images[position]
    if item.error:
        raise SIVTError(item.error)
    return item.images[0]
