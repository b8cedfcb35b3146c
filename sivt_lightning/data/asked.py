"""What a prediction is asked of: a folder, an image, or several of these."""

from collections.abc import Collection, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from sivt_lightning.data.folders import (
    ACCEPTED,
    RESULT_FOLDERS,
    RESULTS,
    contents,
    is_image,
    is_note,
    is_roi,
    one_look,
    refuse_parts,
)
from sivt_lightning.data.layouts.listed import PhotoList
from sivt_lightning.data.lists import is_list
from sivt_lightning.data.samples import Sample
from sivt_lightning.data.urls import common_folder
from sivt_lightning.errors import SIVTError, listing


class Asked(NamedTuple):
    """The photos to look at."""

    samples: list[Sample]  # in the order of their paths; the category is the folder as seen from `base`, "" at the top
    base: Path  # the folder that all lie in or below
    name: str  # of the folder or image, for a folder of results
    left_out: list[str]  # a sentence for each kind of file that is no photo


@one_look()
def predict_samples(paths: Sequence[Path]) -> Asked:
    """An image, or all images of a folder and its sub-folders; of several of these each image once; or of a list.

    Pictures that an earlier prediction has left there are no photos.

    Raises SIVTError if one of `paths` is not there, or there is no image.
    """
    if len(paths) == 1 and is_list(paths[0]):
        return _of_list(paths[0])
    for path in paths:
        if path.is_dir():
            refuse_parts(path, f"Set data.predict_path to {path / 'photos'}.")
        elif not (path.is_file() or path.is_symlink()):
            raise SIVTError(f"{path} does not exist. Set data.predict_path to a folder of images or to one image.")
    if len(paths) > 1:
        paths = sorted({_absolute(path) for path in paths})
    first = paths[0]
    if len(paths) == 1 and not (first.is_dir() or is_image(first)):
        raise SIVTError(f"{first} is no image. Accepted are folders and files in {ACCEPTED}.")
    base = first if len(paths) == 1 else common_folder(*paths)
    base = base if base.is_dir() else base.parent
    photos, others, results = _files(paths)
    rois = [] if photos == [first] else [photo for photo in photos if is_roi(photo)]  # asked for alone, it is meant
    photos = [photo for photo in photos if photo not in rois]
    if not photos:
        raise SIVTError(f"No image in {listing(map(str, paths))} or its sub-folders. Accepted are files in {ACCEPTED}.")
    left_out = []
    if results:
        left_out.append(f"{results} pictures in {base} are results of earlier predictions, so they are left out.")
    if rois:
        names = listing(roi.relative_to(base).as_posix() for roi in rois)
        left_out.append(f"Regions of interest are no photos, so left out of {base}: {names}.")
    if others:
        names = listing(file.relative_to(base).as_posix() for file in others)
        left_out.append(f"Not images, so left out of {base}: {names}.")
    folders = [photo.relative_to(base).parent.as_posix() for photo in photos]
    samples = [Sample(photo, "" if folder == "." else folder) for photo, folder in zip(photos, folders, strict=True)]
    alone = len(paths) == 1 and not first.is_dir()
    # resolved, for "." has no name
    return Asked(samples, base, first.stem if alone else base.resolve().name or "photos", left_out)


def _of_list(file: Path) -> Asked:
    """Those of a list that are to be predicted: of the split predict, or all where it names no splits."""
    samples, left_out = PhotoList(file.absolute(), None).unlabelled()
    if not samples:
        raise SIVTError(f"{file} has no photos to predict. Give some the split predict, or leave that column out.")
    base = common_folder(*(sample.path.parent for sample in samples))
    samples = sorted(samples, key=lambda sample: sample.path.as_posix())
    return Asked(samples, base, file.stem, left_out)


def named_on_the_way(base_name: str, path: PurePath, names: Collection[str]) -> str | None:
    """The first of these names that a folder has on the way to a photo; `path` is seen from a folder of `base_name`.

    >>> named_on_the_way("photos", PurePath("bolt/good/1.png"), {"good", "bolt"})
    'bolt'
    """
    return next((folder for folder in (base_name, *path.parts[:-1]) if folder in names), None)


def _absolute(path: Path) -> Path:
    """So that two ways to name a file compare. A link keeps its own name."""
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def _files(paths: Sequence[Path]) -> tuple[list[Path], list[Path], int]:
    """(photos, other files that are no notes, number of pictures that predictions have left), each file once."""
    photos, others, results = set[Path](), set[Path](), 0
    for path in paths:
        if path.is_dir():
            inside = contents(path)
            # As a shell's * names them; asked for alone, they are meant.
            left = len(paths) > 1 and path.name in RESULT_FOLDERS and (path.parent / RESULTS).is_file()
            results += inside.results + (len(inside.photos) if left else 0)
            photos.update(() if left else inside.photos)
            others.update(inside.others)
        elif is_image(path):
            photos.add(path)
        elif not is_note(path):
            others.add(path)
    return sorted(photos, key=Path.as_posix), sorted(others, key=Path.as_posix), results
