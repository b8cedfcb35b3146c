"""A list of photos in the place of folders: see `lists` for how it is written."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_args

from sivt_lightning.data.folders import images, images_in, is_image
from sivt_lightning.data.lists import Row, Table, anomalous_of, once, read_table
from sivt_lightning.data.samples import MIN_TRAIN_IMAGES, Sample, Selection, Split
from sivt_lightning.errors import SIVTError, listing
from sivt_lightning.files import unguarded

TITLE = "list"
EXAMPLE = (
    "its first line has to name its columns, such as path,category,split,label,defect,mask, with a comma, a semicolon "
    "or a tab between them."
)
CALLED: dict[str, Split] = {name: name for name in get_args(Split)}
CALLED |= {"training": "train", "val": "validation", "valid": "validation", "testing": "test", "unlabelled": "predict"}


class Photo(NamedTuple):
    """A row that has been understood."""

    row: Row
    sample: Sample
    is_known: bool  # whether it is good or anomalous


class PhotoList:
    """All photos of a list, each of which is there. Raises SIVTError, with the line, where one is at fault."""

    def __init__(self, file: Path, categories: Sequence[str] | None) -> None:
        self.file, self.table = file, read_table(file, EXAMPLE)
        photos = photos_of(self.table, self.table.rows)
        present = sorted({photo.sample.category for photo in photos})
        if lost := sorted(set(categories or ()) - set(present)):
            raise SIVTError(
                f"{file} has no category {listing(lost)}. Set data.categories to some of {listing(present)}."
            )
        self.photos = [photo for photo in photos if categories is None or photo.sample.category in categories]
        unused = listing(self.table.others)
        self.left_out = [f"In {file}, columns that mean nothing here: {unused}."] if unused else []

    def train(self) -> Selection:
        """Good photos to learn from and to hold out, by category. Raises SIVTError where a category has too few."""
        if not {"split", "label", "defect"} & set(self.table.columns):
            raise SIVTError(
                f"{self.file} does not say which photos are good: add a column label (good, defect) or split (train, "
                "test)."
            )
        meant = [photo for photo in self.photos if photo.sample.split in ("train", "validation")]
        good = [photo.sample for photo in meant if photo.is_known and not photo.sample.anomalous]
        left_out = [*self.left_out]
        if unlike := [photo.sample for photo in meant if photo.sample.anomalous]:
            left_out.append(
                f"{images(len(unlike))} for training in {self.file} left out, being of defects: {_counted(unlike)}."
            )
        if unknown := [photo.sample for photo in meant if not photo.is_known]:
            left_out.append(f"{images(len(unknown))} for training in {self.file} left out, having no label.")
        counts = Counter((sample.category, sample.split) for sample in good)
        for photo in self.photos:
            name = photo.sample.category
            learned, held_out = counts[name, "train"], counts[name, "validation"]
            if photo.sample.split == "predict" or (learned and learned + held_out >= MIN_TRAIN_IMAGES):
                continue
            only = "" if any(sample.category == name for sample in good) else ", only others"
            raise self.table.fault(
                photo.row,
                f"category {name!r} has {images(learned)} of good parts for training{only}, but at least "
                f"{MIN_TRAIN_IMAGES} are needed, since one is held out. Add some, or leave it out of data.categories.",
            )
        if not good:
            raise SIVTError(f"{self.file} has no photos of good parts for training. Give some the split train.")
        return Selection(sorted(good, key=lambda sample: sample.category), left_out)

    def test(self) -> Selection:
        """Labelled photos. Raises SIVTError where there are none, or one has no label."""
        meant = [photo for photo in self.photos if photo.sample.split == "test"]
        if not meant:
            raise SIVTError(
                f"{self.file} has no photos for the test. Give some the split test, or use `sivt predict` for photos "
                "without labels."
            )
        if unknown := next((photo for photo in meant if not photo.is_known), None):
            raise self.table.fault(
                unknown.row, "its photo is for the test, but has no label: give good or defect, or the split predict."
            )
        left_out = [*self.left_out]
        tested = {photo.sample.category for photo in meant}
        if untested := sorted({photo.sample.category for photo in self.photos} - tested):
            left_out.append(f"Left out of the test, having no test images: {listing(untested)}.")
        return Selection([photo.sample for photo in meant], left_out)

    def unlabelled(self) -> Selection:
        """Those to predict."""
        every = "split" not in self.table.columns
        samples = [photo.sample for photo in self.photos if every or photo.sample.split == "predict"]
        return Selection(samples, self.left_out)

    def every(self) -> Selection:
        """All photos; of one without a label nothing is known, whatever it is for."""
        known = [photo.sample if photo.is_known else replace(photo.sample, split="predict") for photo in self.photos]
        return Selection(sorted(known, key=lambda sample: sample.category), self.left_out)


def photos_of(table: Table, rows: Sequence[Row]) -> list[Photo]:
    """Photos of some rows of a list. Raises SIVTError, with the line, where one is at fault."""
    photos = [_photo(table, row) for row in rows]
    once(table, ((photo.row, photo.sample.path) for photo in photos))
    _refuse_missing_masks(table, photos)
    return _with_rois(table, photos)


def _photo(table: Table, row: Row) -> Photo:
    path = table.place(row, row.path)
    if not is_image(path):
        raise table.fault(row, f"{path} is no image. Correct its path, or take the line out.")
    split = CALLED.get(row.split.casefold() or "train")
    if split is None:
        raise table.fault(row, f"its split is {row.split!r}; give {', '.join(get_args(Split))}.")
    name = unguarded(row.category) if "category" in table.columns else table.file.stem
    if not name:
        raise table.fault(row, "its category is not said. Fill it in.")
    anomalous = anomalous_of(table, row)
    if split == "predict":
        return Photo(row, Sample(path, name, split=split, layout=TITLE), False)
    mask = table.place(row, row.mask) if row.mask else None
    if mask is not None and mask.is_dir() and not images_in(mask):
        raise table.fault(row, f"its mask {mask} is a folder without masks.")
    if mask is not None and anomalous is False:
        raise table.fault(row, "it has a mask, but its photo is good. Take the mask out, or correct the label.")
    if anomalous is None and mask is not None:
        anomalous = True
    if anomalous is None and split != "test" and not {"label", "defect"} & set(table.columns):
        anomalous = False  # a list of good parts
    defect = "good" if not anomalous else unguarded(row.defect) or "defect"
    sample = Sample(path, name, bool(anomalous), defect, mask, split, TITLE)
    return Photo(row, sample, anomalous is not None)


def _with_rois(table: Table, photos: Sequence[Photo]) -> list[Photo]:
    """Each with the region of interest that some photo of its product names. Raises SIVTError where two name two."""
    rois: dict[str, tuple[Path, int]] = {}
    for photo in photos:
        if not photo.row.roi:
            continue
        roi, name = table.place(photo.row, photo.row.roi), photo.sample.category
        first, line = rois.setdefault(name, (roi, photo.row.line))
        if not roi.samefile(first):
            raise table.fault(
                photo.row,
                f"its roi is {roi}, but that of line {line}, of the same product {name!r}, is {first}. Give all photos "
                "of a product the same.",
            )
    return [
        photo._replace(sample=replace(photo.sample, roi_path=rois[photo.sample.category][0]))
        if photo.sample.category in rois
        else photo
        for photo in photos
    ]


def _refuse_missing_masks(table: Table, photos: Sequence[Photo]) -> None:
    """Raises SIVTError where a photo for the test has no mask, though others of its category have one."""
    defects = [photo for photo in photos if photo.sample.anomalous and photo.sample.split == "test"]
    masked = {photo.sample.category for photo in defects if photo.sample.mask_path is not None}
    for photo in defects:
        if photo.sample.mask_path is None and photo.sample.category in masked:
            raise table.fault(
                photo.row,
                f"it has no mask, though others of category {photo.sample.category!r} have. Add it, or take the line "
                "out.",
            )


def _counted(samples: Sequence[Sample]) -> str:
    counts = Counter(f"{sample.category} ({sample.defect})" for sample in samples)
    return listing(f"{count} of {name}" for name, count in sorted(counts.items()))
