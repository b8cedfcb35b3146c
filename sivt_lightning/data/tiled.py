"""Photos as the images that a training sees of them: as a whole, or one by one their tiles."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor

from sivt_lightning.data.grid import Grid, Tiles
from sivt_lightning.data.roi import Regions, seen_of
from sivt_lightning.data.samples import Sample, Tile
from sivt_lightning.data.survey import Header, read_headers, sizes
from sivt_lightning.errors import SIVTError
from sivt_lightning.processes import divide


def tiled(samples: Sequence[Sample], tiles: Tiles, size: int, regions: Regions) -> tuple[list[list[Sample]], list[str]]:
    """Of each photo a sample for each image that tiles of `size` pixels make of it, and what to say of that.

    Tiles that show nothing of a product's region of interest are left out.
    All processes call it together. Raises SIVTError where a photo that may be cut cannot be read.
    """
    if not tiles.cut:
        return [[sample] for sample in samples], []
    made: list[list[Sample]] = []
    said: dict[tuple[str, Grid, int], list[Header | None]] = {}
    for sample, header in zip(samples, divide(read_headers, [sample.path for sample in samples]), strict=True):
        if header is None:
            raise SIVTError(f"{sample.path} cannot be read, so it cannot be cut into tiles. Replace or remove it.")
        grid = tiles.grid((header.width, header.height), size)
        if grid.tiles == 1:
            made.append([sample])
            continue
        images = _shown(grid, regions.get(sample.category), size)
        made.append([replace(sample, tile=tile) for tile in images])
        said.setdefault((sample.category, grid, len(images)), []).append(header)
    remarks = [
        f"{name}: {len(headers)} photos of {sizes(headers)} pixels are each cut into {len(grid.tops)} x "
        f"{len(grid.lefts)} tiles of {size} x {size}, and seen as a whole, too: {images} images each"
        + (f", as {grid.images - images} show nothing of what is inspected." if images < grid.images else ".")
        for (name, grid, images), headers in said.items()
    ]
    return made, remarks


def _shown(grid: Grid, region: Bool[Tensor, "_ _"] | None, size: int) -> list[Tile]:
    """Images of a photo that a training sees, of which the whole is one."""
    every = [Tile(grid, number) for number in range(grid.images)]
    return [tile for tile in every if region is None or seen_of(region, tile, size).any() or tile == every[-1]]
