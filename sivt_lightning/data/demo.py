"""A procedural data set in MVTec layout: two textures and two objects, for trying the tool without a download.

Lengths are in 1/128 of the image side, that is in pixels at the default size. A picture is drawn in layers on an
oversampled canvas, then lit, reduced and given noise. Scene and defect draw from two generators, so the same
picture without its defect (the clean twin) is at hand, and the mask is exactly where the two differ.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.random import Generator
from PIL import Image

from sivt_lightning.errors import SIVTError

SIDE = 128.0  # length units across an image
OVERSAMPLING = 3
VISIBLE = 5  # levels of 255: a pixel that changed by less in every channel is given back to the clean twin
SMALLEST = 32  # pixels: in smaller images a scratch is gone

Tone = Float32[np.ndarray, "3 1 1"]
Plane = Float32[np.ndarray, "y x"]  # on the oversampled canvas
Colour = Float32[np.ndarray, "3 y x"]
Pixels = UInt8[np.ndarray, "row column 3"]  # in the finished image
Mask = UInt8[np.ndarray, "row column"]


class Canvas(NamedTuple):
    """Coordinates with the origin in the centre, and the unit vector towards the light."""

    x: Plane
    y: Plane
    light: tuple[float, float]

    @property
    def step(self) -> float:
        return SIDE / len(self.x)

    @property
    def margin(self) -> Plane:
        return SIDE / 2 - np.maximum(np.abs(self.x), np.abs(self.y))


class Surface(NamedTuple):
    """Unlit colour, and how deep inside the product each point lies (negative: outside)."""

    colour: Colour
    depth: Plane


# (scene, canvas, flaw, misplaced): draws a product; `misplaced` takes a part away or puts it in the wrong place.
Painter = Callable[[Generator, Canvas, Generator, bool], Surface]
# (flaw, canvas, surface): spoils the finished surface of any product.
Blemish = Callable[[Generator, Canvas, Surface], Colour]


def generator(seed: int, key: str) -> Generator:
    """A picture's own generator: other pictures, and their count, leave its draws alone."""
    return np.random.default_rng([seed, *key.encode()])


def tone(red: float, green: float, blue: float) -> Tone:
    return np.array([red, green, blue], np.float32)[:, None, None]


def tint(rng: Generator, amount: float) -> Tone:
    return tone(*rng.uniform(1 - amount, 1 + amount, 3))


def noise(rng: Generator, u: Plane, v: Plane) -> Plane:
    """Smooth noise in [-1, 1] with one knot per unit, repeating after 64 units."""
    knots = np.pad(rng.uniform(-1, 1, (64, 64)).astype(np.float32), ((0, 1), (0, 1)), "wrap").ravel()
    i, j = np.floor(u), np.floor(v)
    s, t = u - i, v - j
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    at = (i.astype(np.intp) & 63) * 65 + (j.astype(np.intp) & 63)
    low, high = knots.take(at), knots.take(at + 1)
    low += s * (knots.take(at + 65) - low)
    high += s * (knots.take(at + 66) - high)
    return low + t * (high - low)


def cloud(rng: Generator, side: int, knots: int) -> Plane:
    """Smooth noise over the whole image: a small random grid, enlarged."""
    grid = Image.fromarray(rng.uniform(-1, 1, (knots, knots)).astype(np.float32))
    return np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC))


def turned(x: Plane, y: Plane, angle: float, scale: float = 1.0) -> tuple[Plane, Plane]:
    c, s = math.cos(angle) / scale, math.sin(angle) / scale
    return c * x + s * y, c * y - s * x


def either_way(rng: Generator, low: float, high: float) -> float:
    """A number between `low` and `high`, or its negative."""
    return math.copysign(rng.uniform(low, high), rng.random() - 0.5)


def posed(rng: Generator, canvas: Canvas) -> tuple[Plane, Plane]:
    """An object's own coordinates: turned by any angle, shifted and scaled a little."""
    dx, dy = rng.uniform(-9, 9, 2).tolist()
    return turned(canvas.x - dx, canvas.y - dy, rng.uniform(0, 2 * math.pi), rng.uniform(0.96, 1.04))


def box(u: Plane, v: Plane, half_u: float, half_v: float, corner: float) -> Plane:
    """Signed distance to a rounded rectangle, negative inside."""
    a, b = np.abs(u) - (half_u - corner), np.abs(v) - (half_v - corner)
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - corner


def lay(canvas: Canvas, under: Colour, shape: Plane, colour: Tone | Colour, bevel: float = 0.0) -> Colour:
    """Lay a shape (negative inside) over a picture; a bevelled rim catches the light."""
    dy, dx = np.gradient(shape, canvas.step)
    slope = np.maximum(np.hypot(dx, dy), 0.2)
    distance = shape / slope  # a shape may be any smooth function, not only a distance
    cover = np.clip(0.5 - distance / canvas.step, 0, 1)
    if bevel:
        facing = (dx * canvas.light[0] + dy * canvas.light[1]) / slope
        colour = colour * (1 + bevel * facing * np.clip(1 + distance / 2.5, 0, 1))
    return under + cover * (colour - under)


def tray(rng: Generator, canvas: Canvas, shape: Plane, colour: Tone) -> Colour:
    """The mottled ground under an object, with the object's soft shadow on the side away from the light."""
    mottled = 1 + 0.05 * cloud(rng, len(shape), 6) + 0.02 * cloud(rng, len(shape), 90)
    down, right = (round(-4 * canvas.light[axis] / canvas.step) for axis in (1, 0))
    above = np.roll(shape, (down, right), (0, 1))
    return colour * (mottled * (1 - 0.3 / (1 + np.exp(np.clip(above / 2.4, -8, 8)))))


def patched(flaw: Generator, canvas: Canvas) -> tuple[Canvas, Plane]:
    """The canvas with a rectangular piece turned and moved, and the shade of that piece and its seam."""
    cx, cy = flaw.uniform(-36, 36, 2).tolist()
    x, y = canvas.x - cx, canvas.y - cy
    half_u, half_v = flaw.uniform(11, 17, 2).tolist()
    outline = box(*turned(x, y, flaw.uniform(0, math.pi)), half_u, half_v, 2.0)
    u, v = turned(x, y, either_way(flaw, 0.6, 1.0))
    inside = outline < 0
    shade = np.where(inside, np.float32(0.72), np.float32(1)) - 0.45 * np.exp(-(outline**2))
    return canvas._replace(x=np.where(inside, u + 7, canvas.x), y=np.where(inside, v + 5, canvas.y)), shade


def paint_fabric(rng: Generator, canvas: Canvas, flaw: Generator, misplaced: bool) -> Surface:
    """A plain weave; misplaced: two threads gone over a length, or a patch set in askew."""
    half = flaw.uniform(15, 25)
    fault = flaw.choice(["thread", "patch"]) if misplaced else ""
    flat, seam = patched(flaw, canvas) if fault == "patch" else (canvas, 1.0)
    pitch = rng.uniform(3.5, 4.2)
    u, v = turned(flat.x, flat.y, rng.uniform(0, 2 * math.pi), pitch)
    u, v = u + rng.uniform(0, 2), v + rng.uniform(0, 2)
    u, v = u + 0.3 * noise(rng, u / 6, v / 6), v + 0.3 * noise(rng, u / 6, v / 6)
    i, j = np.floor(u), np.floor(v)
    across, along = np.cos(np.pi * (u - i - 0.5)), np.cos(np.pi * (v - j - 0.5))
    over = 1 - 2 * ((i + j) % 2)  # +1 where the warp passes over the weft
    warp, weft = 0.5 * across + 0.5 * over * along, 0.5 * along - 0.5 * over * across
    if fault == "thread":
        row, column = (len(u) * flaw.uniform(0.25, 0.75, 2)).astype(int)
        gone = (np.abs(j - j[row, column] - 0.5) < 1) & (np.abs(u - u[row, column]) < half / pitch)
        warp, weft = np.where(gone, 0.6 * across - 1.2, warp), np.where(gone, np.float32(-2), weft)
    top = warp > weft
    fibre = noise(rng, u * np.where(top, 9, 1.5).astype(np.float32), v * np.where(top, 1.5, 9).astype(np.float32))
    shade = (0.7 + 0.3 * np.maximum(warp, weft)) * (1 + 0.15 * fibre)
    dye = tint(rng, 0.06) * np.float32(rng.uniform(0.92, 1.05))
    yarn = np.where(top, tone(0.66, 0.69, 0.73), tone(0.78, 0.77, 0.73)) * dye
    folds = 1 + 0.17 * noise(rng, u / 11, v / 40)
    return Surface(yarn * (shade * folds * seam), canvas.margin)


def paint_wood(rng: Generator, canvas: Canvas, flaw: Generator, misplaced: bool) -> Surface:
    """Boards with growth rings, streaks and dark joints; misplaced: a piece set in with its grain askew."""
    flat, seam = patched(flaw, canvas) if misplaced else (canvas, 1.0)
    u, v = turned(flat.x, flat.y, rng.uniform(-0.9, 0.9), rng.uniform(0.85, 1.2))
    u, v = u + rng.uniform(0, 500), v + rng.uniform(0, 500)
    bent = v + 9 * noise(rng, u / 70, v / 30)
    years = bent / 10 + 0.6 * noise(rng, u / 400, bent / 17)
    season = years - np.floor(years)
    ring = np.where(season > 0.9, 10 * (1 - season), season**2.5)  # darkens slowly, ends abruptly
    dark = np.clip(0.15 + 0.6 * ring + 0.16 * noise(rng, u / 16, v * 1.1), 0, 1)
    across = np.mod(v, 45) - 20
    joint = 0.75 * np.exp(-(across**2) / 1.5) - 0.15 * np.exp(-((across - 2.5) ** 2) / 1.5)
    light, warmth = tone(0.84, 0.66, 0.45), rng.uniform(-0.05, 0.05)
    grain = light + dark * (tone(0.48, 0.29, 0.15) - light)
    return Surface(grain * tone(1 + warmth, 1.0, 1 - warmth) * ((1 - joint) * seam), canvas.margin)


def paint_gear(rng: Generator, canvas: Canvas, flaw: Generator, misplaced: bool) -> Surface:
    """A brushed steel gear with teeth and holes; misplaced: a hole torn open to the rim, or a tooth broken out."""
    u, v = posed(rng, canvas)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    rim = 37 + 9 * np.clip(0.5 + 1.2 * np.cos(10 * angle), 0, 1)
    fifth = 2 * math.pi / 5
    turn = angle - np.round(angle / fifth) * fifth
    holes = np.hypot(radius * np.cos(turn) - 24, radius * np.sin(turn)) - 5.5
    shape = np.maximum(np.maximum(radius - rim, 11 - radius), -holes)
    groove = np.exp(-((radius - 33) ** 2) / 0.6)
    brushed = 0.04 * noise(rng, radius * 1.5, angle * 2)
    gleam = 0.06 * np.cos(2 * (np.arctan2(canvas.y, canvas.x) - math.atan2(canvas.light[1], canvas.light[0])))
    metal = tone(0.62, 0.61, 0.58) * ((1 + brushed + gleam) * (1 - 0.6 * groove))
    if misplaced:
        a, b = turned(u, v, int(flaw.integers(5)) * fifth)
        gap = box(a - 44, b, 22.0, 10.0, 5.0) if flaw.random() < 0.5 else np.hypot(a - 49, b) - 16
        shape = np.maximum(shape, -gap)
        metal = metal * np.where(gap < 4, np.float32(0.3), np.float32(1))  # the fracture is dark
    ground = tray(rng, canvas, shape, tone(0.42, 0.45, 0.50))
    return Surface(lay(canvas, ground, shape, metal, 0.2), -shape)


def pin_rows(flaw: Generator, fault: str, u: Plane, v: Plane) -> Plane:
    """The outline of two rows of four pins; faults: one pin bent, or lost and lying beside its row."""
    at, low = int(flaw.integers(4)) - 1.5, bool(flaw.random() < 0.5)
    lean, away = either_way(flaw, 0.55, 0.8), 36 if fault == "lost" else 18
    column = np.clip(np.round(u / 14 - 0.5) + 0.5, -1.5, 1.5)
    if fault in ("bent", "lost"):  # where this pin was, measure from its neighbour
        beside = np.where(((u > 14 * at) | (at == -1.5)) & (at != 1.5), np.float32(at + 1), np.float32(at - 1))
        column = np.where((column == at) & ((v > 0) == low), beside, column)
    pins = box(u - 14 * column, np.abs(v) - 25, 4.0, 8.0, 0.8)
    if fault in ("bent", "lost"):
        pin_u, pin_v = turned(u - 14 * at, (v if low else -v) - away, lean)
        pins = np.minimum(pins, box(pin_u, pin_v - 7, 4.0, 8.0, 0.8))
    return pins


def paint_module(rng: Generator, canvas: Canvas, flaw: Generator, misplaced: bool) -> Surface:
    """A moulded plug with eight pins and a label; misplaced: a pin bent or lost, or the label askew."""
    fault = str(flaw.choice(["bent", "lost", "label"])) if misplaced else ""
    u, v = posed(rng, canvas)
    pins, body = pin_rows(flaw, fault, u, v), box(u, v, 32.0, 19.0, 3.0)
    ground = tray(rng, canvas, np.minimum(pins, body), tone(0.57, 0.59, 0.58))
    colour = lay(canvas, ground, pins, tone(0.69, 0.63, 0.48), 0.25)
    plastic = tone(0.35, 0.37, 0.42) * (1 + 0.05 * noise(rng, u * 1.2, v * 1.2))
    colour = lay(canvas, colour, body, plastic, 0.3)
    colour = lay(canvas, colour, np.hypot(u + 26, v - 13) - 2.6, tone(0.50, 0.52, 0.55))
    paper = tone(0.56, 0.57, 0.57)
    a, b = u, v + 2
    if fault == "label":
        colour = lay(canvas, colour, box(u, v + 2, 15.0, 7.0, 1.0), tone(0.17, 0.15, 0.13))  # the glue is bare
        a, b = turned(u - flaw.uniform(-5, 5), v + 1, either_way(flaw, 0.5, 0.9))
        paper = paper * np.float32(0.88)  # tilted away from the light
    printed = (np.abs(a) < 11) & (np.abs(b) < 2)
    label = np.where(printed, tone(0.46, 0.47, 0.50), paper)
    return Surface(lay(canvas, colour, box(a, b, 16.0, 8.0, 1.0), label), -body)


def spot(flaw: Generator, canvas: Canvas, surface: Surface, depth: float) -> tuple[Plane, Plane]:
    """Coordinates about a random point well inside the product, turned by any angle."""
    inside = np.flatnonzero(surface.depth > min(depth, 0.6 * float(surface.depth.max())))
    row, column = divmod(int(flaw.choice(inside)), len(surface.depth))
    return turned(canvas.x - canvas.x[row, column], canvas.y - canvas.y[row, column], flaw.uniform(0, 2 * math.pi))


def scratch(flaw: Generator, canvas: Canvas, surface: Surface) -> Colour:
    """A thin arc tapering to both ends, with raised edges."""
    u, v = spot(flaw, canvas, surface, 16.0)
    bow, half = flaw.uniform(25, 60), flaw.uniform(17, 24)
    away = np.abs(np.hypot(u, v - bow) - bow + 0.8 * noise(flaw, u / 9, v / 40))
    width = 1.8 * np.sqrt(np.clip(1 - (bow * np.arctan2(u, bow - v) / half) ** 2, 0, 1))
    on = (width > 0.2) * np.clip(surface.depth, 0, 1)
    groove = on * np.clip((width - away) / canvas.step + 0.5, 0, 1)
    edge = on * np.clip(1.3 - np.abs(away - width - 0.8), 0, 1)
    return surface.colour * ((1 + 0.4 * edge) * (1 - 0.8 * groove))


def stain(flaw: Generator, canvas: Canvas, surface: Surface) -> Colour:
    """A soft-edged, uneven blob of rust or paint."""
    u, v = spot(flaw, canvas, surface, 10.0)
    reach = flaw.uniform(10, 15) * (1 + 0.4 * noise(flaw, u / 9, v / 9))
    outline = np.hypot(u, v * flaw.uniform(1, 1.5)) - reach
    thickness = (0.77 + 0.1 * noise(flaw, u / 6, v / 6)) * np.clip(surface.depth, 0, 1)
    cover = thickness / (1 + np.exp(np.clip(outline / 0.9, -9, 9)))
    substance = tone(0.52, 0.12, 0.04) if flaw.random() < 0.5 else tone(0.06, 0.36, 0.12)
    return surface.colour + cover * (substance - surface.colour)


PAINTERS: dict[str, Painter] = {
    "fabric": paint_fabric,
    "gear": paint_gear,
    "module": paint_module,
    "wood": paint_wood,
}
# None: the painter draws this one itself, since it changes the product's structure and not its surface.
DEFECTS: dict[str, Blemish | None] = {"misplaced": None, "scratch": scratch, "stain": stain}


def photographed(rng: Generator, canvas: Canvas, colour: Colour, size: int) -> Pixels:
    """Light the scene, reduce it to `size` pixels, add the sensor's noise and a few specks."""
    x, y = (w[::OVERSAMPLING, ::OVERSAMPLING] / (SIDE / 2) for w in (canvas.x, canvas.y))
    gain, fall = rng.uniform(0.86, 1.08), rng.uniform(0.02, 0.16)
    light = gain * (1 + fall * (x * canvas.light[0] + y * canvas.light[1]) + 0.06 * cloud(rng, size, 4))
    reduced = colour.reshape(3, size, OVERSAMPLING, size, OVERSAMPLING).mean(2).mean(3)
    lit = reduced * light * tint(rng, 0.02) + 0.007 * rng.standard_normal(reduced.shape, np.float32)
    specks = rng.random((size, size))
    lit += 0.4 * (specks < 1.5e-4) - 0.4 * (specks > 1 - 1.5e-4)  # lint and dust: a single pixel proves nothing
    return np.clip(np.moveaxis(lit, 0, -1) * 255 + 0.5, 0, 255).astype(np.uint8)


def picture(category: str, defect: str | None, seed: int, key: str, size: int) -> Pixels:
    """One photograph; without a defect, the clean twin of the photograph with the same key."""
    rng, flaw = generator(seed, key), generator(seed, f"{key}/defect")
    axis = (np.arange(size * OVERSAMPLING, dtype=np.float32) + 0.5) * (SIDE / size / OVERSAMPLING) - SIDE / 2
    x, y = np.meshgrid(axis, axis)
    towards = rng.uniform(-2.4, -0.8)  # from the upper side, as lamps hang
    canvas = Canvas(x, y, (math.cos(towards), math.sin(towards)))
    blemish = DEFECTS[defect] if defect else None
    surface = PAINTERS[category](rng, canvas, flaw, defect is not None and blemish is None)
    return photographed(rng, canvas, blemish(flaw, canvas, surface) if blemish else surface.colour, size)


def defective_picture(category: str, defect: str, seed: int, key: str, size: int) -> tuple[Pixels, Pixels, Mask]:
    """A defective photograph, its clean twin, and the mask: 255 exactly where the two differ."""
    image, twin = (picture(category, kind, seed, key, size) for kind in (defect, None))
    changed = np.abs(image.astype(np.int16) - twin).max(-1) >= VISIBLE
    return np.where(changed[..., None], image, twin), twin, changed.astype(np.uint8) * 255


def save(path: Path, pixels: Pixels | Mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_demo_data(
    root: Path, seed: int = 0, size: int = 128, train: int = 48, good: int = 12, defective: int = 6
) -> None:
    """Write the data set into a new or empty directory.

    `train` and `good` count images per category, `defective` images per category and kind of defect.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise SIVTError(
            f"{root} is not an empty directory, and demo data must not mix with other files: name a new one"
        )
    counts = (("train", train, 1), ("good", good, 1), ("defective", defective, 1))
    for name, value, least in (("seed", seed, 0), ("size", size, SMALLEST), *counts):
        if value < least:
            raise SIVTError(f"{name} {value} is too small for demo data: give {least} or more")
    for category in PAINTERS:
        for split, count in (("train", train), ("test", good)):
            for index in range(count):
                key = f"{category}/{split}/good/{index:03}"
                save(root / f"{key}.png", picture(category, None, seed, key, size))
        for defect in DEFECTS:
            for index in range(defective):
                key = f"{category}/test/{defect}/{index:03}"
                image, _, mask = defective_picture(category, defect, seed, key, size)
                save(root / f"{key}.png", image)
                save(root / category / "ground_truth" / defect / f"{index:03}_mask.png", mask)
