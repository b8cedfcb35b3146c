"""One image file to pixels, whatever its bit depth, palette, transparency or orientation."""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from sivt_lightning.data.depth import Depth, DoesNotFit, Kind, Seen, to_bytes
from sivt_lightning.errors import SIVTError

# Pillow's other decoders are left out: some run external programs (EPS), and a camera delivers none of them.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
WHITE_IS_ZERO, RGB_TIFF, BITS, PLANES, COLOURS = 0, 2, 258, 284, 262  # of TIFF 6.0
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

Decoded = TypeVar("Decoded")
File = io.BufferedReader | io.BytesIO

QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `warnings.filters` holds it


class Photo(NamedTuple):
    """A decoded photo."""

    image: Image.Image  # upright 8-bit RGB
    note: str  # what to know of how it was read, or ""


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
        return self.kind != "bytes" and _tags(self.image).get(COLOURS) == WHITE_IS_ZERO


class _UnsupportedPixels(ValueError):
    """A decoded file whose pixel values cannot be taken for an image; the message is the reason."""


class _NoFile(OSError):
    """What bears the name is neither file nor folder."""


def read_image(path: Path, depth: Depth | None = None) -> Photo:
    """The image as upright 8-bit RGB: deeper values are scaled by `depth`, transparency laid on white, the first page
    taken.

    Raises SIVTError naming the file when it cannot be read, or does not have the depth.
    """
    return decode(path, lambda opened: _to_photo(opened, depth))


def read_image_bytes(content: bytes, depth: Depth | None = None, most_pixels: int | None = None) -> Photo:
    """As `read_image`, of a file's content; one of more pixels is not decoded.

    Raises SIVTError when it cannot be read.
    """
    try:
        with opened_file(io.BytesIO(content), most_pixels) as opened:
            return _to_photo(opened, depth)
    except Exception as error:
        reason, remedy = ("there is nothing in it", "Send an image.") if not content else _explain(error, Path())
        raise SIVTError(f"The image cannot be read: {reason}. {remedy}") from error


def to_rgb(image: Image.Image, depth: Depth | None = None) -> Photo:
    """An image of Pillow's as `read_image` would give its file.

    Raises SIVTError where its values are out of range, or it cannot be decoded after all.
    """
    try:
        return _picture_of(image, depth)
    except Exception as error:
        reason, remedy = _explain(error, Path())
        raise SIVTError(f"The image cannot be read: {reason}. {remedy}") from error


def array_to_rgb(pixels: np.ndarray, depth: Depth | None = None) -> Image.Image:
    """Height x width (grey), x 3 (RGB) or x 4 (RGBA): bytes, 16-bit integers of this depth, or decimals from 0 to 1.

    Decimals are something else only where the model's photos are.
    Raises SIVTError for any other array.
    """
    kinds: dict[str, Kind] = {"u1": "bytes", "u2": "integers", "f2": "decimals", "f4": "decimals", "f8": "decimals"}
    kind = kinds.get(pixels.dtype.str[1:])
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))
    if kind is None or not pixels.size or not shaped:
        raise SIVTError(
            f"An array of {pixels.dtype} of shape {pixels.shape} is no image: give height x width, x 3 (RGB) or x 4 "
            "(RGBA), as uint8, uint16 or decimals from 0 to 1."
        )
    plain = kind == "decimals" and not str(depth).startswith("float")
    try:
        return _rgb_of(pixels, kind, "float" if plain else depth)
    except DoesNotFit as error:
        raise SIVTError(f"The array cannot be taken for an image: {error}.") from error


def deep_values(path: Path) -> Seen | None:
    """What an image of more than 8 bits holds; None for others, of which the header alone is read.

    Raises SIVTError naming the file when it cannot be read.
    """

    def seen(opened: Opened) -> Seen | None:
        if opened.kind == "bytes":
            return None
        colours, _ = _parted(stored_values(opened))
        return Seen(opened.kind, float(colours.max()))

    return decode(path, seen)


def to_tensor(image: Image.Image, size: int) -> Float[Tensor, "3 {size} {size}"]:
    """An RGB image squeezed to `size` x `size` pixels (bilinear, antialiased), values in [0, 1]."""
    pixels = np.array(image.resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255


def decode(path: Path, convert: Callable[[Opened], Decoded]) -> Decoded:
    """Open, decode fully, turn upright and convert; every fault of the file becomes a SIVTError."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise _NoFile  # to open a pipe would wait for whoever writes into it
        # A file, not its name: given a name, Pillow maps the file into memory and scrambles turned plain TIFFs.
        with path.open("rb") as file, opened_file(file) as opened:
            return convert(opened)
    except Exception as error:  # a damaged file makes decoders raise nearly anything, from struct.error to EOFError
        reason, remedy = _explain(error, path)
        raise SIVTError(f"{path} cannot be read: {reason}. {remedy}") from error


@contextmanager
def opened_file(file: File, most_pixels: int | None = None) -> Iterator[Opened]:
    """The file with its header read. Raises what Pillow raises, also for an image of more than `most_pixels`."""
    _silence_pillow()
    with Image.open(file, formats=FORMATS) as image:
        # By default Pillow's own limit, which it holds images against, but not tiles.
        most = 2 * (Image.MAX_IMAGE_PIXELS or math.inf) if most_pixels is None else most_pixels
        if decoded_pixels(image) > most:
            raise Image.DecompressionBombError
        yield Opened(file, image, _kind_of(file, image), _has_more_pages(image))


def _silence_pillow() -> None:
    """It warns of large images and odd metadata: nothing that the user must act on.

    Set and left: filters that each decoding sets and takes back get mixed up where threads decode.
    """
    if warnings.filters[:1] != [QUIET]:
        warnings.filterwarnings("ignore", module=QUIET[3].pattern)


def _has_more_pages(image: Image.Image) -> bool:
    """Without looking for all of them, of which a file may have a million. Those of a JPEG are previews of its own."""
    if image.format == "TIFF":
        return bool(getattr(getattr(image, "tag_v2", None), "next", 0))  # where the second page begins; Pillow 13
    return image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1


def _kind_of(file: File, image: Image.Image) -> Kind:
    if image.mode == "F":
        return "decimals"
    deepest = 8
    if image.format == "PNG":  # IHDR is the first chunk of every PNG, and says the bits after width and height
        place = file.tell()
        file.seek(24)
        deepest = file.read(1)[0]
        file.seek(place)
    elif image.format == "TIFF":
        deepest = max(_tags(image).get(BITS, (1,)))
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
        tags = _tags(image)
        if tags.get(COLOURS) != RGB_TIFF:
            raise _UnsupportedPixels("its colours of more than 8 bits are not RGB")
        values = imagecodecs.tiff_decode(content, index=0)
        if tags.get(PLANES) == 2:
            values = np.moveaxis(values, 0, -1)
    if values.shape[:2] != (image.height, image.width) or values.dtype != np.uint16:
        raise _UnsupportedPixels("its colours are not stored as 16-bit integers")
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


def _tags(image: Image.Image) -> Any:
    """Of a TIFF, by number; none of other images."""
    return getattr(image, "tag_v2", {})


def decoded_pixels(image: Image.Image) -> int:
    """A TIFF image may be smaller than its tile, which is decoded whole."""
    tags = _tags(image)
    tile = int(tags.get(TiffImagePlugin.TILEWIDTH, 0)) * int(tags.get(TiffImagePlugin.TILELENGTH, 0))
    return max(image.width * image.height, tile)


def turn_upright(image: Image.Image) -> None:
    """In place, as EXIF's orientation says."""
    # A damaged EXIF block tells no orientation and says nothing against the pixels.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)  # a copy would forget `format`


def _explain(error: Exception, path: Path) -> tuple[str, str]:
    """(reason, remedy) for the user."""
    if isinstance(error, DoesNotFit):
        return str(error), error.remedy
    if isinstance(error, _UnsupportedPixels):
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


def _to_photo(opened: Opened, depth: Depth | None) -> Photo:
    note = "It has several pages, of which only the first was read." if opened.has_more_pages else ""
    if opened.kind == "bytes":
        opened.image.load()
        turn_upright(opened.image)
        return Photo(_on_white(opened.image), note)
    return Photo(_rgb_of(stored_values(opened), opened.kind, depth, opened.is_negative), note)


def _picture_of(image: Image.Image, depth: Depth | None) -> Photo:
    """Of an image that Pillow has opened, perhaps decoded, or made."""
    file, unread = getattr(image, "fp", None), bool(getattr(image, "tile", None))
    if image.format in FORMATS and unread and isinstance(file, File):
        place = file.tell()
        opened = Opened(file, image, _kind_of(file, image), _has_more_pages(image))
        if opened.is_deep_colour or opened.has_more_pages:
            file.seek(0)
            content = io.BytesIO(file.read())
            file.seek(place)
            with opened_file(content) as opened:
                return _to_photo(opened, depth)
    upright = image.copy()  # the caller's own stays as it is
    turn_upright(upright)
    kind: Kind = "decimals" if image.mode == "F" else "integers" if image.mode.startswith("I") else "bytes"
    if kind != "bytes":
        negative = _tags(image).get(COLOURS) == WHITE_IS_ZERO
        return Photo(_rgb_of(np.asarray(upright), kind, depth, negative), "")
    if max(_tags(image).get(BITS, (8,))) > 8:
        raise _UnsupportedPixels("Pillow has read it with 8 of its bits only: give the file's name or content")
    return Photo(_on_white(upright), "")


def _rgb_of(values: np.ndarray, kind: Kind, depth: Depth | None, negative: bool = False) -> Image.Image:
    """Upright values, height x width or x channels. Raises DoesNotFit."""
    colours, opacity = _parted(values)
    levels = colours if kind == "bytes" else to_bytes(colours, kind, depth)
    if negative:
        levels = 255 - levels
    if opacity is None:
        return Image.fromarray(levels).convert("RGB")
    if kind != "bytes":  # what is most opaque is opaque, for tools write all ones whatever the depth of the colours
        opacity = np.rint(opacity * (255 / max(float(opacity.max()), 1e-9))).astype(np.uint8)
    picture = Image.fromarray(levels).convert("RGBA")
    picture.putalpha(Image.fromarray(opacity))
    return _on_white(picture)


def _parted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours or grey, and opacity where there is one."""
    if values.ndim == 2:
        return values, None
    count = values.shape[2]
    colours = values[..., 0] if count < 3 else np.ascontiguousarray(values[..., :3])
    return colours, np.ascontiguousarray(values[..., -1]) if count in (2, 4) else None


def _on_white(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels).convert("RGB")
    return image.convert("RGB")
