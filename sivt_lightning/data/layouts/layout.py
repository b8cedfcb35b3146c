"""What a layout of folders is: how a product's folder is known to be in it, and which photos it makes of that."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from sivt_lightning.data.folders import counted, images, is_note
from sivt_lightning.data.samples import Sample, Selection, Split

EVERY = 5  # of the good photos of a data set without a split, one in so many is for the test

T = TypeVar("T")
Inside = Mapping[str, Path]  # the folders in a folder, by their names in lower case


@dataclass(frozen=True)
class Category:
    """A product's folder."""

    name: str
    folder: Path
    layout: "Layout"


class Layout(ABC):
    """One way to lay out the photos of a product."""

    name: ClassVar[str]  # as `data.layout` has it
    title: ClassVar[str]  # as people call it
    beside: ClassVar[tuple[str, ...]] = ()  # what belongs to the data set beside the folders of its products

    @abstractmethod
    def holds(self, folder: Path, inside: Inside) -> bool:
        """Whether a product's folder may be read in this layout, by the names of what lies in it."""

    def is_plain(self, folder: Path, inside: Inside) -> bool:
        """Whether it may unasked."""
        return self.holds(folder, inside)

    def place(self, category: Category) -> Path:
        """Where its good photos for training lie."""
        return category.folder

    @abstractmethod
    def train(self, category: Category) -> Selection:
        """Good photos to learn from and, where the data set has such, to hold out. Never looks at those of a test.

        Raises SIVTError where it is unclear what they show, as the next two.
        """

    def test(self, category: Category) -> Selection:
        """Labelled photos, with masks where there are masks."""
        return Selection([], [])

    def unlabelled(self, category: Category) -> Selection:
        """Photos of which nothing is known, to predict."""
        return Selection([], [])


def samples_of(category: Category, photos: Iterable[Path], split: Split, **known: Any) -> list[Sample]:
    """Photos of which the same is known: of good parts, where nothing else is said."""
    title = category.layout.title
    return [Sample(photo, category.name, split=split, layout=title, **known) for photo in photos]


def unused(category: Category, paths: Iterable[Path], purpose: str) -> list[str]:
    """A sentence on what lies in the folder and is not used for "training" or "testing"."""
    names = counted(category.folder, [path for path in paths if not is_note(path)])
    return [f"In {category.folder}, not used for {purpose}: {names}."] if names else []


def only_good(category: Category, samples: Sequence[Sample]) -> Selection:
    """Those of good parts, of photos that others train on; and a sentence on the rest."""
    good = [sample for sample in samples if not sample.anomalous]
    rest = len(samples) - len(good)
    said = f"{images(rest)} of defects for training in {category.folder} left out: only good parts are trained on."
    return Selection(good, [said] if rest else [])


def parted(items: Sequence[T]) -> tuple[list[T], list[T]]:
    """(for training, for the test) of a data set that names no split: every fifth is for the test.

    >>> parted("abcdefg")
    (['a', 'b', 'c', 'd', 'f', 'g'], ['e'])
    """
    kept = list(items[EVERY - 1 :: EVERY])
    return [item for place, item in enumerate(items) if place % EVERY != EVERY - 1], kept
