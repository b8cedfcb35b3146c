"""Every photo decoded once: what of it is compared with others."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sivt_lightning.data.depth import Depth
from sivt_lightning.data.images import read_image
from sivt_lightning.errors import SIVTError

SIDE = 64  # pixels of a thumbnail
THREADS = 4
TINT = 8  # levels between channels of what is grey


class Look(NamedTuple):
    """What a photo is like."""

    width: int  # upright
    height: int
    is_grey: bool
    light: float  # mean grey level, 0 to 255
    digest: bytes  # of the file
    thumbnail: UInt8[np.ndarray, "64 64"]  # grey


def look_at(paths: Sequence[Path], depth: Depth | None) -> list[Look | SIVTError]:
    """Of each photo what it is like, or why it cannot be read."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(partial(_look, depth=depth), paths))


def _look(path: Path, depth: Depth | None) -> Look | SIVTError:
    try:
        image = read_image(path, depth).image
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except SIVTError as error:
        return error
    except OSError as error:
        return SIVTError(f"{path} cannot be read: {error.strerror}. Replace it, or take it out.")
    thumbnail = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
    return Look(image.width, image.height, _is_grey(image), float(thumbnail.mean()), digest, thumbnail)


def _is_grey(image: Image.Image) -> bool:
    """Whether its three channels are the same, but for what JPEG makes of them; by a part of a large one's pixels."""
    small = np.asarray(image.resize((min(image.width, 256), min(image.height, 256)), Image.Resampling.NEAREST))
    return bool((np.ptp(small, axis=2) <= TINT).mean() > 0.99)
