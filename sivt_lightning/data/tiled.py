"""Photos as the images that a training sees of them: as a whole, or one by one their tiles."""

from collections.abc import Sequence
from dataclasses import replace

from sivt_lightning.data.grid import Tiles
from sivt_lightning.data.samples import Sample, Tile
from sivt_lightning.data.survey import Header, read_headers, sizes
from sivt_lightning.errors import SIVTError
from sivt_lightning.processes import divide


def tiled(samples: Sequence[Sample], tiles: Tiles, size: int) -> tuple[list[list[Sample]], list[str]]:
    """Of each photo a sample for each image that tiles of `size` pixels make of it, and what to say of that.

    All processes call it together. Raises SIVTError where a photo that may be cut cannot be read.
    """
    if not tiles.cut:
        return [[sample] for sample in samples], []
    made: list[list[Sample]] = []
    said: dict[tuple[str, str, int], list[Header | None]] = {}
    for sample, header in zip(samples, divide(read_headers, [sample.path for sample in samples]), strict=True):
        if header is None:
            raise SIVTError(f"{sample.path} cannot be read, so it cannot be cut into tiles. Replace or remove it.")
        grid = tiles.grid((header.width, header.height), size)
        if grid.tiles == 1:
            made.append([sample])
            continue
        made.append([replace(sample, tile=Tile(grid, number)) for number in range(grid.images)])
        said.setdefault((sample.category, f"{len(grid.tops)} x {len(grid.lefts)}", grid.images), []).append(header)
    remarks = [
        f"{name}: {len(headers)} photos of {sizes(headers)} pixels are each cut into {shape} tiles of {size} x {size}, "
        f"and seen as a whole, too: {images} images each."
        for (name, shape, images), headers in said.items()
    ]
    return made, remarks
