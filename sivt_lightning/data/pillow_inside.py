"""Pillow's inside, all that is used of it, as in Pillow 13: what it knows of a file that it has opened."""

import io
import re
import warnings
from typing import Any

from PIL import Image

File = io.BufferedReader | io.BytesIO

QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)  # as `warnings.filters` holds it


def silence_pillow() -> None:
    """It warns of large images and odd metadata: nothing that the user must act on.

    Set and left: filters that each decoding sets and takes back get mixed up where threads decode.
    """
    if warnings.filters[:1] != [QUIET]:
        warnings.filterwarnings("ignore", module=QUIET[3].pattern)


def has_more_pages(image: Image.Image) -> bool:
    """Without looking for all of them, of which a file may have a million. Those of a JPEG are previews of its own."""
    if image.format == "TIFF":
        return bool(getattr(getattr(image, "tag_v2", None), "next", 0))  # where the second page begins
    return image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1


def tags(image: Image.Image) -> Any:
    """Of a TIFF, by number; none of other images."""
    return getattr(image, "tag_v2", {})


def unread_file(image: Image.Image) -> File | None:
    """That of an image whose pixels have not been decoded yet; None for any other image."""
    file = getattr(image, "fp", None)
    return file if getattr(image, "tile", None) and isinstance(file, File) else None
