"""The demo's surface defects, which any product may have."""

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from sivt_lightning.data.demo.drawing import Canvas, Colour, Plane, Surface, either_way, noise, tone, turned

# (flaw, canvas, surface): spoils the finished surface of any product.
Blemish = Callable[[Generator, Canvas, Surface], Colour]


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


def crack(flaw: Generator, canvas: Canvas, surface: Surface) -> Colour:
    """A jagged dark line with a branch, open in its middle and closed at its ends."""
    u, v = spot(flaw, canvas, surface, 14.0)
    half, fork = flaw.uniform(16, 24), either_way(flaw, 0.5, 0.9)
    jag = 3.2 * noise(flaw, u / 5, np.zeros_like(v)) + 1.2 * noise(flaw, u / 1.6, np.ones_like(v))
    a, b = turned(u, v - jag, fork)
    width = 1.3 * np.clip(1 - np.abs(u) / half, 0, 1)
    branch = 0.9 * np.clip(1 - np.abs(a - 7) / 7, 0, 1)
    gap = np.maximum(width - np.abs(v - jag), branch - np.abs(b)) / canvas.step
    open_ = np.clip(gap + 0.5, 0, 1) * (np.maximum(width, branch) > 0.1) * np.clip(surface.depth, 0, 1)
    return surface.colour * (1 - 0.8 * open_)


def dent(flaw: Generator, canvas: Canvas, surface: Surface) -> Colour:
    """A round hollow, dark on the side towards the light and bright on the other."""
    u, v = spot(flaw, canvas, surface, 13.0)
    reach = flaw.uniform(8, 12)
    inside = np.hypot(u, v * flaw.uniform(1, 1.25)) / reach
    dy, dx = np.gradient(np.exp(-(inside**4)), canvas.step)
    facing = reach * (dx * canvas.light[0] + dy * canvas.light[1])
    return surface.colour * np.clip(1 + 0.5 * facing * np.clip(surface.depth / 2, 0, 1), 0.3, 1.7)


def stain(flaw: Generator, canvas: Canvas, surface: Surface) -> Colour:
    """A soft-edged, uneven blob of rust or paint."""
    u, v = spot(flaw, canvas, surface, 10.0)
    reach = flaw.uniform(10, 15) * (1 + 0.4 * noise(flaw, u / 9, v / 9))
    outline = np.hypot(u, v * flaw.uniform(1, 1.5)) - reach
    thickness = (0.77 + 0.1 * noise(flaw, u / 6, v / 6)) * np.clip(surface.depth, 0, 1)
    cover = thickness / (1 + np.exp(np.clip(outline / 0.9, -9, 9)))
    substance = tone(0.52, 0.12, 0.04) if flaw.random() < 0.5 else tone(0.06, 0.36, 0.12)
    return surface.colour + cover * (substance - surface.colour)


# None: the painter draws this one itself, since it changes the product's structure and not its surface.
DEFECTS: dict[str, Blemish | None] = {
    "crack": crack,
    "dent": dent,
    "misplaced": None,
    "scratch": scratch,
    "stain": stain,
}
