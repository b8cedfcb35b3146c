"""A look at the headers of photos, before any is decoded: for whoever starts a training or a test."""

import contextlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from sivt_lightning.data.depth import Depth, Seen, decide, white_of
from sivt_lightning.data.images import deep_values
from sivt_lightning.data.opening import Opened, decode
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.processes import divide

THREADS = 8  # most of the time is spent waiting, above all for disks of other machines
ORIENTATION, TURNED = 0x0112, range(5, 9)  # EXIF: the values with which width and height change places


class Header(NamedTuple):
    """What a photo's file says of it."""

    width: int  # of the upright photo
    height: int
    has_more_pages: bool = False


def read_headers(paths: Sequence[Path]) -> list[Header | None]:
    """Those of all photos; None for one that cannot be opened, which is told by whoever decodes it."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(_read, paths))


def deep_values_of(paths: Sequence[Path]) -> list[Seen | None]:
    """What photos of more than 8 bits hold; None for others, and for one that cannot be opened."""

    def values_of(path: Path) -> Seen | None:
        with contextlib.suppress(SIVTError):
            return deep_values(path)
        return None

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(values_of, paths))


def decide_depth(samples: Sequence[Sample]) -> tuple[Depth, list[str]]:
    """That of all training images, held out or not, and what to say of it. All processes call it together."""
    return depth_of(samples, divide(deep_values_of, [sample.path for sample in samples]))


def depth_of(samples: Sequence[Sample], deep: Sequence[Seen | None]) -> tuple[Depth, list[str]]:
    """By what `deep_values_of` says of the images."""
    seen = [values for values in deep if values is not None]
    depth, remarks = decide(seen), list[str]()
    if seen:
        remarks.append(
            f"{len(seen)} of {len(samples)} photos have more than 8 bits: depth {depth}, so white is "
            f"{white_of(depth):g} (the highest value in them is {max(values.highest for values in seen):g}). "
            "Another one is given with --data.depth."
        )
    for name in sorted({sample.category for sample in samples}):
        of = [values for values, sample in zip(deep, samples, strict=True) if values and sample.category == name]
        if of and (own := decide(of)) != depth:
            remarks.append(
                f"The photos of {name} alone would be of depth {own} (their highest value is "
                f"{max(values.highest for values in of):g}): if their camera has fewer bits than the others', "
                "they are taken for darker than they are. Then convert them, or train them apart."
            )
    return depth, remarks


def sizes(headers: Iterable[Header | None]) -> str:
    """
    >>> sizes([Header(700, 700), None, Header(700, 700)]), sizes([Header(500, 1280), Header(500, 1240)]), sizes([None])
    ('700 x 700', '500 x 1240 to 500 x 1280', '-')
    """
    known = {(header.width, header.height) for header in headers if header is not None}
    if not known:
        return "-"
    ends = [min(known, key=_area), max(known, key=_area)]
    return " to ".join(f"{width} x {height}" for width, height in dict.fromkeys(ends))


def _area(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * size[1], size[0]


def _read(path: Path) -> Header | None:
    with contextlib.suppress(SIVTError):
        return decode(path, _header)
    return None


def _header(opened: Opened) -> Header:
    """Of an opened image, none of whose pixels is decoded."""
    image, turned = opened.image, False  # as is that of a TIFF, which Pillow opens as upright
    with contextlib.suppress(Exception):  # a damaged EXIF block tells no orientation
        # By the base class: that of PNG would decode the pixels for what may stand behind them.
        turned = image.format != "TIFF" and Image.Image.getexif(image).get(ORIENTATION) in TURNED
    return Header(*(image.size[::-1] if turned else image.size), opened.has_more_pages)
