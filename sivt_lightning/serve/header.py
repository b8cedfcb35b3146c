"""What an image will take in memory, before it is decoded."""

import io
import struct

from PIL import Image, PngImagePlugin

from sivt_lightning.data.images import FORMATS, _decoded_pixels
from sivt_lightning.serve.messages import Refusal

# Bytes that a pixel takes while its image is read: the decoder's own, Pillow's, and the copies that are turned, laid on
# white or scaled to bytes. WebP is decoded as an animation, whatever is in it, which adds to the others.
PLAIN, TRANSPARENT, DEEP, WEBP = 12, 18, 24, 12
MOST = TRANSPARENT + WEBP  # of a pixel of any image
METADATA = 1_000_000  # bytes: each number of a tag becomes an object, which takes up to 35 times as many
NUMBERS = {3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # TIFF's types and their bytes

# Characters of a PNG's comments. Pillow's own 64 million, of up to four bytes each, come out of a file of 60 kB.
PngImagePlugin.MAX_TEXT_MEMORY = 4 * 2**20


def decoding_cost(content: bytes, most_pixels: int) -> int:
    """Bytes that are held at most while this file is read; 0 where it will be refused.

    Raises Refusal where its metadata alone would take too many.
    """
    try:
        metadata = tag_bytes(content)
        if metadata <= METADATA:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                metadata = len(image.info.get("exif", b""))
                pixels = _decoded_pixels(image)
                each = bytes_per_pixel(image)
    except Exception:  # decoders raise nearly anything; whoever reads the image will say what is wrong with it
        return 0
    if metadata > METADATA:
        raise Refusal(400, f"The image has more than {METADATA} bytes of metadata. Save it without them.")
    return pixels * each if pixels <= most_pixels else 0


def bytes_per_pixel(image: Image.Image) -> int:
    """Of an image that is opened and not loaded."""
    each = PLAIN
    if image.mode.startswith(("I", "F")):
        each = DEEP
    elif image.has_transparency_data:
        each = TRANSPARENT
    return each + WEBP if image.format == "WEBP" else each


def tag_bytes(content: bytes) -> int:
    """Of the numbers in the first directory of a TIFF, which Pillow reads when it opens the file; 0 of other files."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return 0
    big = struct.unpack_from(f"{order}H", content, 2)[0] == 43
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'L'}", content, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", content, start)
    entry = struct.Struct(f"{order}{'HHQ8x' if big else 'HHL4x'}")
    start += 8 if big else 2
    entries = memoryview(content)[start : start + count * entry.size]
    return sum(number * NUMBERS.get(kind, 0) for _, kind, number in entry.iter_unpack(entries))
