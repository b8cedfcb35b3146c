"""Photos as the rest of the package knows them, whatever folders or lists they come from."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from sivt_lightning.data.grid import Grid
from sivt_lightning.errors import SIVTError

Split = Literal["train", "validation", "test", "predict"]  # validation: held out; predict: nothing is known of it
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "predict")
MIN_TRAIN_IMAGES = 2  # one to learn from, one to hold out


class Tile(NamedTuple):
    """One of the images that are made of a photo."""

    grid: Grid
    number: int


@dataclass(frozen=True)
class Sample:
    """One photo and what folders or a list say about it. The model never sees the category."""

    path: Path
    category: str
    anomalous: bool = False
    defect: str = "good"
    mask_path: Path | None = None  # a file, or a folder of files whose defects are united
    # What a photo is for, and where that was read, makes it no other photo.
    split: Split = field(default="train", compare=False)
    layout: str = field(default="", compare=False)
    roi_path: Path | None = field(default=None, compare=False)  # which part of its product's photos is inspected
    tile: Tile | None = None  # which alone is meant; None for the photo in all its tiles


class Selection(NamedTuple):
    """The photos to work on, and what else lies in their folders."""

    samples: list[Sample]
    left_out: list[str]  # a sentence for each place


def hold_out(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Split into (train, validation), each category by itself: `share` of it, but at least 1 and never all.

    A category that has photos for validation holds out those. Depends only on the seed, the category's name and its
    sorted file names: neither on the order of `samples` nor on which other categories there are. Raises SIVTError
    unless 0 < share < 1.
    """
    if not 0 < share < 1:
        raise SIVTError(f"The held-out share is {share}, but must lie between 0 and 1. Set data.val_share to 0.1, say.")
    train, validation = [], []
    for name, group in groupby(sorted(samples, key=_order), key=lambda sample: sample.category):
        members = list(group)
        held = {index for index, member in enumerate(members) if member.split == "validation"}
        if not held:
            count = min(max(1, round(share * len(members))), len(members) - 1)
            # crc32, because Python's own hash of a string differs from run to run
            generator = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))
            held = set(generator.permutation(len(members))[:count].tolist())
        train += [member for index, member in enumerate(members) if index not in held]
        validation += [member for index, member in enumerate(members) if index in held]
    return train, validation


def _order(sample: Sample) -> tuple[str, str]:
    return sample.category, sample.path.as_posix()
