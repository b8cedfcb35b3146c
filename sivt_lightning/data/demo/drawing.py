"""What the demo's products are drawn with: coordinates, noise, shapes, layers.

Lengths are in 1/128 of the image side, that is in pixels at the default size.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy.random import Generator
from PIL import Image

SIDE = 128.0  # length units across an image

Tone = Float32[np.ndarray, "3 1 1"]
Plane = Float32[np.ndarray, "y x"]  # on the oversampled canvas
Colour = Float32[np.ndarray, "3 y x"]


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
