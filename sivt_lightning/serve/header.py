"""What an image will take in memory, before it is decoded."""

import io
import struct

from PIL import PngImagePlugin

from sivt_lightning.data.opening import Opened, decoded_pixels, opened_file
from sivt_lightning.serve.messages import Refusal

# Bytes that a pixel takes while its image is read: the decoder's own, Pillow's, and the copies that are turned, laid on
# white or made 8 bits. WebP is decoded as an animation, whatever is in it, which adds to the others.
PLAIN, TRANSPARENT, DEEP, DEEP_TRANSPARENT, WEBP = 14, 18, 26, 34, 12
LARGEST = TRANSPARENT + WEBP  # of any photo; 16 bits and transparency together are none
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
            with opened_file(io.BytesIO(content), most_pixels) as opened:
                metadata = len(opened.image.info.get("exif", b""))
                cost = decoded_pixels(opened.image) * bytes_per_pixel(opened)
    except Exception:  # decoders raise nearly anything; whoever reads the image will say what is wrong with it
        return 0
    if metadata > METADATA:
        raise Refusal(400, f"The image has more than {METADATA} bytes of metadata. Save it without them.")
    return cost


def bytes_per_pixel(opened: Opened) -> int:
    """Of an image whose pixels have not been read."""
    transparent = opened.image.has_transparency_data
    if opened.kind != "bytes":
        return DEEP_TRANSPARENT if transparent else DEEP
    return (TRANSPARENT if transparent else PLAIN) + (WEBP if opened.image.format == "WEBP" else 0)


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
