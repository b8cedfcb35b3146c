"""The demo's products: three textures and three objects, each with a structural fault of its own."""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from sivt_lightning.data.demo.drawing import (
    Canvas,
    Plane,
    Surface,
    box,
    either_way,
    lay,
    noise,
    posed,
    tint,
    tone,
    tray,
    turned,
)

# (scene, canvas, flaw, misplaced): draws a product; `misplaced` takes a part away or puts it in the wrong place.
Painter = Callable[[Generator, Canvas, Generator, bool], Surface]


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


def paint_leather(rng: Generator, canvas: Canvas, flaw: Generator, misplaced: bool) -> Surface:
    """Pebbled hide; misplaced: a fold, along which the grain is pressed together, or a patch set in askew."""
    fault = flaw.choice(["fold", "patch"]) if misplaced else ""
    flat, seam = patched(flaw, canvas) if fault == "patch" else (canvas, 1.0)
    x, y = flat.x, flat.y
    if fault == "fold":
        cx, cy = flaw.uniform(-30, 30, 2).tolist()
        a, b = turned(x - cx, y - cy, flaw.uniform(0, math.pi))
        near = np.exp(-((b / 3.5) ** 2)) * (np.abs(a) < flaw.uniform(26, 40))
        seam = 1 - 0.45 * near + 0.25 * np.exp(-(((b - 5) / 2.0) ** 2)) * (near > 0)
        y = y + 5 * near
    u, v = turned(x, y, rng.uniform(0, 2 * math.pi), rng.uniform(4.6, 5.6))
    u, v = u + rng.uniform(0, 64), v + rng.uniform(0, 64)
    bent_u, bent_v = u + 0.6 * noise(rng, u / 2, v / 2), v + 0.6 * noise(rng, u / 2, v / 2)
    pebbles = np.minimum(np.abs(noise(rng, bent_u, bent_v)), np.abs(noise(rng, bent_v * 0.9, bent_u * 0.9)))
    furrow = np.exp(-pebbles / 0.09)
    worn = 1 + 0.12 * noise(rng, u / 9, v / 9)
    hide = tone(0.52, 0.33, 0.21) * tint(rng, 0.06)
    return Surface(hide * ((1 - 0.5 * furrow) * worn * (1 + 0.05 * noise(rng, u * 3, v * 3)) * seam), canvas.margin)


def paint_tablet(rng: Generator, canvas: Canvas, flaw: Generator, misplaced: bool) -> Surface:
    """A coated tablet with a score line and four dots; misplaced: a chip broken off, a dot lost, or the line askew."""
    fault = str(flaw.choice(["chip", "dot", "line"])) if misplaced else ""
    u, v = posed(rng, canvas)
    shape = np.hypot(u, v) - 38
    dome = 1 - 0.22 * (np.hypot(u, v) / 38) ** 4
    coat = tone(0.80, 0.76, 0.62) * (dome * (1 + 0.03 * noise(rng, u / 3, v / 3)))
    if fault == "chip":
        at = flaw.uniform(0, 2 * math.pi)
        a, b = turned(u, v, at)
        gone = np.hypot(a - 40, b * flaw.uniform(0.7, 1.0)) - flaw.uniform(12, 15) * (
            1 + 0.25 * noise(flaw, u / 4, v / 4)
        )
        coat = coat * np.where(gone < 2.5, np.float32(0.62), np.float32(1))  # the core is darker than its coat
        shape = np.maximum(shape, -gone)
    ground = tray(rng, canvas, shape, tone(0.36, 0.42, 0.47))
    colour = lay(canvas, ground, shape, coat, 0.25)
    a, b = turned(u, v, either_way(flaw, 0.35, 0.7)) if fault == "line" else (u, v)
    printed = tone(0.40, 0.33, 0.30)
    colour = lay(canvas, colour, box(a, b, 31.0, 1.4, 1.0), printed)
    lost = int(flaw.integers(4)) if fault == "dot" else -1
    for corner in range(4):
        if corner != lost:
            down, right = (2 * side - 1 for side in divmod(corner, 2))
            colour = lay(canvas, colour, np.hypot(u - 14 * right, v - 14 * down) - 4.2, printed)
    return Surface(colour, -shape)


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


PAINTERS: dict[str, Painter] = {
    "fabric": paint_fabric,
    "gear": paint_gear,
    "leather": paint_leather,
    "module": paint_module,
    "tablet": paint_tablet,
    "wood": paint_wood,
}
