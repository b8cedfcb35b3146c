"""One image file to pixels, whatever its bit depth, palette, transparency or orientation."""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from sivt_lightning.data.depth import Depth, DoesNotFit, Kind, Seen, to_bytes
from sivt_lightning.data.opening import (
    BITS,
    COLOURS,
    FORMATS,
    WHITE_IS_ZERO,
    Opened,
    UnsupportedPixels,
    decode,
    explain,
    kind_of,
    opened_file,
    stored_values,
    turn_upright,
)
from sivt_lightning.data.pillow_inside import has_more_pages, tags, unread_file
from sivt_lightning.errors import SIVTError


class Photo(NamedTuple):
    """A decoded photo."""

    image: Image.Image  # upright 8-bit RGB
    note: str  # what to know of how it was read, or ""


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
        reason, remedy = ("there is nothing in it", "Send an image.") if not content else explain(error, Path())
        raise SIVTError(f"The image cannot be read: {reason}. {remedy}") from error


def to_rgb(image: Image.Image, depth: Depth | None = None) -> Photo:
    """An image of Pillow's as `read_image` would give its file.

    Raises SIVTError where its values are out of range, or it cannot be decoded after all.
    """
    try:
        return _picture_of(image, depth)
    except Exception as error:
        reason, remedy = explain(error, Path())
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


def to_tensor(image: Image.Image, height: int, width: int | None = None) -> Float[Tensor, "3 {height} _"]:
    """An RGB image resized to so many pixels (bilinear, antialiased, as Pillow has it), values in [0, 1].

    `width`: by default the height.
    """
    width = height if width is None else width
    if image.size in ((2 * width, 2 * height), (4 * width, 4 * height)):
        # In a third of the time. Of other sizes torch rounds weights, and with them pixels, otherwise than Pillow does.
        whole = rearrange(torch.from_numpy(np.array(image)), "h w c -> 1 c h w")
        pixels = interpolate(whole, size=(height, width), mode="bilinear", antialias=True)[0]
    else:
        pixels = torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.BILINEAR))).permute(2, 0, 1)
    return pixels.contiguous().float() / 255


def _to_photo(opened: Opened, depth: Depth | None) -> Photo:
    note = "It has several pages, of which only the first was read." if opened.has_more_pages else ""
    if opened.kind == "bytes":
        opened.image.load()
        turn_upright(opened.image)
        return Photo(_on_white(opened.image), note)
    return Photo(_rgb_of(stored_values(opened), opened.kind, depth, opened.is_negative), note)


def _picture_of(image: Image.Image, depth: Depth | None) -> Photo:
    """Of an image that Pillow has opened, perhaps decoded, or made."""
    file = unread_file(image)
    if image.format in FORMATS and file is not None:
        place = file.tell()
        opened = Opened(file, image, kind_of(file, image), has_more_pages(image))
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
        negative = tags(image).get(COLOURS) == WHITE_IS_ZERO
        return Photo(_rgb_of(np.asarray(upright), kind, depth, negative), "")
    if max(tags(image).get(BITS, (8,))) > 8:
        raise UnsupportedPixels("Pillow has read it with 8 of its bits only: give the file's name or content")
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
