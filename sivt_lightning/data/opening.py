"""One image file, opened: what its header says, its stored values, and why one cannot be read."""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from sivt_lightning.data.depth import DoesNotFit, Kind
from sivt_lightning.data.pillow_inside import File, has_more_pages, silence_pillow, tags
from sivt_lightning.data.remote import RemotePath, Unreachable
from sivt_lightning.errors import SIVTError

# Pillow's other decoders are left out: some run external programs (EPS), and a camera delivers none of them.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
WHITE_IS_ZERO, RGB_TIFF, BITS, PLANES, COLOURS = 0, 2, 258, 284, 262  # of TIFF 6.0
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

Decoded = TypeVar("Decoded")


class Opened(NamedTuple):
    """A file whose header has been read, and not yet its pixels."""

    file: File
    image: Image.Image
    kind: Kind
    has_more_pages: bool

    @property
    def is_deep_colour(self) -> bool:
        """Whether it holds colours of more than 8 bits, of which Pillow keeps the upper 8."""
        return self.kind == "integers" and not self.image.mode.startswith("I")

    @property
    def is_negative(self) -> bool:
        """Whether 0 is white, which Pillow turns round in photos of 8 bits only."""
        return self.kind != "bytes" and tags(self.image).get(COLOURS) == WHITE_IS_ZERO


class UnsupportedPixels(ValueError):
    """A decoded file whose pixel values cannot be taken for an image; the message is the reason."""


class _NoFile(OSError):
    """What bears the name is neither file nor folder."""


def decode(path: Path, convert: Callable[[Opened], Decoded]) -> Decoded:
    """Open, decode fully, turn upright and convert; every fault of the file becomes a SIVTError."""
    try:
        if not isinstance(path, RemotePath) and path.exists() and not (path.is_file() or path.is_dir()):
            raise _NoFile  # to open a pipe would wait for whoever writes into it
        # A file, not its name: given a name, Pillow maps the file into memory and scrambles turned plain TIFFs.
        with path.open("rb") as file, opened_file(file) as opened:
            return convert(opened)
    except Exception as error:  # a damaged file makes decoders raise nearly anything, from struct.error to EOFError
        reason, remedy = explain(error, path)
        raise SIVTError(f"{path} cannot be read: {reason}. {remedy}") from error


@contextmanager
def opened_file(file: File, most_pixels: int | None = None) -> Iterator[Opened]:
    """The file with its header read. Raises what Pillow raises, also for an image of more than `most_pixels`."""
    silence_pillow()
    with Image.open(file, formats=FORMATS) as image:
        # By default Pillow's own limit, which it holds images against, but not tiles.
        most = 2 * (Image.MAX_IMAGE_PIXELS or math.inf) if most_pixels is None else most_pixels
        if decoded_pixels(image) > most:
            raise Image.DecompressionBombError
        yield Opened(file, image, kind_of(file, image), has_more_pages(image))


def kind_of(file: File, image: Image.Image) -> Kind:
    if image.mode == "F":
        return "decimals"
    deepest = 8
    if image.format == "PNG":  # IHDR is the first chunk of every PNG, and says the bits after width and height
        place = file.tell()
        file.seek(24)
        deepest = file.read(1)[0]
        file.seek(place)
    elif image.format == "TIFF":
        deepest = max(tags(image).get(BITS, (1,)))
    return "integers" if deepest > 8 or image.mode.startswith("I") else "bytes"


def stored_values(opened: Opened) -> np.ndarray:
    """The upright values of an image of more than 8 bits as they are in the file, height x width or x channels."""
    image = opened.image
    if not opened.is_deep_colour:
        image.load()
        turn_upright(image)
        return np.asarray(image)
    import imagecodecs  # only for such photos, which few have

    opened.file.seek(0)
    content = opened.file.read()
    if image.format == "PNG":
        values = imagecodecs.png_decode(content)
    else:
        known = tags(image)
        if known.get(COLOURS) != RGB_TIFF:
            raise UnsupportedPixels("its colours of more than 8 bits are not RGB")
        values = imagecodecs.tiff_decode(content, index=0)
        if known.get(PLANES) == 2:
            values = np.moveaxis(values, 0, -1)
    if values.shape[:2] != (image.height, image.width) or values.dtype != np.uint16:
        raise UnsupportedPixels("its colours are not stored as 16-bit integers")
    orientation = 1
    with contextlib.suppress(Exception):  # as in turn_upright
        orientation = image.getexif().get(0x0112, 1)
    return _upright(values, orientation)


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """The array turned as EXIF's orientation says."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    down, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(values[:: -1 if down else 1, :: -1 if right else 1])


def decoded_pixels(image: Image.Image) -> int:
    """A TIFF image may be smaller than its tile, which is decoded whole."""
    known = tags(image)
    tile = int(known.get(TiffImagePlugin.TILEWIDTH, 0)) * int(known.get(TiffImagePlugin.TILELENGTH, 0))
    return max(image.width * image.height, tile)


def turn_upright(image: Image.Image) -> None:
    """In place, as EXIF's orientation says."""
    # A damaged EXIF block tells no orientation and says nothing against the pixels.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)  # a copy would forget `format`


def explain(error: Exception, path: Path) -> tuple[str, str]:
    """(reason, remedy) for the user."""
    if isinstance(error, (DoesNotFit, Unreachable)):
        return error.reason if isinstance(error, Unreachable) else str(error), error.remedy
    if isinstance(error, UnsupportedPixels):
        return str(error), "Convert it to an 8-bit or 16-bit image."
    if isinstance(error, _NoFile):
        return "it is a pipe or a device", "Remove it."
    if isinstance(error, FileNotFoundError):
        return "it does not exist", "Check the path."
    if isinstance(error, IsADirectoryError):
        return "it is a folder", "Name an image file."
    if isinstance(error, PermissionError):
        return "permission is denied", "Allow this user to read it, or remove it."
    if isinstance(error, (Image.DecompressionBombError, MemoryError)):
        return "it has too many pixels", "Shrink it, or cut it into several images."
    if path.is_file() and path.stat().st_size == 0:
        return "the file is empty", "Replace or remove it."
    if isinstance(error, UnidentifiedImageError) and path.is_file() and _magic(path) in TIFF_MAGIC:
        return "it is a TIFF of a kind that is not read", "Save it with 8 or 16 bits, or in grey with decimals of 32."
    if isinstance(error, UnidentifiedImageError):
        return "it is not a valid PNG, JPEG, BMP, TIFF or WebP image", "Convert or remove it."
    if isinstance(error, OSError) and error.errno and error.strerror:  # of the system; a decoder's have no number
        return f"{error.strerror[:1].lower()}{error.strerror[1:]}", "Check the file and its disk, or remove it."
    return "it is cut off or damaged", "Replace or remove it."


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
