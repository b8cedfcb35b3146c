"""What lies in a folder: photos, notes beside them, and what an earlier prediction has left there."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sivt_lightning.data.remote import RemotePath, Unreachable
from sivt_lightning.errors import MOST_SHOWN, SIVTError, listing

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")  # compared in lower case
ACCEPTED = ", ".join(IMAGE_SUFFIXES)
NOTE_SUFFIXES = ("", ".txt", ".md", ".pdf", ".html", ".csv", ".json", ".xml", ".yaml", ".yml", ".ini", ".db")
RESULTS = "predictions.json"  # in a folder that `sivt predict` has written into
RESULT_FOLDERS = ("masks", "overlays", "maps", "report")  # of it
PARTS = "parts.sqlite"  # in a folder that a server keeps: of parts that it judged, good or not, and their maps
PARTS_FOLDERS = ("maps", "thumbnails")  # of it, beside the photos
ROI = "roi"  # name, without suffix, of the file that says which part of a product's photos is inspected, see `roi`
MOST_LOOKED_AT = 20_000  # files, for a sentence about a folder that may be a whole disk

Listed = dict[Path, bool]  # what lies in a folder, in the order of names: whether it is a folder itself
_looked_at: ContextVar[dict[Path, Listed] | None] = ContextVar("looked_at", default=None)


class Contents(NamedTuple):
    """The files of a folder and its sub-folders."""

    photos: list[Path]  # in the order of their paths
    results: int  # pictures that earlier predictions or a server have left, which are no photos
    others: list[Path]  # neither photos nor notes


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """Within it a folder is listed once, however often it is asked for: it may hold a hundred thousand photos."""
    outer = _looked_at.get()
    token = _looked_at.set({} if outer is None else outer)
    try:
        yield
    finally:
        _looked_at.reset(token)


def contents(folder: Path) -> Contents:
    """What lies in a folder and below it."""
    files = sorted(walk(folder), key=Path.as_posix)
    left = {RESULTS: RESULT_FOLDERS, PARTS: PARTS_FOLDERS}
    written = {file.parent / name for file in files for name in left.get(file.name, ())}
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    photos = [file for file in images if written.isdisjoint(file.parents)] if written else images
    others = [file for file in files if file.suffix.lower() not in (*IMAGE_SUFFIXES, *NOTE_SUFFIXES)]
    return Contents(photos, len(images) - len(photos), others)


def refuse_parts(folder: Path, remedy: str) -> None:
    """Raises SIVTError for a folder in which a server keeps parts: whoever takes its pictures for photos is wrong."""
    if folder / PARTS in _listed(folder):
        raise SIVTError(f"{folder} is what `sivt serve` keeps of the parts that it judged, maps among them. {remedy}")


def sub_folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name, without those that a prediction has written into it."""
    written = RESULT_FOLDERS if (folder / RESULTS).is_file() else ()
    return [entry for entry, is_folder in _listed(folder).items() if is_folder and entry.name not in written]


def child(folder: Path, name: str) -> Path:
    """The sub-folder of this name, written in whatever case; the path where it is missing."""
    if (folder / name).is_dir():
        return folder / name
    return next((inner for inner in sub_folders(folder) if inner.name.casefold() == name), folder / name)


def below(folder: Path, *names: str) -> Path:
    """The folder that these names lead to, as `child` takes them; the path where it is missing."""
    for name in names:
        folder = child(folder, name) if folder.is_dir() else folder / name
    return folder


def images_in(folder: Path) -> list[Path]:
    """The images that lie in a folder itself, by name, without a region of interest."""
    files = [entry for entry, is_folder in _listed(folder).items() if not is_folder]
    return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and not is_roi(file)]


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without hidden entries and those that macOS leaves in archives."""
    return list(_listed(folder))


def _listed(folder: Path) -> Listed:
    """As it is now, or was earlier within `one_look`."""
    known = _looked_at.get()
    if known is None:
        return _scanned(folder)
    if folder not in known:
        known[folder] = _scanned(folder)
    return known[folder]


def _scanned(folder: Path) -> Listed:
    """Needs no look at each of thousands of files."""
    try:
        if isinstance(folder, RemotePath):
            inside: Listed = {entry: known["type"] == "directory" for entry, known in folder.listed().items()}
        else:
            with os.scandir(folder) as scan:
                inside = {folder / entry.name: _is_folder(entry) for entry in scan}
    except OSError as error:
        raise SIVTError(f"The folder {folder} cannot be read: {error.strerror}. Check its permissions.") from error
    return {
        entry: inside[entry] for entry in sorted(inside, key=lambda entry: entry.name) if not _is_hidden(entry.name)
    }


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def walk(folder: Path) -> Iterator[Path]:
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
        for entry, is_folder in _listed(here).items():
            if not is_folder:
                yield entry
            elif entry.is_symlink():
                links.append(entry)
            else:
                folders.append(entry)


def is_image(path: Path) -> bool:
    """By its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not _is_dir(path)


def exists(path: Path) -> bool:
    """Of a remote path by its folder: to ask for thousands one by one takes a connection each."""
    if not isinstance(path, RemotePath):
        return path.exists()
    return path in _beside(path)


def _is_dir(path: Path) -> bool:
    return _beside(path).get(path, False) if isinstance(path, RemotePath) else path.is_dir()


def _beside(path: RemotePath) -> Listed:
    if len(path.parts) <= 3:  # a bucket, whose neighbours are nobody's affair, or the top of an archive
        return {path: path.is_dir()} if path.exists() else {}
    try:
        return _listed(path.parent)
    except Unreachable:
        raise
    except SIVTError:  # there is no such folder
        return {}


def is_note(path: Path) -> bool:
    """Whether a file need not be spoken of."""
    return (path.suffix.lower() in NOTE_SUFFIXES or is_roi(path)) and not _is_dir(path)


def is_roi(path: Path) -> bool:
    """Whether by its name a file is a region of interest.

    >>> is_roi(Path("bolt/roi.png")), is_roi(Path("roi.json")), is_roi(Path("roi_1.png"))
    (True, True, False)
    """
    return path.stem.casefold() == ROI and path.suffix.lower() in (*IMAGE_SUFFIXES, ".json")


def there(folder: Path) -> str:
    """A sentence that says in which folders images lie, or what else there is."""
    if counts := _counts(folder):
        named = (
            f"{inner.relative_to(folder.parent).as_posix()} has {images(n)}" for inner, n in sorted(counts.items())
        )
        return f"{listing(named)}."
    return f"In {folder.name} there is {listing(entry.name for entry in entries(folder)) or 'nothing'}."


def counted(root: Path, paths: Sequence[Path]) -> str:
    """The first few paths as seen from `root`, those of folders with the number of images in them."""
    shown = []
    for path in paths[: MOST_SHOWN + 1]:
        count = _counts(path).total() if path.is_dir() else 0
        shown.append(f"{path.relative_to(root).as_posix()}{f' ({images(count)})' if count else ''}")
    return listing([*shown, *map(str, paths[MOST_SHOWN + 1 :])])


def _counts(folder: Path) -> Counter[Path]:
    """How many images lie in each folder below."""
    counts: Counter[Path] = Counter()
    with contextlib.suppress(SIVTError):  # a folder that may not be read: the sentence is about something else
        counts.update(file.parent for file in islice(walk(folder), MOST_LOOKED_AT) if is_image(file))
    return counts


def images(count: int) -> str:
    """
    >>> images(1), images(40)
    ('1 image', '40 images')
    """
    return f"{count} image{'' if count == 1 else 's'}"
