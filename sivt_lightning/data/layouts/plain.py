"""Layouts of people's own folders: photos of good parts, by themselves, in lots, or beside those of defects.

CATEGORY/*.png                        all good
CATEGORY/good                         all good, in sub-folders, too
CATEGORY/good, CATEGORY/DEFECT, CATEGORY/masks/DEFECT
CATEGORY/lot1/*.png                   all good, from several lots, days or cameras
"""

import re
from pathlib import Path

from sivt_lightning.data.folders import contents, entries, images, images_in, is_roi, sub_folders
from sivt_lightning.data.layouts.doubts import checked, refuse_defects, refuse_masks
from sivt_lightning.data.layouts.layout import Category, Inside, Layout, parted, samples_of, unused
from sivt_lightning.data.layouts.mvtec import with_masks
from sivt_lightning.data.names import is_good, is_only
from sivt_lightning.data.samples import Sample, Selection

# What the folders of one product's photos may be called after: such a word with numbers, or a date.
LOT = (
    "lots?|batch(?:es)?|charges?|los|series?|shifts?|schicht(?:en)?|days?|tage?|weeks?|kw|wochen?"
    "|cams?|cameras?|kameras?|views?"
)
NUMBER = r"[\W_]*(?:\d+|[a-d])?"
LOTS = re.compile(rf"(?:(?:{LOT}){NUMBER}[\W_]*)+|\d{{4}}[-_. ]?\d\d[-_. ]?\d\d", re.IGNORECASE)


class Photos(Layout):
    """Good parts, whose folder is called after their product."""

    name = "photos"
    title = "photos"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """There are photos in it."""
        return bool(images_in(folder))

    def train(self, category: Category) -> Selection:
        """All of them."""
        photos = images_in(category.folder)
        refuse_masks(photos)
        refuse_defects(photos)
        known = set(photos)
        leftovers = [entry for entry in entries(category.folder) if entry not in known]
        return Selection(samples_of(category, photos, "train"), unused(category, leftovers, "training"))


class Good(Layout):
    """Good parts in a folder that is called so."""

    name = "good"
    title = "good only"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """There are photos in such a folder."""
        return any(contents(inner).photos for inner in inside.values() if is_good(inner.name))

    def train(self, category: Category) -> Selection:
        """All of them."""
        photos, leftovers = _good_photos(category)
        return Selection(samples_of(category, photos, "train"), unused(category, leftovers, "training"))


class GoodBad(Layout):
    """Good parts beside defects, without a split: some of the good ones are for the test."""

    name = "good-bad"
    title = "good and bad"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """Each folder of photos is of good parts, of defects or of masks, of this product, and says no more."""
        if not all(any(is_only(inner.name, kind) for inner in inside.values()) for kind in ("good", "defects")):
            return False  # before all is searched
        with_photos = [inner for inner in inside.values() if contents(inner).photos]
        good, bad, masks = (
            [of for of in with_photos if is_only(of.name, kind)] for kind in ("good", "defects", "masks")
        )
        one_each = bool(good and bad) and len(masks) <= 1
        return one_each and len(good) + len(bad) + len(masks) == len(with_photos) and not images_in(folder)

    def train(self, category: Category) -> Selection:
        """The good ones that are not for the test."""
        photos, leftovers = _good_photos(category)
        train, kept = parted(photos)
        known = [inner for inner in sub_folders(category.folder) if is_only(inner.name, "defects", "masks")]
        said = (
            f"{category.name} names no split: {images(len(kept))} of good parts, every fifth, and all of defects are "
        )
        leftovers = [entry for entry in leftovers if entry not in known]
        left_out = [f"{said}for the test.", *unused(category, leftovers, "training")]
        return Selection(samples_of(category, train, "train"), left_out)

    def test(self, category: Category) -> Selection:
        """The other good ones, and those of defects."""
        _, kept = parted(_good_photos(category)[0])
        samples = samples_of(category, kept, "test")
        truth = [inner for inner in sub_folders(category.folder) if is_only(inner.name, "masks")]
        for bad in sub_folders(category.folder):
            if is_only(bad.name, "defects"):
                samples += self._defects(category, bad, truth[0] if truth else None)
        return Selection(samples, [])

    def _defects(self, category: Category, bad: Path, truth: Path | None) -> list[Sample]:
        photos = checked(contents(bad), bad, good=False).photos
        refuse_masks(photos)
        samples: list[Sample] = []
        has_kinds = not images_in(bad)  # each in a folder of its own
        for photo in photos:
            kind = photo.relative_to(bad).parts[0] if has_kinds else bad.name
            samples += samples_of(category, [photo], "test", anomalous=True, defect=kind)
        if truth is None:
            return samples
        own = truth / bad.name
        return with_masks(samples, bad, own if own.is_dir() else truth)


class Lots(Layout):
    """Good parts in folders that are called after lots, days or cameras."""

    name = "lots"
    title = "lots"

    def holds(self, folder: Path, inside: Inside) -> bool:
        """There are photos in folders in it."""
        return any(images_in(inner) for inner in inside.values())

    def is_plain(self, folder: Path, inside: Inside) -> bool:
        """By their names these are no products."""
        named = [inner for inner in inside.values() if LOTS.fullmatch(inner.name)]
        others = [inner for inner in inside.values() if inner not in named]
        one = any(map(images_in, named))
        return one and not images_in(folder) and not any(map(images_in, others))

    def train(self, category: Category) -> Selection:
        """All in the folder and its sub-folders."""
        inside = checked(contents(category.folder), category.folder, good=True)
        photos = [photo for photo in inside.photos if photo.parent != category.folder or not is_roi(photo)]
        refuse_masks(photos)
        refuse_defects(photos)
        return Selection(samples_of(category, photos, "train"), unused(category, inside.others, "training"))


def _good_photos(category: Category) -> tuple[list[Path], list[Path]]:
    """(photos, what else lies in their folders and beside them)."""
    folders = [inner for inner in sub_folders(category.folder) if is_good(inner.name)]
    inside = [checked(contents(folder), folder, good=True) for folder in folders]
    leftovers = [other for of in inside for other in of.others]
    leftovers += [entry for entry in entries(category.folder) if entry not in folders]
    photos = [photo for of in inside for photo in of.photos]
    refuse_masks(photos)
    refuse_defects(photos)
    return photos, leftovers
