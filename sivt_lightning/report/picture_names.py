"""File names for pictures of images that may be called anything."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

LONGEST_STEM = 200  # bytes: file systems allow 255, and a stem grows by a suffix


def picture_names(paths: Sequence[PurePosixPath]) -> list[str]:
    """For each image the name of its pictures, without suffix: its own path, where need be made unique.

    Images of one folder that share a stem keep their suffix as a part of the name. Names that differ only in case or
    in Unicode form count as the same, as they do on the file systems of Windows and macOS.

    >>> picture_names([PurePosixPath(path) for path in ("bolt/a.png", "bolt/A.jpg", "nut/a.png", "nut/b.v2.png")])
    ['bolt/a_png', 'bolt/A_jpg', 'nut/a', 'nut/b.v2']
    """
    inside = [_inside(path) for path in paths]
    sharing = Counter(_key(path.with_name(path.stem)) for path in inside)
    names: list[str] = []
    taken: set[str] = set()
    for path in inside:
        name = path.with_name(path.stem)
        if sharing[_key(name)] > 1:
            name = path.with_name(f"{path.stem}_{path.suffix[1:]}")
        unique, number = name, 2
        while _key(unique) in taken:  # "a_png.bmp" beside "a.png" and "a.jpg"
            unique, number = name.with_name(f"{name.name}_{number}"), number + 1
        taken.add(_key(unique))
        names.append(str(unique))
    return names


def _inside(path: PurePosixPath) -> PurePosixPath:
    """The path without anything that leads out of a folder, its last part no longer than a file system allows."""
    path = PurePosixPath(*[part for part in path.parts if part not in ("/", "//", "..")])
    stem = path.stem.encode("utf-8", "surrogateescape")[:LONGEST_STEM].decode("utf-8", "ignore")
    return path if len(stem) == len(path.stem) else path.with_name(stem + path.suffix)


def _key(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()
