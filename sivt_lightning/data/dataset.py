"""Samples to batches of tensors, and the order in which each process reads them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from sivt_lightning.data.depth import Depth
from sivt_lightning.data.grid import Grid, Tiles
from sivt_lightning.data.images import Photo, read_image
from sivt_lightning.data.masks import mask_to_tensor, of_one_shape, read_mask
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError

WHOLE = Tiles("1")
LONGEST_VIEW = 512  # pixels: two views fit a screen


class View(NamedTuple):
    """A photo as people see it."""

    photo: Image.Image  # upright RGB in its own proportions, its longer side at most LONGEST_VIEW
    size: tuple[int, int]  # width and height of the photo itself


class Item(NamedTuple):
    """One sample as pixels; see `Batch`."""

    images: Float[Tensor, "tiles 3 size size"]
    mask: Bool[Tensor, "height width"]
    position: int
    error: str
    view: View | None = None
    note: str = ""
    grid: Grid = Grid()


class Batch(NamedTuple):
    """What the model is given: pixels and no category, which one model for all categories must never see."""

    # RGB in [0, 1]; zeros where `errors` says why it could not be read. Of a photo that is cut, all of its `grid`.
    images: Float[Tensor, "images 3 size size"]
    masks: list[Bool[Tensor, "_ _"]]  # True where anomalous; all False without a mask file
    index: Int64[Tensor, " batch"]  # type: ignore[assignment]  # position in `samples`; hides tuple.index
    errors: list[str]  # a sentence for the user, "" where the image was read well
    views: list[View | None]  # None where none was asked for, or the image could not be read
    notes: list[str]  # what to know of how photo and mask were read, "" for nothing
    grids: list[Grid]  # how each photo is cut


class ImageDataset(Dataset[Item]):
    """Reads samples at `image_size` x `image_size` pixels, or in tiles of this size.

    An unreadable file does not raise here, because an exception that leaves a worker process reaches the user as a
    traceback: its sentence travels in `Item.error` instead.

    Args:
        full_masks: leave each mask, and for an image without one the image's, at its own size. By default it is
            resized to what the images cover.
        views: also give each photo as people see it, so that whoever draws it need not read the file again.
        depth: of photos of more than 8 bits.
        tiles: into which photos are cut.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        image_size: int,
        full_masks: bool = False,
        views: bool = False,
        depth: Depth | None = None,
        tiles: Tiles = WHOLE,
    ) -> None:
        self.samples = list(samples)
        self.image_size, self.depth, self.tiles = image_size, depth, tiles
        self.full_masks, self.views = full_masks, views
        self.decode: Callable[[Path, Depth | None], Photo] = read_image

    @contextmanager
    def photos_kept(self) -> Iterator[None]:
        """Within it, images of one photo that are asked for one after another decode it once."""
        self.decode = lru_cache(maxsize=2)(read_image)  # two, for threads that are at the last of one and at the next
        try:
            yield
        finally:
            self.decode = read_image

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        try:
            return self._read(self.samples[index], index)
        except SIVTError as error:
            size = self.image_size
            return Item(torch.zeros(1, 3, size, size), torch.zeros(size, size, dtype=torch.bool), index, str(error))

    def photo(self, index: int) -> Image.Image:
        """A sample's photo, or what its tile shows of it, as upright RGB at its own size.

        Raises SIVTError where it cannot be read.
        """
        sample = self.samples[index]
        photo = self.decode(sample.path, self.depth).image
        return photo if sample.tile is None else sample.tile.grid.piece(photo, sample.tile.number)

    def _read(self, sample: Sample, index: int) -> Item:
        image, note = self.decode(sample.path, self.depth)
        view = View(shrunk(image), image.size) if self.views else None
        if sample.tile is None:
            grid = self.tiles.grid(image.size, self.image_size)
            images = grid.cut(image, self.image_size)
        else:  # of a training, which looks at no mask
            grid, images = Grid(), sample.tile.grid.image(image, self.image_size, sample.tile.number)[None]
        mask, mask_note = self._mask(sample, image, grid)
        return Item(images, mask, index, "", view, " ".join(filter(None, (note, mask_note))), grid)

    def _mask(self, sample: Sample, image: Image.Image, grid: Grid) -> tuple[Bool[Tensor, "height width"], str]:
        if sample.mask_path is None:
            size = (image.height, image.width) if self.full_masks else grid.canvas(self.image_size)
            return torch.zeros(size, dtype=torch.bool), ""
        mask, note = read_mask(sample.mask_path)
        height, width = mask.shape
        # A mask may be smaller than its photo, but one of another shape is upside down, or another photo's.
        if not of_one_shape((width, height), image.size):
            raise SIVTError(
                f"{sample.mask_path} is {width} x {height} pixels, which is not the shape of its image {sample.path} "
                f"({image.width} x {image.height}). Replace the mask."
            )
        return torch.from_numpy(mask) if self.full_masks else mask_to_tensor(mask, *grid.canvas(self.image_size)), note


def shrunk(photo: Image.Image) -> Image.Image:
    """The photo, no larger than a view."""
    factor = LONGEST_VIEW / max(photo.size)
    if factor >= 1:
        return photo
    width, height = (max(1, round(side * factor)) for side in photo.size)
    # Whole pixels are averaged first, which takes a quarter of the time.
    return photo.resize((width, height), Image.Resampling.BOX, reducing_gap=1.0)


def collate(items: Sequence[Item]) -> Batch:
    """Stack items into one batch."""
    images, masks, positions, *rest = zip(*items, strict=True)
    errors, views, notes, grids = map(list, rest)
    return Batch(torch.cat(images), list(masks), torch.tensor(positions), errors, views, notes, grids)


class TrainSampler(Sampler[int]):
    """This process' share of a permutation drawn anew each epoch from (seed, epoch), whatever else draws numbers.

    All processes get equally many indices, so that none waits for another's gradient: the remainder of the permutation
    sits the epoch out, and a data set smaller than the number of processes is repeated. So it is with what is left of
    an epoch that goes on after an interruption, by as many processes as there are now.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.length, self.seed, self.rank, self.world_size = length, seed, rank, world_size
        self.epoch = 0
        self.skip = 0  # images at the epoch's start that all processes together saw before the training was interrupted

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.left(0)

    def left(self, skip: int) -> int:
        """Indices for each process once `skip` images have been seen."""
        return max((self.length - skip) // self.world_size, 1) if skip < self.length else 0

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch]))
        order = generator.permutation(self.length)[self.skip :]
        if len(order):
            order = np.resize(order, self.left(self.skip) * self.world_size)  # cuts, or repeats from the start
        return iter(order[self.rank :: self.world_size].tolist())


class EvalSampler(Sampler[int]):
    """Every `world_size`-th sample from `rank` on, in order: over all processes, each sample exactly once."""

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
