"""One image or mask file to pixels, whatever its bit depth, palette, transparency or orientation."""

import contextlib
import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from sivt_lightning.errors import SIVTError

# Pillow's other decoders are left out: some run external programs (EPS), and a camera delivers none of them.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
JPEG_MASK_THRESHOLD = 127  # JPEG smears faint values around every edge, so there "positive" means the upper half

Decoded = TypeVar("Decoded")


class _UnsupportedPixels(ValueError):
    """A decoded file whose pixel values cannot be taken for an image; the message is the reason."""


class _NoFile(OSError):
    """What bears the name is neither file nor folder."""


def read_image(path: Path) -> Image.Image:
    """The image as upright 8-bit RGB: 16-bit grey is scaled, transparency laid on white, the first page is taken.

    Raises SIVTError naming the file when it cannot be read.
    """
    return _decode(path, _to_rgb)


def read_image_bytes(content: bytes, most_pixels: int) -> Image.Image:
    """As `read_image`, of a file's content; one of more pixels is not decoded.

    Raises SIVTError when it cannot be read.
    """
    try:
        return _decode_file(io.BytesIO(content), _to_rgb, most_pixels)
    except Exception as error:
        reason, remedy = ("there is nothing in it", "Send an image.") if not content else _explain(error, Path())
        raise SIVTError(f"The image cannot be read: {reason}. {remedy}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image as `read_image` would give its file.

    Raises SIVTError where its values are out of range, or it cannot be decoded after all.
    """
    try:
        upright = image.copy()  # the caller's own stays as it is
        _turn_upright(upright)
        return _to_rgb(upright)
    except Exception as error:
        reason, remedy = _explain(error, Path())
        raise SIVTError(f"The image cannot be read: {reason}. {remedy}") from error


def array_to_rgb(pixels: np.ndarray) -> Image.Image:
    """Height x width (grey), x 3 (RGB) or x 4 (RGBA): bytes, 16-bit integers or decimals from 0 to 1.

    Raises SIVTError for any other array.
    """
    if pixels.size and pixels.dtype.kind == "f":
        pixels = _bytes_of(pixels, _bytes_from_floats)
    elif pixels.size and pixels.dtype == np.uint16:
        pixels = _bytes_of(pixels, _bytes_from_integers)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not pixels.size or not shaped:
        raise SIVTError(
            f"An array of {pixels.dtype} of shape {pixels.shape} is no image: give height x width, x 3 (RGB) or x 4 "
            "(RGBA), as uint8, uint16 or decimals from 0 to 1."
        )
    return to_rgb(Image.fromarray(pixels))


def read_mask(path: Path) -> Bool[np.ndarray, "height width"]:
    """The ground-truth mask, upright: True where anomalous, that is where any stored value is positive.

    A palette image's stored values are its indices. The alpha channel is ignored; a JPEG, which cannot store exact
    values, is cut at half its range.
    Raises SIVTError naming the file when it cannot be read.
    """
    return _decode(path, _to_mask)


def to_tensor(image: Image.Image, size: int) -> Float[Tensor, "3 {size} {size}"]:
    """An RGB image squeezed to `size` x `size` pixels (bilinear, antialiased), values in [0, 1]."""
    pixels = np.array(image.resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255


def mask_to_tensor(mask: Bool[np.ndarray, "height width"], size: int) -> Bool[Tensor, "{size} {size}"]:
    """A mask squeezed to `size` x `size` pixels, each taking its nearest neighbour's value."""
    resized = Image.fromarray(mask.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized) > 0)


def _decode(path: Path, convert: Callable[[Image.Image], Decoded]) -> Decoded:
    """Open, decode fully, turn upright and convert; every fault of the file becomes a SIVTError."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise _NoFile  # to open a pipe would wait for whoever writes into it
        # A file, not its name: given a name, Pillow maps the file into memory and scrambles turned plain TIFFs.
        with path.open("rb") as file:
            return _decode_file(file, convert)
    except Exception as error:  # a damaged file makes decoders raise nearly anything, from struct.error to EOFError
        reason, remedy = _explain(error, path)
        raise SIVTError(f"{path} cannot be read: {reason}. {remedy}") from error


def _decode_file(
    file: io.BytesIO | io.BufferedReader, convert: Callable[[Image.Image], Decoded], most_pixels: int | None = None
) -> Decoded:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large images and odd metadata: nothing the user must act on
        with Image.open(file, formats=FORMATS) as image:
            # By default Pillow's own limit, which it holds images against, but not tiles.
            most = 2 * (Image.MAX_IMAGE_PIXELS or math.inf) if most_pixels is None else most_pixels
            if _decoded_pixels(image) > most:
                raise Image.DecompressionBombError
            image.load()
            _turn_upright(image)
            return convert(image)


def _decoded_pixels(image: Image.Image) -> int:
    """A TIFF image may be smaller than its tile, which is decoded whole."""
    tags = getattr(image, "tag_v2", {})
    tile = int(tags.get(TiffImagePlugin.TILEWIDTH, 0)) * int(tags.get(TiffImagePlugin.TILELENGTH, 0))
    return max(image.width * image.height, tile)


def _turn_upright(image: Image.Image) -> None:
    # A damaged EXIF block tells no orientation and says nothing against the pixels.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)  # a copy would forget `format`


def _explain(error: Exception, path: Path) -> tuple[str, str]:
    """(reason, remedy) for the user."""
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
    if isinstance(error, UnidentifiedImageError):
        return "it is not a valid PNG, JPEG, BMP, TIFF or WebP image", "Convert or remove it."
    if isinstance(error, OSError) and error.errno and error.strerror:  # of the system; a decoder's have no number
        return f"{error.strerror[:1].lower()}{error.strerror[1:]}", "Check the file and its disk, or remove it."
    return "it is cut off or damaged", "Replace or remove it."


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # I and the I;16 family; convert("RGB") would clip them at 255
        return Image.fromarray(_bytes_from_integers(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(_bytes_from_floats(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels).convert("RGB")
    return image.convert("RGB")


def _bytes_of(values: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    try:
        return convert(values)
    except _UnsupportedPixels as error:
        raise SIVTError(f"The array cannot be taken for an image: {error}.") from error


def _bytes_from_integers(values: np.ndarray) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise _UnsupportedPixels(f"its values run from {low} to {high}, but only 0 to 65535 are accepted")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # the nearest of 65535 / 255 = 257 wide steps


def _bytes_from_floats(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # said this way round, NaN fails too
        raise _UnsupportedPixels(f"its decimal values run from {low:g} to {high:g}, but only 0 to 1 are accepted")
    return np.rint(values * 255).astype(np.uint8)


def _to_mask(image: Image.Image) -> Bool[np.ndarray, "height width"]:
    threshold = JPEG_MASK_THRESHOLD if image.format == "JPEG" else 0
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):  # channels in which black is not all zeros
        image = _to_rgb(image)
    values = np.asarray(image)
    channels = values.reshape(image.height, image.width, -1)
    if image.mode[-1] in "Aa":  # LA, PA, RGBA and their premultiplied kin
        channels = channels[..., :-1]
    return np.any(channels > threshold, axis=2)
