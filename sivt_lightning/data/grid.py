"""How a large photo is cut into overlapping tiles, each seen by the network at its own size."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor

from sivt_lightning.data.images import to_tensor
from sivt_lightning.errors import SIVTError

# Lengths are counted in eighths of a tile's side, so that tiles begin at whole positions of the feature map.
TILE = 8
NEAREST, FARTHEST = 4, 7  # from one tile to the next: they overlap by an eighth to a half
SHRUNK = 2  # pixels of the photo to one of a tile: with more, what is small there is lost
SQUEEZED = 10  # a side of this length is squeezed into a tile rather than cut into two
MOST_TILES = 16  # by "auto"
MOST_GIVEN = 400  # 20 megapixels one to one in tiles of 256, 0.3 GB of images


class Grid(NamedTuple):
    """Where the tiles of a photo lie: it is resized to a canvas that they cover.

    More than one tile are followed by the whole photo, squeezed into one more: what is misplaced, or missing, is seen
    in no part of a photo alone.

    Args:
        tops: first rows of the tiles, in eighths of a tile's side.
        lefts: first columns, likewise.
    """

    tops: tuple[int, ...] = (0,)
    lefts: tuple[int, ...] = (0,)

    @property
    def tiles(self) -> int:
        """Tiles without the whole photo."""
        return len(self.tops) * len(self.lefts)

    @property
    def images(self) -> int:
        """That the network sees of the photo."""
        return self.tiles + (self.tiles > 1)

    def canvas(self, size: int) -> tuple[int, int]:
        """Height and width of what tiles of `size` pixels cover.

        >>> Grid((0, 6, 12)).canvas(256)
        (640, 256)
        """
        return (self.tops[-1] + TILE) * size // TILE, (self.lefts[-1] + TILE) * size // TILE

    def cut(self, photo: Image.Image, size: int) -> Float[Tensor, "images 3 {size} {size}"]:
        """Row by row, and last the whole."""
        whole = to_tensor(photo, size)
        if self.tiles == 1:
            return whole[None]
        canvas = to_tensor(photo, *self.canvas(size))
        return torch.stack([*(self.tile(canvas, size, number) for number in range(self.tiles)), whole])

    def image(self, photo: Image.Image, size: int, number: int) -> Float[Tensor, "3 {size} {size}"]:
        """One of what `cut` gives."""
        if self.is_whole(number):
            return to_tensor(photo, size)
        return self.tile(to_tensor(photo, *self.canvas(size)), size, number)

    def tile(self, canvas: Shaped[Tensor, "*C _ _"], size: int, number: int) -> Shaped[Tensor, "*C {size} {size}"]:
        """A part of what lies over the photo at the canvas's size."""
        row, column = divmod(number, len(self.lefts))
        y, x = (start * size // TILE for start in (self.tops[row], self.lefts[column]))
        return canvas[..., y : y + size, x : x + size]

    def is_whole(self, number: int) -> bool:
        """Whether this one of the images is the whole photo."""
        return self.tiles == 1 or number == self.tiles

    def piece(self, photo: Image.Image, number: int) -> Image.Image:
        """What a tile, or the last of the images, shows, in the photo's own pixels."""
        if self.is_whole(number):
            return photo
        row, column = divmod(number, len(self.lefts))
        high, wide = (ends[-1] + TILE for ends in self)
        top, left = self.tops[row], self.lefts[column]
        edges = (left / wide, top / high, (left + TILE) / wide, (top + TILE) / high)
        left, top, right, bottom = (round(edge * side) for edge, side in zip(edges, photo.size * 2, strict=True))
        return photo.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


class Tiles:
    """The setting `data.tiles`: "1" for none, "ROWSxCOLUMNS", or "auto".

    >>> Tiles("3x1").grid((500, 1260), 256)
    Grid(tops=(0, 6, 12), lefts=(0,))
    >>> [Tiles("auto").grid(size, 256).tiles for size in ((256, 256), (500, 1260), (1024, 1024))]
    [1, 3, 4]
    """

    def __init__(self, text: str) -> None:
        found = re.fullmatch(r"(\d{1,3})x(\d{1,3})", "1x1" if text == "1" else text)
        if text != "auto" and not (found and all(int(number) >= 1 for number in found.groups())):
            raise SIVTError(
                f"data.tiles is {text}: give 1 to see photos as a whole, the number of tiles as ROWSxCOLUMNS, such as "
                "3x1, or auto."
            )
        self.fixed = tuple(map(int, found.groups())) if found else None
        if self.fixed and math.prod(self.fixed) > MOST_GIVEN:
            raise SIVTError(
                f"data.tiles is {text}: more than {MOST_GIVEN} tiles of a photo take too much memory: give fewer."
            )
        self.text = text if self.cut else "1"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Tiles":
        """By the settings of the data in a model's file; those of earlier versions cut none."""
        return cls(str(data.get("tiles", "1")))

    @property
    def cut(self) -> bool:
        """Whether any photo may be."""
        return self.fixed != (1, 1)

    @property
    def most_images(self) -> int:
        """That the network may see of a photo."""
        tiles = MOST_TILES if self.fixed is None else math.prod(self.fixed)
        return tiles + (tiles > 1)

    def grid(self, photo: tuple[int, int], size: int) -> Grid:
        """Of a photo of this width and height, for tiles of `size` pixels.

        "auto" shows small things: no more than two of the photo's pixels a side become one, as far as 16 tiles do.
        Proportions are kept as far as the number of tiles lets them.
        """
        width, height = photo
        if not self.cut:
            return Grid()
        if self.fixed is None:
            rows, columns, scale = _found(width, height, size)
        else:
            rows, columns = self.fixed
            scale = min(_longest(rows) / height, _longest(columns) / width)
        return Grid(_starts(rows, scale * height), _starts(columns, scale * width))


def _found(width: int, height: int, size: int) -> tuple[int, int, float]:
    """Rows, columns, and eighths of a tile to one pixel of the photo."""
    scale = TILE / min(SHRUNK * size, width, height)
    while True:
        rows, columns = (1 + max(0, math.ceil((scale * side - SQUEEZED) / FARTHEST)) for side in (height, width))
        if rows * columns <= MOST_TILES:
            return rows, columns, scale
        scale /= 1.05


def _longest(tiles: int) -> int:
    return TILE + FARTHEST * (tiles - 1)


def _starts(tiles: int, length: float) -> tuple[int, ...]:
    """Of so many tiles, spread evenly over what comes closest to a length."""
    last = min(max(round(length) - TILE, NEAREST * (tiles - 1)), FARTHEST * (tiles - 1))
    return tuple(round(last * number / max(tiles - 1, 1)) for number in range(tiles))


def check_tiles(given: str, trained: Tiles) -> None:
    """Raises SIVTError where tiles are asked for that a model was not trained with: its scores are of its own."""
    if Tiles(given).text != trained.text:
        raise SIVTError(
            f"data.tiles is {given}, but the model was trained with {trained.text}, and its scores are of these: leave "
            f"it out, or train again with --data.tiles {given}."
        )
