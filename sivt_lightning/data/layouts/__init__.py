"""From folders to samples: which photos there are, which category they belong to, which mask goes with which.

A root holds categories side by side, each in a layout of its own, or is itself one category; or it is a list. A layout
is a class of one of these files; `categories` tries them in order. Everything behind this room goes on from samples.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from sivt_lightning.data.folders import is_roi, one_look, there
from sivt_lightning.data.layouts.categories import LAYOUTS, find_categories
from sivt_lightning.data.layouts.layout import Category
from sivt_lightning.data.layouts.listed import PhotoList
from sivt_lightning.data.layouts.published import other_counts
from sivt_lightning.data.lists import is_list
from sivt_lightning.data.roi import find_roi
from sivt_lightning.data.samples import MIN_TRAIN_IMAGES, Sample, Selection
from sivt_lightning.errors import SIVTError, listing

LayoutName = Literal[
    "mvtec",
    "mvtec-loco",
    "mvtec-3d",
    "mvtec-ad-2",
    "visa",
    "btad",
    "real-iad",
    "kolektor",
    "kolektor-2",
    "dagm",
    "photos",
    "good",
    "good-bad",
    "lots",
]


@one_look()
def train_samples(root: Path, categories: Sequence[str] | None, layout: str | None = None) -> Selection:
    """The normal training images of the chosen categories (None: all), sorted by category and name.

    Those that a data set has for validation are among them. Never looks into a test folder. Raises SIVTError if `root`
    or a category is not to be found, holds too little, or may hold defects or masks.
    """
    if is_list(root):
        return _listed(root, categories, layout).train()
    chosen, left_out = find_categories(root, categories, layout)
    samples: list[Sample] = []
    for category in chosen:
        own = _with_roi(category, category.layout.train(category))
        if len(own.samples) < MIN_TRAIN_IMAGES or {sample.split for sample in own.samples} == {"validation"}:
            count = sum(sample.split == "train" for sample in own.samples)
            raise SIVTError(
                f"Category {category.name!r} has {count} training image(s) in {category.layout.place(category)}, but "
                f"at least {MIN_TRAIN_IMAGES} are needed, since one is held out. {there(category.folder)} "
                "Add images, or choose other categories."
            )
        samples += own.samples
        left_out += own.left_out
    return Selection(samples, left_out + other_counts(chosen, samples, "train"))


@one_look()
def test_samples(  # a test only by its name
    root: Path,
    categories: Sequence[str] | None,
    layout: str | None = None,  # noqa: PT028
) -> Selection:
    """The labelled test images of the chosen categories (None: all), with their masks where there are masks.

    Raises SIVTError if `root` or a category is not to be found, there is nothing to test, or a mask is missing.
    """
    if is_list(root):
        return _listed(root, categories, layout).test()
    chosen, left_out = find_categories(root, categories, layout)
    samples: dict[str, list[Sample]] = {}
    for category in chosen:
        samples[category.name], unused = _with_roi(category, category.layout.test(category))
        left_out += unused
    untested = [name for name, of in samples.items() if not of]
    if len(untested) == len(chosen):
        raise SIVTError(
            f"No test images in {root}: looked for test/good and test/DEFECT in {listing(untested)}. {there(root)} "
            "Add them, or use `sivt predict` for photos without labels."
        )
    if untested:
        left_out.append(f"Left out of the test, having no test images: {listing(untested)}.")
    every = [sample for of in samples.values() for sample in of]
    return Selection(every, left_out + other_counts(chosen, every, "test"))


@one_look()
def all_samples(root: Path, layout: str | None) -> Selection:
    """All photos of all categories, whatever they are for.

    Raises SIVTError as the others, but for a category that has too few for a training or none for a test.
    """
    if is_list(root):
        return _listed(root, None, layout).every()
    chosen, left_out = find_categories(root, None, layout)
    samples: list[Sample] = []
    for category in chosen:
        for part in (category.layout.train, category.layout.test, category.layout.unlabelled):
            own = _with_roi(category, part(category))
            samples += own.samples
            left_out += [sentence for sentence in own.left_out if sentence not in left_out]
    return Selection(samples, left_out)


def _with_roi(category: Category, own: Selection) -> Selection:
    """With the region of interest in the product's folder. Raises SIVTError where one lies among the photos."""
    roi = find_roi(category.folder)
    if strange := next((sample.path for sample in own.samples if is_roi(sample.path)), None):
        raise SIVTError(
            f"{strange} lies among the photos, but is named like a region of interest, which lies in the product's "
            f"folder: move it to {category.folder}, or, if it is a photo, rename it."
        )
    return own._replace(samples=[replace(sample, roi_path=roi) for sample in own.samples]) if roi else own


def check_layout(name: str | None) -> str | None:
    """Raises SIVTError where there is no layout of this name."""
    if name is not None and name not in LAYOUTS:
        raise SIVTError(f"layout {name}: there is none of this name, but {', '.join(LAYOUTS)}.")
    return name


def _listed(file: Path, categories: Sequence[str] | None, layout: str | None) -> PhotoList:
    if layout is not None:
        raise SIVTError(f"data.layout is {layout}, but {file} is a list, which needs none. Leave the option out.")
    return PhotoList(file, categories)
