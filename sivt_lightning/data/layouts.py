"""From folders to samples: which photos there are, which category they belong to, which mask goes with which.

A root holds categories side by side, each in one of these layouts, or is itself one category:

    MVTec       CATEGORY/train/good, CATEGORY/test/good, CATEGORY/test/DEFECT, CATEGORY/ground_truth/DEFECT
    good-only   CATEGORY/*.png, or CATEGORY/good

`good` may be called ok, normal or pass as well (see `names`), and may have sub-folders, as may DEFECT.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sivt_lightning.data.categories import Category, find_categories, good_folders
from sivt_lightning.data.folders import (
    Contents,
    child,
    contents,
    counted,
    entries,
    images_in,
    is_image,
    is_note,
    sub_folders,
    there,
    walk,
)
from sivt_lightning.data.names import defect_among, mask_among, meaning
from sivt_lightning.errors import SIVTError, listing

MIN_TRAIN_IMAGES = 2  # one to learn from, one to hold out


@dataclass(frozen=True)
class Sample:
    """One photo and what the folders say about it. The model never sees the category."""

    path: Path
    category: str
    anomalous: bool = False
    defect: str = "good"
    mask_path: Path | None = None


class Selection(NamedTuple):
    """The photos to work on, and what else lies in their folders."""

    samples: list[Sample]
    left_out: list[str]  # a sentence for each place


def train_samples(root: Path, categories: Sequence[str] | None) -> Selection:
    """The normal training images of the chosen categories (None: all), sorted by category and name.

    Never looks into a test folder. Raises SIVTError if `root` or a category is not to be found, holds too little, or
    may hold defects or masks.
    """
    chosen, left_out = find_categories(root, categories)
    samples = []
    for category in chosen:
        photos, leftovers = _good_photos(category)
        if len(photos) < MIN_TRAIN_IMAGES:
            folder = child(category.folder, "train") / "good" if category.layout == "mvtec" else category.folder
            raise SIVTError(
                f"Category {category.name!r} has {len(photos)} training image(s) in {folder}, but at least "
                f"{MIN_TRAIN_IMAGES} are needed, since one is held out. {there(category.folder)} "
                "Add images, or choose other categories."
            )
        _refuse_masks(photos)
        _refuse_defects(photos)
        samples += [Sample(photo, category.name) for photo in photos]
        left_out += _unused(category, leftovers, "training")
    return Selection(samples, left_out)


def test_samples(root: Path, categories: Sequence[str] | None) -> Selection:
    """The labelled test images of the chosen categories (None: all), with their masks where there are masks.

    Raises SIVTError if `root` or a category is not to be found, there is nothing to test, or a mask is missing.
    """
    chosen, left_out = find_categories(root, categories)
    samples: dict[str, list[Sample]] = {}
    for category in chosen:
        samples[category.name], unused = _category_test_samples(category)
        left_out += unused
    untested = [name for name, of in samples.items() if not of]
    if len(untested) == len(chosen):
        raise SIVTError(
            f"No test images in {root}: looked for test/good and test/DEFECT in {listing(untested)}. {there(root)} "
            "Add them, or use `sivt predict` for photos without labels."
        )
    if untested:
        left_out.append(f"Left out of the test, having no test images: {listing(untested)}.")
    return Selection([sample for of in samples.values() for sample in of], left_out)


def hold_out(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Split into (train, validation), each category by itself: `share` of it, but at least 1 and never all.

    Depends only on the seed, the category's name and its sorted file names: neither on the order of `samples` nor on
    which other categories there are. Raises SIVTError unless 0 < share < 1.
    """
    if not 0 < share < 1:
        raise SIVTError(f"The held-out share is {share}, but must lie between 0 and 1. Set data.val_share to 0.1, say.")
    train, validation = [], []
    for name, group in groupby(sorted(samples, key=_order), key=lambda sample: sample.category):
        members = list(group)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        # crc32, because Python's own hash of a string differs from run to run
        generator = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))
        held = set(generator.permutation(len(members))[:count].tolist())
        train += [member for index, member in enumerate(members) if index not in held]
        validation += [member for index, member in enumerate(members) if index in held]
    return train, validation


def _order(sample: Sample) -> tuple[str, str]:
    return sample.category, sample.path.as_posix()


def _good_photos(category: Category) -> tuple[list[Path], list[Path]]:
    """(photos, what else lies in their folders)."""
    if category.layout == "photos":
        return images_in(category.folder), [entry for entry in entries(category.folder) if not is_image(entry)]
    folders = good_folders(category)
    inside = [_checked(contents(folder), folder, good=True) for folder in folders]
    around = child(category.folder, "train") if category.layout == "mvtec" else category.folder
    leftovers = [other for of in inside for other in of.others]
    leftovers += [entry for entry in entries(around) if entry not in folders] if around.is_dir() else []
    leftovers += _outside_layout(category)
    return [photo for of in inside for photo in of.photos], leftovers


def _outside_layout(category: Category) -> list[Path]:
    if category.layout != "mvtec":
        return []
    known = {child(category.folder, name) for name in ("train", "test", "ground_truth")}
    return [entry for entry in entries(category.folder) if entry not in known]


def _category_test_samples(category: Category) -> tuple[list[Sample], list[str]]:
    test, truth = child(category.folder, "test"), child(category.folder, "ground_truth")
    if not test.is_dir():
        return [], []
    samples, leftovers = [], _outside_layout(category)
    good_ones = good_folders(category, "test")
    for entry in entries(test):
        inside = contents(entry) if entry.is_dir() else None
        if inside is None or not inside.photos:
            leftovers.append(entry)
            continue
        good = entry in good_ones
        leftovers += _checked(inside, entry, good).others
        samples += [Sample(photo, category.name, not good, "good" if good else entry.name) for photo in inside.photos]
    _refuse_masks([sample.path for sample in samples])
    _refuse_defects([sample.path for sample in samples if not sample.anomalous])
    if truth.is_dir():
        samples = _with_masks(samples, test, truth)
        used = {sample.mask_path for sample in samples}
        leftovers += [file for file in walk(truth) if file not in used]
    return samples, _unused(category, leftovers, "testing")


def _checked(inside: Contents, folder: Path, good: bool) -> Contents:
    """What lies in a folder of good parts, or of a defect. Raises SIVTError where a name in it says otherwise."""
    wrong = {"masks": "masks", "defects": "defects"} if good else {"masks": "masks", "good": "good parts"}
    for place in sorted({photo.parent for photo in inside.photos}):
        for name in place.relative_to(folder.parent).parts:
            if (kind := meaning(name).kind) in wrong:
                counted_as = "good parts" if good else f"the defect {folder.name}"
                raise SIVTError(
                    f"The photos in {place} would count as {counted_as}, but {name} is a name for {wrong[kind]}: move "
                    "them elsewhere (masks: to ground_truth/DEFECT beside train and test), or rename the folder."
                )
    return inside


def _refuse_masks(photos: Sequence[Path]) -> None:
    """Raises SIVTError where one is the mask of another."""
    pair = mask_among(photos)
    if pair is not None:
        mask, photo = pair
        raise SIVTError(
            f"{mask} lies among the photos, and by its name it is a mask of {photo.name}, or that photo once more: "
            "move masks elsewhere (for a test: to PRODUCT/ground_truth/DEFECT), and leave one file of each photo. "
            "If it shows something else, rename it."
        )


def _refuse_defects(photos: Sequence[Path]) -> None:
    """Raises SIVTError where by their names some of those that would count as good parts show defects."""
    pair = defect_among(photos)
    if pair is not None:
        defect, good = pair
        raise SIVTError(
            f"The photos in {defect.parent} would count as good parts, but the names of {defect.name} and {good.name} "
            "tell two kinds: move those of defects elsewhere (for a test: to PRODUCT/test/DEFECT), or, if all show "
            "good parts, rename them."
        )


def _with_masks(samples: list[Sample], test: Path, truth: Path) -> list[Sample]:
    """The samples with their mask files: every anomalous one has its own, or the category has none at all."""
    folders = {folder.relative_to(truth) for folder in sub_folders(truth)}
    folders |= {sample.path.parent.relative_to(test) for sample in samples}  # those of sub-folders
    masks = {
        (folder, mask.stem): mask
        for folder in folders
        if (truth / folder).is_dir()
        for mask in images_in(truth / folder)
    }
    return [_with_mask(sample, test, truth, masks) if sample.anomalous and masks else sample for sample in samples]


def _with_mask(sample: Sample, test: Path, truth: Path, masks: dict[tuple[Path, str], Path]) -> Sample:
    folder = sample.path.parent.relative_to(test)
    for stem in (f"{sample.path.stem}_mask", sample.path.stem):
        if (folder, stem) in masks:
            return replace(sample, mask_path=masks[folder, stem])
    raise SIVTError(
        f"{sample.path} has no mask: {truth / folder / sample.path.stem}_mask.png (or another image suffix) "
        f"does not exist, though category {sample.category!r} has masks. Add it, or remove the image."
    )


def _unused(category: Category, paths: Iterable[Path], purpose: str) -> list[str]:
    names = counted(category.folder, [path for path in paths if not is_note(path)])
    return [f"In {category.folder}, not used for {purpose}: {names}."] if names else []
