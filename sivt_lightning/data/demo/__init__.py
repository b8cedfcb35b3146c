"""A procedural data set in MVTec layout: three textures and three objects, for trying the tool without a download.

`hard` adds a large product with small faults, a circuit board, for trying tiles.

A picture is drawn in layers on an oversampled canvas, then lit, reduced and given noise. Scene and defect draw from
two generators, so the same picture without its defect (the clean twin) is at hand, and the mask is exactly where the
two differ.
"""

import math
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator
from PIL import Image

from sivt_lightning.data.demo.circuit import FAULTS, LARGE, paint_circuit
from sivt_lightning.data.demo.defects import DEFECTS
from sivt_lightning.data.demo.drawing import SIDE, Canvas, Colour, cloud, tint
from sivt_lightning.data.demo.products import PAINTERS
from sivt_lightning.errors import SIVTError

OVERSAMPLING = 3  # but of the circuit board, which is drawn smooth
CIRCUIT = "circuit"
JPEG_QUALITY = 85  # of the photos of the circuit board, which as PNG would take ten times as much
VISIBLE = 5  # levels of 255: a pixel that changed by less in every channel is given back to the clean twin
SMALLEST = 32  # pixels: in smaller images a scratch is gone

Pixels = UInt8[np.ndarray, "row column 3"]  # in the finished image
Mask = UInt8[np.ndarray, "row column"]
Difficulty = Literal["easy", "normal", "hard"]


class Conditions(NamedTuple):
    """How well a defect shows."""

    contrast: float  # of the surface defects
    variation: float  # of light and sensor noise, between any two pictures


CONDITIONS: dict[Difficulty, Conditions] = {
    "easy": Conditions(contrast=1.3, variation=0.5),
    "normal": Conditions(contrast=1.0, variation=1.0),
    "hard": Conditions(contrast=0.6, variation=1.6),
}


def generator(seed: int, key: str) -> Generator:
    """A picture's own generator: other pictures, and their count, leave its draws alone."""
    return np.random.default_rng([seed, *key.encode()])


def photographed(rng: Generator, canvas: Canvas, colour: Colour, size: int, variation: float) -> Pixels:
    """Light the scene, reduce it to `size` pixels, add the sensor's noise and a few specks."""
    fine = len(canvas.x) // size
    x, y = (w[::fine, ::fine] / (SIDE / 2) for w in (canvas.x, canvas.y))
    gain, fall = 0.97 + variation * rng.uniform(-0.11, 0.11), variation * rng.uniform(0.02, 0.16)
    light = gain * (1 + fall * (x * canvas.light[0] + y * canvas.light[1]) + 0.06 * cloud(rng, size, 4))
    reduced = colour.reshape(3, size, fine, size, fine).mean(2).mean(3)
    lit = reduced * light * tint(rng, 0.02) + 0.007 * variation * rng.standard_normal(reduced.shape, np.float32)
    specks = rng.random((size, size))
    lit += 0.4 * (specks < 1.5e-4) - 0.4 * (specks > 1 - 1.5e-4)  # lint and dust: a single pixel proves nothing
    return np.clip(np.moveaxis(lit, 0, -1) * 255 + 0.5, 0, 255).astype(np.uint8)


def picture(
    category: str, defect: str | None, seed: int, key: str, size: int, difficulty: Difficulty = "normal"
) -> Pixels:
    """One photograph; without a defect, the clean twin of the photograph with the same key."""
    rng, flaw = generator(seed, key), generator(seed, f"{key}/defect")
    fine = 1 if category == CIRCUIT else OVERSAMPLING
    axis = (np.arange(size * fine, dtype=np.float32) + 0.5) * (SIDE / size / fine) - SIDE / 2
    x, y = np.meshgrid(axis, axis)
    towards = rng.uniform(-2.4, -0.8)  # from the upper side, as lamps hang
    canvas = Canvas(x, y, (math.cos(towards), math.sin(towards)))
    if category == CIRCUIT:  # its faults are small, not faint: a steady lamp
        return photographed(rng, canvas, paint_circuit(rng, canvas, flaw, defect), size, CONDITIONS["easy"].variation)
    blemish = DEFECTS[defect] if defect else None
    surface = PAINTERS[category](rng, canvas, flaw, defect is not None and blemish is None)
    contrast, variation = CONDITIONS[difficulty]
    spoilt = blemish(flaw, canvas, surface) - surface.colour if blemish else np.float32(0)
    return photographed(rng, canvas, np.clip(surface.colour + contrast * spoilt, 0, None), size, variation)


def defective_picture(
    category: str, defect: str, seed: int, key: str, size: int, difficulty: Difficulty = "normal"
) -> tuple[Pixels, Pixels, Mask]:
    """A defective photograph, its clean twin, and the mask: 255 exactly where the two differ."""
    image, twin = (picture(category, kind, seed, key, size, difficulty) for kind in (defect, None))
    changed = np.abs(image.astype(np.int16) - twin).max(-1) >= VISIBLE
    return np.where(changed[..., None], image, twin), twin, changed.astype(np.uint8) * 255


def save(path: Path, pixels: Pixels | Mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=JPEG_QUALITY)


def write_demo_data(
    root: Path,
    seed: int = 0,
    difficulty: Difficulty = "normal",
    size: int = 128,
    train: int = 48,
    good: int = 12,
    defective: int = 4,
) -> None:
    """Write the data set into a new or empty directory.

    `train` and `good` count images per category, `defective` images per category and kind of defect. `difficulty`
    makes surface defects fainter, and light and noise vary more from picture to picture. "hard" adds circuit boards, in
    photos of 8 times the `size` whose faults stay small: 6 to 12 pixels of 1024.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise SIVTError(
            f"{root} is not an empty directory, and demo data must not mix with other files: name a new one"
        )
    counts = (("train", train, 1), ("good", good, 1), ("defective", defective, 1))
    for name, value, least in (("seed", seed, 0), ("size", size, SMALLEST), *counts):
        if value < least:
            raise SIVTError(f"{name} {value} is too small for demo data: give {least} or more")
    kinds = dict.fromkeys(PAINTERS, tuple(DEFECTS)) | ({CIRCUIT: FAULTS} if difficulty == "hard" else {})
    for category, defects in kinds.items():
        side, ending = (size * LARGE, "jpg") if category == CIRCUIT else (size, "png")
        for split, count in (("train", train), ("test", good)):
            for index in range(count):
                key = f"{category}/{split}/good/{index:03}"
                save(root / f"{key}.{ending}", picture(category, None, seed, key, side, difficulty))
        for defect in defects:
            for index in range(defective):
                key = f"{category}/test/{defect}/{index:03}"
                image, _, mask = defective_picture(category, defect, seed, key, side, difficulty)
                save(root / f"{key}.{ending}", image)
                save(root / category / "ground_truth" / defect / f"{index:03}_mask.png", mask)
