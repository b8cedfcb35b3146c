"""The demo's large product: a circuit board, whose faults are 6 to 12 pixels long in a photo of 1024 x 1024.

Lengths are in pixels of that photo.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from numpy.random import Generator

from sivt_lightning.data.demo.drawing import Canvas, Colour, Plane, box, cloud, tint, tone, turned

LARGE = 8  # times as large as the photos of the other products
FAULTS = ("bridge", "missing_hole", "open", "solder_ball")

CELL = 256  # the board is made of squares; one in three holds a chip, the others traces
PITCH, OUTERMOST = 16, 4  # traces are numbered from -4 to 4
REACH = 104  # of a trace to both sides of its cell's centre; every other one is shorter by PITCH
NOWHERE = np.float32(CELL)  # far from any shape


class Board(NamedTuple):
    """Where each point lies: its cell, and from the centre of that `a` along the traces and `b` across them."""

    column: Plane
    row: Plane
    a: Plane
    b: Plane

    @classmethod
    def under(cls, u: Plane, v: Plane) -> "Board":
        column, row = np.floor(u / CELL), np.floor(v / CELL)
        u, v = u - (column + 0.5) * CELL, v - (row + 0.5) * CELL
        upright = (column + row) % 2 == 1
        return cls(column, row, np.where(upright, v, u), np.where(upright, u, v))

    @property
    def chip(self) -> Bool[np.ndarray, "y x"]:
        return (self.column - self.row) % 3 == 0


class Outlines(NamedTuple):
    """Of copper lines, of the drilled pads at their ends, and of a ball of solder; negative inside."""

    line: Plane
    pad: Plane
    hole: Plane
    ball: Plane


def paint_circuit(rng: Generator, canvas: Canvas, flaw: Generator, fault: str | None) -> Colour:
    """Traces under green lacquer, pads and chips; the board is held in its place, to a pixel or two.

    Faults: copper between two traces, a pad without its hole, a trace interrupted, a ball of solder.
    """
    dx, dy = (rng.uniform(-1.5, 1.5, 2) / LARGE).tolist()
    board = Board.under(*turned(canvas.x - dx, canvas.y - dy, rng.uniform(-0.002, 0.002), 1 / LARGE))
    line, pad, hole, ball = traces(board, flaw, fault)
    body, legs, printed = chips(board)
    gold, silver = tone(0.80, 0.66, 0.34), tone(0.66, 0.67, 0.67)
    laid = (
        (~board.chip, line, tone(0.40, 0.64, 0.36)),
        (~board.chip, pad, gold),
        (~board.chip, hole, tone(0.09, 0.08, 0.07)),
        (board.chip, legs, silver),
        (board.chip, body, tone(0.15, 0.15, 0.16)),
        (board.chip, printed, tone(0.55, 0.55, 0.53)),
        (~board.chip, ball, silver),
    )
    mottled = 1 + 0.05 * cloud(rng, len(canvas.x), 6) + 0.02 * cloud(rng, len(canvas.x), 90)
    colour = tone(0.10, 0.36, 0.20) * tint(rng, 0.05) * mottled
    for where, shape, substance in laid:
        cover = np.clip(0.5 - shape / (LARGE * canvas.step), 0, 1)
        covered = where & (cover > 0)  # a small part of the board
        colour[:, covered] += cover[covered] * (substance[:, 0] - colour[:, covered])
    return colour


def traces(board: Board, flaw: Generator, fault: str | None) -> Outlines:
    """As if each cell had some."""
    a, lane = board.a, board.b - np.clip(board.a, -PITCH, PITCH)  # the traces of a cell go aside in its middle
    number = np.clip(np.round(lane / PITCH), -OUTERMOST, OUTERMOST)
    across = np.abs(lane - PITCH * number) * np.where(np.abs(a) < PITCH, np.float32(0.71), np.float32(1))
    beyond = np.abs(a) - (REACH - PITCH * (number % 2))
    middle = np.hypot(beyond, across)
    line, pad, hole = np.maximum(across - 3, beyond), middle - 6, middle - 3.5
    ball = np.full_like(a, NOWHERE)
    if fault:
        cells = [(i, j) for i in range(-2, 2) for j in range(-2, 2) if (i - j) % 3]  # those without a chip
        i, j = cells[flaw.integers(len(cells))]
        here = (board.column == i) & (board.row == j)
        n, side = int(flaw.integers(-OUTERMOST, OUTERMOST)), 1 - 2 * int(flaw.integers(2))
        along = np.abs(a - side * flaw.uniform(28, 76))
        if fault == "bridge":
            copper = np.maximum(along - flaw.uniform(3, 4), np.abs(lane - PITCH * (n + 0.5)) - PITCH / 2)
            line = np.where(here, np.minimum(line, copper), line)
        elif fault == "missing_hole":
            hole = np.where(here & (number == n) & (a * side > 0), NOWHERE, hole)
        elif fault == "open":
            line = np.where(here & (number == n), np.maximum(line, flaw.uniform(3, 4.5) - along), line)
        else:
            oval = np.hypot(along, (board.b - flaw.uniform(-60, 60)) * flaw.uniform(1, 1.25))
            ball = np.where(here, oval - flaw.uniform(3.5, 5), NOWHERE)
    return Outlines(line, pad, hole, ball)


def chips(board: Board) -> tuple[Plane, Plane, Plane]:
    """Outlines of bodies, legs and print, as if each cell had a chip."""
    a, b = board.a, board.b
    legs = box(np.abs(a) - 46, b - 14 * np.clip(np.round(b / 14), -4, 4), 16.0, 3.0, 1.0)
    printed = np.minimum(box(a, np.abs(b) - 8, 24.0, 2.5, 0.5), np.hypot(a - 32, b - 54) - 5)
    return box(a, b, 46.0, 68.0, 3.0), legs, printed
