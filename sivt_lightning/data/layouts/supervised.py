"""Layouts of data sets whose authors train on defects, too. Here good parts alone are trained on.

    KolektorSDD     CATEGORY/kos01/Part0.jpg, CATEGORY/kos01/Part0_label.bmp
    KolektorSDD2    CATEGORY/train/10000.png, CATEGORY/train/10000_GT.png, CATEGORY/test
    DAGM 2007       CATEGORY/Train/0001.PNG, CATEGORY/Train/Label/0001_label.PNG, CATEGORY/Test

In the first two a photo is good if its mask is empty, in the third if it has none.
"""

import re
from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sivt_lightning.data.folders import child, images_in, sub_folders
from sivt_lightning.data.layouts.layout import Category, Inside, Layout, only_good, parted, samples_of
from sivt_lightning.data.masks import read_mask
from sivt_lightning.data.samples import Sample, Selection, Split
from sivt_lightning.errors import SIVTError

THREADS = 8  # most of the time is spent waiting for the disk
STRIP = re.compile(r"kos\d+", re.IGNORECASE)


class Kolektor(Layout):
    """KolektorSDD: https://www.vicos.si/resources/kolektorsdd. Its authors name no split for training on good parts."""

    name = "kolektor"
    title = "KolektorSDD"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """A folder for each commutator, with a label beside each photo."""
        strips = [inner for name, inner in inside.items() if STRIP.fullmatch(name)]
        return bool(strips) and any(photo.stem.endswith("_label") for photo in images_in(strips[0]))

    def train(self, category: Category) -> Selection:
        """Good photos of four commutators in five."""
        train, kept, defects = self._parts(category)
        said = (
            f"{category.name} names no split: of every fifth folder the good photos ({len(kept)}), and all "
            f"{len(defects)} with a defect are for the test."
        )
        return Selection(samples_of(category, train, "train"), [said])

    def test(self, category: Category) -> Selection:
        """The other good photos, and all of defects."""
        _, kept, defects = self._parts(category)
        return Selection([*samples_of(category, kept, "test"), *_defects(category, defects, "test")], [])

    def _parts(self, category: Category) -> tuple[list[Path], list[Path], dict[Path, Path]]:
        """(good ones for training, good ones for the test, masks of defects by photo)."""
        strips = [folder for folder in sub_folders(category.folder) if STRIP.fullmatch(folder.name)]
        masks = [_pairs(strip, "_label") for strip in strips]
        defects = _shown({photo: mask for pairs in masks for photo, mask in pairs.items()})
        train, kept = ([photo for pairs in part for photo in pairs if photo not in defects] for part in parted(masks))
        return train, kept, defects


class _Split(Layout):
    """Folders for training and test, with good photos and defects in both."""

    def place(self, category: Category) -> Path:
        """The folder of those for training."""
        return child(category.folder, "train")

    def train(self, category: Category) -> Selection:
        """The good ones of those for training."""
        return only_good(category, self._samples(category, "train"))

    def test(self, category: Category) -> Selection:
        """All of those for the test."""
        return Selection(self._samples(category, "test"), [])

    @abstractmethod
    def _samples(self, category: Category, split: Split) -> list[Sample]: ...


class Kolektor2(_Split):
    """KolektorSDD2: https://www.vicos.si/resources/kolektorsdd2"""

    name = "kolektor-2"
    title = "KolektorSDD2"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """Masks lie beside the photos."""
        parts = (inside[name] for name in ("train", "test") if name in inside)
        return any(photo.stem.endswith("_GT") for part in parts for photo in images_in(part))

    def _samples(self, category: Category, split: Split) -> list[Sample]:
        part = child(category.folder, split)
        pairs = _pairs(part, "_GT") if part.is_dir() else {}
        return _sorted(category, list(pairs), _shown(pairs), split)


class DAGM(_Split):
    """DAGM 2007: https://hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection"""

    name = "dagm"
    title = "DAGM 2007"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """Masks of the defects lie in a folder beside the photos."""
        parts = [inside[name] for name in ("train", "test") if name in inside]
        return any(child(part, "label").is_dir() and images_in(part) for part in parts)

    def _samples(self, category: Category, split: Split) -> list[Sample]:
        part = child(category.folder, split)
        photos = images_in(part) if part.is_dir() else []
        labels = child(part, "label") if photos else part
        masks = {mask.stem.casefold(): mask for mask in images_in(labels)} if labels != part and labels.is_dir() else {}
        own = {photo: masks[name] for photo in photos if (name := f"{photo.stem}_label".casefold()) in masks}
        if strange := sorted(set(masks.values()) - set(own.values())):
            raise SIVTError(f"{strange[0]} is a mask of no photo in {part}. Add its photo, or take the mask out.")
        return _sorted(category, photos, own, split)


def _sorted(category: Category, photos: list[Path], defects: Mapping[Path, Path], split: Split) -> list[Sample]:
    good = samples_of(category, (photo for photo in photos if photo not in defects), split)
    return good + _defects(category, defects, split)


def _defects(category: Category, masks: Mapping[Path, Path], split: Split) -> list[Sample]:
    known = {"anomalous": True, "defect": "defect"}
    return [
        sample for photo in masks for sample in samples_of(category, [photo], split, mask_path=masks[photo], **known)
    ]


def _pairs(folder: Path, ending: str) -> dict[Path, Path]:
    """The mask of each photo in a folder, which has its name with an ending. Raises SIVTError where there is none."""
    files = images_in(folder)
    masks = {file.stem.removesuffix(ending): file for file in files if file.stem.endswith(ending)}
    photos = [file for file in files if not file.stem.endswith(ending)]
    if lost := next((photo for photo in photos if photo.stem not in masks), None):
        raise SIVTError(
            f"{lost} has no mask {lost.stem}{ending}, which is what tells whether it is good. Add it (for a good photo "
            "an empty one), or remove the photo."
        )
    return {photo: masks[photo.stem] for photo in photos}


def _shown(masks: Mapping[Path, Path]) -> dict[Path, Path]:
    """Those that are not empty."""
    with ThreadPoolExecutor(THREADS) as threads:
        shown = threads.map(lambda mask: bool(read_mask(mask).pixels.any()), masks.values())
        return {photo: mask for (photo, mask), has in zip(masks.items(), shown, strict=True) if has}
