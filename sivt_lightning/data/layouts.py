"""From folders to samples: which photos there are, which category they belong to, which mask goes with which.

A root holds categories side by side, each in one of two layouts, or is itself one category:

    MVTec       CATEGORY/train/good, CATEGORY/test/good, CATEGORY/test/DEFECT, CATEGORY/ground_truth/DEFECT
    good-only   CATEGORY/*.png
"""

import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from sivt_lightning.errors import SIVTError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")  # compared in lower case
ACCEPTED = ", ".join(IMAGE_SUFFIXES)
NOTE_SUFFIXES = ("", ".txt", ".md", ".pdf", ".html", ".csv", ".json", ".xml", ".yaml", ".yml", ".ini", ".db")
RESULTS = "predictions.json"  # in a folder that `sivt predict` has written into
RESULT_FOLDERS = ("masks", "overlays", "maps", "report")  # of it
MIN_TRAIN_IMAGES = 2  # one to learn from, one to hold out


@dataclass(frozen=True)
class Sample:
    """One photo and what the folders say about it. The model never sees the category."""

    path: Path
    category: str
    anomalous: bool = False
    defect: str = "good"
    mask_path: Path | None = None


@dataclass(frozen=True)
class _Category:
    name: str
    folder: Path
    mvtec: bool


def train_samples(root: Path, categories: Sequence[str] | None) -> list[Sample]:
    """The normal training images of the chosen categories (None: all), sorted by category and name.

    Never looks into a test folder. Raises SIVTError if `root` or a category is not to be found, or holds too little.
    """
    samples = []
    for category in _find_categories(root, categories):
        folder = category.folder / "train" / "good" if category.mvtec else category.folder
        images = _images(folder) if folder.is_dir() else []
        if len(images) < MIN_TRAIN_IMAGES:
            raise SIVTError(
                f"Category {category.name!r} has {len(images)} training image(s) in {folder}, but at least "
                f"{MIN_TRAIN_IMAGES} are needed, since one is held out. Add images, or choose other categories."
            )
        samples += [Sample(image, category.name) for image in images]
        _warn_unused(category, _training_leftovers(category, folder), "training")
    return samples


def test_samples(root: Path, categories: Sequence[str] | None) -> list[Sample]:
    """The labelled test images of the chosen categories (None: all), with their masks where there are masks.

    Raises SIVTError if `root` or a category is not to be found, there is nothing to test, or a mask is missing.
    """
    chosen = _find_categories(root, categories)
    samples = {category.name: _category_test_samples(category) for category in chosen}
    untested = [name for name, found in samples.items() if not found]
    if len(untested) == len(chosen):
        raise SIVTError(
            f"No test images in {root}: looked for test/good and test/DEFECT in {_listing(untested)}. "
            "Add them, or use `sivt predict` for photos without labels."
        )
    if untested:
        warnings.warn(f"Left out of the test, having no test images: {_listing(untested)}.", stacklevel=2)
    return [sample for found in samples.values() for sample in found]


def predict_samples(path: Path) -> list[Sample]:
    """One image, or all images of a folder and its sub-folders; the category is the sub-folder ("" at the top).

    Pictures that an earlier prediction has left there are no photos.

    Raises SIVTError if `path` is not there, or is neither an image nor a folder with images.
    """
    if path.is_file():
        if not _is_image(path):
            raise SIVTError(f"{path} is no image. Accepted are folders and files in {ACCEPTED}.")
        return [Sample(path, "")]
    if not path.is_dir():
        raise SIVTError(f"{path} does not exist. Set data.predict_path to a folder of images or to one image.")
    files = sorted(_walk(path), key=lambda file: file.relative_to(path).as_posix())
    written = {file.parent / name for file in files if file.name == RESULTS for name in RESULT_FOLDERS}
    found = [file for file in files if _is_image(file)]
    images = [file for file in found if written.isdisjoint(file.parents)]
    if len(images) < len(found):
        warnings.warn(
            f"{len(found) - len(images)} pictures in {path} are results of earlier predictions, so they are left out.",
            stacklevel=2,
        )
    if not images:
        raise SIVTError(f"No image in {path} or its sub-folders. Accepted are files in {ACCEPTED}.")
    others = [str(file.relative_to(path)) for file in files if not _is_image(file) and not _is_note(file)]
    if others:
        warnings.warn(f"Not images, so left out of {path}: {_listing(others)}.", stacklevel=2)
    folders = [image.relative_to(path).parent.as_posix() for image in images]
    return [Sample(image, "" if folder == "." else folder) for image, folder in zip(images, folders, strict=True)]


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


def _find_categories(root: Path, names: Sequence[str] | None) -> list[_Category]:
    """The categories under `root`, or those of `names`, sorted by name."""
    if not root.exists():
        raise SIVTError(f"{root} does not exist. Set data.root to the folder that holds the categories.")
    if not root.is_dir():
        raise SIVTError(f"{root} is a file. Set data.root to the folder that holds the categories.")
    if _is_mvtec(root):
        found = [_Category(root.resolve().name, root, mvtec=True)]
    else:
        found = _categories_inside(root, warn=names is None)
    if names is None:
        return found
    present = {category.name: category for category in found}
    missing = sorted(set(names) - set(present))
    if missing or not names:
        fault = f"{root} has no category {_listing(missing)}." if missing else "data.categories is an empty list."
        raise SIVTError(f"{fault} Set data.categories to some of {_listing(present, limit=50)}, or to null for all.")
    return [category for name, category in present.items() if name in names]


def _categories_inside(root: Path, warn: bool) -> list[_Category]:
    folders = [entry for entry in _entries(root) if entry.is_dir()]
    if (root / RESULTS).is_file():
        folders = [folder for folder in folders if folder.name not in RESULT_FOLDERS]
    photos = _images(root)
    found = [_Category(folder.name, folder, mvtec=_is_mvtec(folder)) for folder in folders]
    found = [category for category in found if category.mvtec or _images(category.folder)]
    if photos and not found:
        return [_Category(root.resolve().name, root, mvtec=False)]
    if not found:
        there = _listing(entry.name for entry in _entries(root)) or "nothing"
        raise SIVTError(
            f"No category found in {root}: looked for CATEGORY/train/good and for images ({ACCEPTED}) "
            f"in it and its sub-folders; there is {there}. Set data.root to the folder that holds the categories."
        )
    if photos and not any(category.mvtec for category in found):
        raise SIVTError(
            f"{root} holds photos ({_listing(photo.name for photo in photos)}) beside folders of photos "
            f"({_listing(category.name for category in found)}), so what a category is stays unclear. "
            "Move the photos into a folder of their own."
        )
    known = {category.folder for category in found}
    strays = [entry.name for entry in (*photos, *folders) if entry not in known]
    if strays and warn:
        warnings.warn(f"Not part of any category, so not used in {root}: {_listing(strays)}.", stacklevel=2)
    return found


def _is_mvtec(folder: Path) -> bool:
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def _training_leftovers(category: _Category, folder: Path) -> list[Path]:
    leftovers = [entry for entry in _entries(folder) if not _is_image(entry)]
    if category.mvtec:
        leftovers += [entry for entry in _entries(folder.parent) if entry != folder]
        leftovers += _outside_layout(category)
    return leftovers


def _outside_layout(category: _Category) -> list[Path]:
    known = {category.folder / name for name in ("train", "test", "ground_truth")}
    return [entry for entry in _entries(category.folder) if entry not in known]


def _category_test_samples(category: _Category) -> list[Sample]:
    test = category.folder / "test"
    if not category.mvtec or not test.is_dir():
        return []
    samples, leftovers = [], _outside_layout(category)
    for entry in _entries(test):
        images = _images(entry) if entry.is_dir() else []
        samples += [Sample(image, category.name, entry.name != "good", entry.name) for image in images]
        leftovers += [inner for inner in _entries(entry) if inner not in images] if images else [entry]
    truth = category.folder / "ground_truth"
    if truth.is_dir():
        samples = _with_masks(samples, truth)
        used = {sample.mask_path for sample in samples}
        leftovers += [file for file in _walk(truth) if file not in used]
    _warn_unused(category, leftovers, "testing")
    return samples


def _with_masks(samples: list[Sample], truth: Path) -> list[Sample]:
    """The samples with their mask files: every anomalous one has its own, or the category has none at all."""
    folders = [entry for entry in _entries(truth) if entry.is_dir()]
    masks = {(folder.name, mask.stem): mask for folder in folders for mask in _images(folder)}
    return [_with_mask(sample, truth, masks) if sample.anomalous and masks else sample for sample in samples]


def _with_mask(sample: Sample, truth: Path, masks: dict[tuple[str, str], Path]) -> Sample:
    for stem in (f"{sample.path.stem}_mask", sample.path.stem):
        if (sample.defect, stem) in masks:
            return replace(sample, mask_path=masks[sample.defect, stem])
    raise SIVTError(
        f"{sample.path} has no mask: {truth / sample.defect / sample.path.stem}_mask.png (or another image suffix) "
        f"does not exist, though category {sample.category!r} has masks. Add it, or remove the image."
    )


def _warn_unused(category: _Category, paths: Iterable[Path], purpose: str) -> None:
    names = [str(path.relative_to(category.folder)) for path in paths if not _is_note(path)]
    if names:
        warnings.warn(f"In {category.folder}, not used for {purpose}: {_listing(names)}.", stacklevel=3)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without hidden entries and those that macOS leaves in archives."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    except OSError as error:
        raise SIVTError(f"The folder {folder} cannot be read: {error.strerror}. Check its permissions.") from error
    return sorted(entries, key=lambda entry: entry.name)


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, each once.

    Links to folders are followed, but not to where the search has been, nor to a folder above, which was not asked for.
    """
    seen = set(folder.resolve().parents)
    folders, links = [folder], list[Path]()
    while folders or links:
        here = folders.pop() if folders else links.pop(0)  # a photo is found where it lies rather than by a link
        if here.resolve() in seen:
            continue
        seen.add(here.resolve())
        for entry in _entries(here):
            if not entry.is_dir():
                yield entry
            elif entry.is_symlink():
                links.append(entry)
            else:
                folders.append(entry)


def _images(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if _is_image(entry)]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def _is_note(path: Path) -> bool:
    return path.suffix.lower() in NOTE_SUFFIXES and not path.is_dir()


def _listing(names: Iterable[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    shown = list(names)
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more
