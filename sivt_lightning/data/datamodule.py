"""The data module: folders in, batches out, the same ones whatever the number of workers."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from sivt_lightning.data.asked import Asked, predict_samples
from sivt_lightning.data.augment import Augmentation, Flip
from sivt_lightning.data.dataset import Batch, EvalSampler, ImageDataset, TrainSampler
from sivt_lightning.data.depth import Depth
from sivt_lightning.data.grid import TILE, Tiles
from sivt_lightning.data.identity import digest, split
from sivt_lightning.data.kept import KeptFeatures
from sivt_lightning.data.layouts import LayoutName, test_samples, train_samples
from sivt_lightning.data.lists import is_list
from sivt_lightning.data.loaders import Progress, TrainLoader, loader_settings, raise_errors, readers
from sivt_lightning.data.names import listed
from sivt_lightning.data.remote import RemotePath
from sivt_lightning.data.roi import FINER, Regions, regions_of, seen_of
from sivt_lightning.data.samples import Sample, hold_out
from sivt_lightning.data.survey import decide_depth
from sivt_lightning.data.tiled import tiled
from sivt_lightning.data.urls import common_folder, path_of
from sivt_lightning.errors import SIVTError
from sivt_lightning.features.store import FeatureBatch, FeatureDataset
from sivt_lightning.seeding import generator_for

CALIBRATION_IMAGES = 256


class SIVTDataModule(LightningDataModule):
    """Photos of one or many products, in any of the `layouts`.

    Args:
        root: folder of the categories, one category's folder, or a list of photos as CSV or JSON lines; needed to fit,
            validate and test. Here as in `predict_path` it may lie in a ZIP archive or behind s3:// or gs://.
        categories: names of the categories to use, such as [bolt,nut], or one name; null for all.
        layout: how the folders are laid out; null finds it by itself, for each category.
        image_size: images are resized to this many pixels in height and width.
        batch_size: images per training step and device.
        eval_batch_size: images per step and device in validation, test and prediction.
        num_workers: processes that read images; null for one per CPU, at most 8. 0 reads in the main process.
        val_share: share of each category's training images held out to choose the checkpoint, between 0 and 1; a
            category that has photos for validation holds out those.
        cache: "off" computes the backbone's features in every epoch. "memory" and "disk" do it once, before the first,
            each process for its share of the images, and keep them in float16, 0.6 MB an image at the default size: all
            of them in each process, or in files that all processes and later trainings share.
        cache_dir: folder of these files. It may be deleted at any time between trainings.
        rotation: largest random turn of a training image in degrees, either way.
        shift: largest random shift of a training image, as a share of its side.
        flip: mirror half of the training images: "horizontal" (left and right), "vertical", "both" or "none".
        light: largest random change of brightness and contrast of a training image, as a share.
        predict_path: folder of images (with sub-folders), or one image, or a list of these; needed to predict.
        depth: of photos of more than 8 bits, which do not say what white is: 8, 10, 12, 14 or 16 bits of their
            integers, "float" for decimals from 0 to 1, "float8" to "float16" for decimals that are such integers.
            "bytes" refuses them all. null decides by the training images, and a model keeps it.
        tiles: cut large photos into tiles of `image_size` that overlap, each seen like a photo, and the whole photo as
            one more: their number as ROWSxCOLUMNS, such as 3x1 for a tall strip; "auto" chooses it for each photo, so
            that no more than two of its pixels a side become one, up to 16 tiles; "1" cuts none. A training takes
            longer by the number of images that a photo becomes.
        seed: decides which images are held out and the order of training.

    After `setup`, `train_set` and `val_set` (with a sample for each tile), the photos in them as `train_photos` and
    `val_photos`, and `regions` of interest (fit, validate), `test_set` (test) or `predict_set` and `asked` (predict)
    are there, and in `remarks` sentences on what else lies in the folders, and on how photos are read.
    """

    train_set: ImageDataset
    val_set: ImageDataset
    train_photos: list[Sample]
    val_photos: list[Sample]
    test_set: ImageDataset
    predict_set: ImageDataset
    asked: Asked
    regions: Regions
    remarks: list[str]

    def __init__(
        self,
        root: str | None = None,
        categories: list[str] | str | None = None,
        layout: LayoutName | None = None,
        image_size: int = 256,
        batch_size: int = 8,
        eval_batch_size: int = 16,
        num_workers: int | None = None,
        val_share: float = 0.1,
        cache: Literal["off", "memory", "disk"] = "off",
        cache_dir: str = "runs/features",
        rotation: float = 0.0,
        shift: float = 0.0,
        flip: Flip = "none",
        light: float = 0.0,
        predict_path: list[str] | str | None = None,
        depth: Depth | None = None,
        tiles: str = "1",
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, low in (
            ("image_size", image_size, 1),
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            if value is not None and value < low:
                raise SIVTError(f"data.{name} is {value}, but must be {low} or more.")
        # Absolute, so that a checkpoint finds its data again from any directory.
        root = None if root is None else str(path_of(root).resolve())
        categories = listed(categories) if isinstance(categories, str) else categories
        self.root, self.categories, self.layout, self.predict_path = root, categories, layout, predict_path
        self.image_size, self.batch_size, self.eval_batch_size = image_size, batch_size, eval_batch_size
        self.num_workers, self.val_share, self.depth, self.seed = num_workers, val_share, depth, seed
        self.tiles = Tiles(tiles)
        if self.tiles.cut and image_size % TILE:
            raise SIVTError(
                f"data.tiles is {tiles}, but image_size {image_size} is no multiple of {TILE}: make it one."
            )
        self.augmentation = Augmentation(rotation, shift, flip, light).check()
        if self.augmentation and cache != "off":
            raise SIVTError(
                f"data.cache is {cache}, but features can be kept only while an image looks the same in every epoch: "
                "set data.cache to off, or data.rotation, shift, flip and light to nothing."
            )
        self._decides_depth = True
        self.regions = {}  # until photos are set up
        self.cache = cache
        self.kept = KeptFeatures(cache, Path(cache_dir).expanduser())
        self.progress = Progress()
        # With fewer images than devices some devices have none to evaluate.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        # For the checkpoint, not the logger, which refuses a name that the model's settings have with another value.
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str) -> None:
        """Find the samples of one stage: fit, validate, test or predict. Fit never looks at test images."""
        if stage in ("fit", "validate"):
            samples, self.remarks = train_samples(self.source, self.categories, self.layout)
            train, validation = hold_out(samples, self.val_share, self.seed)
            if self.depth is None and self._decides_depth:
                self.depth, remarks = decide_depth([*train, *validation])
                self.hparams["depth"] = self.depth  # for the checkpoint, as the other settings
                self.remarks += remarks
            self.train_photos, self.val_photos = train, validation
            self.folder_of([*train, *validation])  # is asked for later, and refuses photos that have none
            side = (FINER if self.tiles.cut else 1) * self.image_size  # tiles show more of a photo
            self.regions, remarks = regions_of([*train, *validation], side)
            self.remarks += remarks
            self.train_set, self.val_set = self._images_of_training()
            self.kept.begin(self.train_set, self.val_set)
        elif stage == "test":
            samples, self.remarks = test_samples(self.source, self.categories, self.layout)
            self.test_set = self.images_of(samples)
        elif stage == "predict":
            paths = [self.predict_path] if isinstance(self.predict_path, str) else self.predict_path or []
            if not (paths and all(paths)):  # an empty one, of a shell's unset variable, is not the working directory
                raise SIVTError("No images to predict. Set data.predict_path to a folder of images or to one image.")
            self.asked = predict_samples([path_of(path) for path in paths])
            self.remarks = self.asked.left_out
            self.predict_set = self.images_of(self.asked.samples)

    def _images_of_training(self) -> tuple[ImageDataset, ImageDataset]:
        """A sample for each tile that shows something of what is inspected."""
        photos = [*self.train_photos, *self.val_photos]
        every, remarks = tiled(photos, self.tiles, self.image_size, self.regions)
        self.remarks += remarks
        count = len(self.train_photos)
        train, held_out = (list(chain(*part)) for part in (every[:count], every[count:]))
        return self.images_of(train), self.images_of(held_out)

    def images_of(self, samples: Sequence[Sample], full_masks: bool = False, views: bool = False) -> ImageDataset:
        """These samples as the model sees them, with what else `ImageDataset` gives."""
        return ImageDataset(samples, self.image_size, full_masks, views, self.depth, self.tiles)

    def ask_of_test(self, full_masks: bool, views: bool) -> None:
        """Once the test is set up: what is read of its images beside what the model sees."""
        self.test_set = self.images_of(self.test_set.samples, full_masks, views)

    def ask_of_prediction(self, positions: Sequence[int], views: bool) -> None:
        """Once the prediction is set up: which of `asked.samples` are read, and what of them; others are done."""
        self.predict_set = self.images_of([self.asked.samples[i] for i in positions], views=views)

    def keep_depth(self) -> None:
        """Before `setup`: photos are read by `depth` as it stands, which for null decides none, as old models did."""
        self._decides_depth = False

    @cached_property
    def training_images(self) -> str:
        """Names the images of the training, held-out ones among them, by what they are."""
        return digest([*self.train_photos, *self.val_photos])

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order drawn from (seed, epoch)."""
        rank, world_size = self._place()
        sampler = TrainSampler(len(self.train_set), self.seed, rank, world_size)
        data = self.kept.or_images(self.train_set)
        loader = TrainLoader(data, sampler=sampler, **self._loader_settings(data, len(sampler), self.batch_size))
        if (trainer := self.trainer) is not None:
            loader.follow(self.progress, lambda: trainer.current_epoch)
        return loader

    def val_dataloader(self) -> DataLoader[Any]:
        """The held-out images, each once over all devices, in order.

        Raises SIVTError where a device would get none: it would never meet the others at their exchange of figures.
        """
        if len(self.val_set) < self._place()[1]:
            raise SIVTError(
                f"{len(self.val_set)} held-out images do not go round {self._place()[1]} processes. "
                "Raise data.val_share, or lower trainer.devices."
            )
        return self._eval_loader(self.kept.or_images(self.val_set))

    def test_dataloader(self) -> DataLoader[Any]:
        """The test images, each once over all devices, in order."""
        return self._eval_loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Any]:
        """The images to predict, each once over all devices, in order."""
        return self._eval_loader(self.predict_set)

    def state_dict(self) -> dict[str, Any]:
        """How far an epoch got, and by which images: a training goes on with the same ones only."""
        return {"epoch": self.progress.epoch, "seen": self.progress.images} | self._images()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises SIVTError where a training would go on with other images, some of them held out until now."""
        self.progress.set(state_dict["epoch"], state_dict["seen"])
        then, now = state_dict, self._images()
        if now and any(then[name] != value for name, value in now.items()):
            raise SIVTError(
                f"The training was begun with other images, {then['train']} and {then['held_out']} held out, than the "
                f"{now['train']} and {now['held_out']} that are there now in {self.root}: give it back its photos, "
                "data.categories and data.val_share, or start a new run from its weights with --model.init_from."
            )

    def _images(self) -> dict[str, Any]:
        if not hasattr(self, "train_set"):
            return {}
        train, held_out = self.train_photos, self.val_photos
        return split(self.folder_of([*train, *held_out]), train, held_out)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Stop at an unreadable image, except in prediction, which reports it and goes on."""
        if not (self.trainer is not None and self.trainer.predicting):
            raise_errors(batch)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment a training batch on the model's device, each image by (seed, epoch, image) alone."""
        trainer = self.trainer
        return self._augmented(batch, trainer.current_epoch) if trainer is not None and trainer.training else batch

    def _augmented(self, batch: Any, epoch: int) -> Any:
        if not self.augmentation:
            return batch
        # The last number sets these numbers apart from those of the image's partition.
        generators = [generator_for(self.seed, epoch, index, 1) for index in batch.index.tolist()]
        return batch._replace(images=self.augmentation(batch.images, generators))

    def inspected(self, data: ImageDataset, index: Sequence[int], epoch: int) -> Bool[Tensor, "B size size"]:
        """What is inspected of images at these positions of `train_set`, as an epoch shows them, or of `val_set`."""
        whole = torch.ones(self.image_size, self.image_size, dtype=torch.bool)
        regions = [self.region_of(data.samples[i]) for i in index]
        seen = torch.stack([whole if region is None else region for region in regions])
        moves = self.augmentation._replace(light=0.0)
        if data is not self.train_set or not moves:
            return seen
        generators = [generator_for(self.seed, epoch, i, 1) for i in index]  # as the images themselves were moved
        return moves(seen[:, None].expand(-1, 3, -1, -1).float(), generators)[:, 0] > 0.5

    def region_of(self, sample: Sample) -> Bool[Tensor, "size size"] | None:
        """What is inspected of this photo, or tile of one; None where its product has no region of interest."""
        region = self.regions.get(sample.category)
        return None if region is None else seen_of(region, sample.tile, self.image_size)

    def preprocessing(self) -> dict[str, Any]:
        """The settings that decide an image's pixels, apart from its file."""
        return {"image_size": self.image_size, "depth": self.depth}

    def keep_features(
        self,
        compute: Callable[[Float[Tensor, "1 3 size size"]], Float[Tensor, "1 C H W"]],
        shape: tuple[int, int, int],
        key: str,
    ) -> None:
        """Computes the features that `cache` keeps, before the first epoch; those on disk only where they are missing.

        Args:
            compute: features of an image, for several threads at a time.
            shape: (C, H, W).
            key: names all that features depend on, apart from the image file.

        Raises SIVTError at an unreadable image, and where memory or disk have no room.
        """
        on_cpu = self.trainer is None or self.trainer.strategy.root_device.type == "cpu"
        # As many as torch may use; where a GPU computes, as many as there would be processes to read.
        threads = torch.get_num_threads() if on_cpu else max(1, readers(self.num_workers, self._processes_here()))
        self.kept.fill(compute, shape, key, threads, self._processes_here())

    def _processes_here(self) -> int:
        return self.trainer.num_devices if self.trainer is not None else 1

    def calibration_batches(self) -> Iterator[Float[Tensor, "batch 3 size size"]]:
        """Up to 256 training images spread evenly over the sorted samples, the same ones on every device.

        Raises SIVTError at an unreadable image.
        """
        samples, length = self.train_set.samples, len(self.train_set)
        chosen = np.linspace(0, length - 1, min(CALIBRATION_IMAGES, length)).round().astype(int)
        return (batch.images for batch in self.batches([samples[i] for i in chosen]))

    def training_batches(self, positions: Sequence[int]) -> Iterator[Batch | FeatureBatch]:
        """Training images at these positions in their order, as the first epoch sees them, all on this process.

        Raises SIVTError at an unreadable image.
        """
        return (self._augmented(batch, 0) for batch in self._once(self.kept.or_images(self.train_set), positions))

    def batches(self, samples: Sequence[Sample]) -> Iterator[Batch]:
        """Photos as a model is given them, in their order, all on this process.

        Raises SIVTError at an unreadable image.
        """
        return self._once(self.images_of(samples), range(len(samples)))

    def _once(self, data: ImageDataset | FeatureDataset, positions: Sequence[int]) -> Iterator[Any]:
        settings = self._loader_settings(data, len(positions), self.eval_batch_size) | {"persistent_workers": False}
        for batch in DataLoader(data, sampler=positions, **settings):
            raise_errors(batch)
            yield batch

    def folder_of(self, samples: Sequence[Sample]) -> Path:
        """That all of them lie in or below: of the categories; or the closest that holds a list and its photos."""
        if not is_list(self.source):
            return self.source
        folders = [sample.path.parent for sample in samples]
        # A list of photos behind URLs may lie here.
        near = isinstance(self.source, RemotePath) == isinstance(folders[0], RemotePath)
        return common_folder(*[self.source.parent] * near, *folders)

    @property
    def source(self) -> Path:
        """Folder of the categories, or list. Raises SIVTError where none is set."""
        if self.root is None:
            raise SIVTError("No data to work on. Set data.root to the folder that holds the categories.")
        return path_of(self.root)

    def _place(self) -> tuple[int, int]:
        """(rank of this process, number of processes)."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _eval_loader(self, dataset: ImageDataset | FeatureDataset) -> DataLoader[Any]:
        sampler = EvalSampler(len(dataset), *self._place())
        settings = self._loader_settings(dataset, len(sampler), self.eval_batch_size)
        return DataLoader(dataset, sampler=sampler, **settings)

    def _loader_settings(self, data: ImageDataset | FeatureDataset, samples: int, batch_size: int) -> dict[str, Any]:
        return loader_settings(data, samples, batch_size, self.num_workers, self._processes_here())


def data_of(trainer: Trainer) -> SIVTDataModule:
    """The data module that a trainer runs with, for which Lightning has no typed name.

    Raises SIVTError where it is another, or none.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, SIVTDataModule):
        raise SIVTError(
            f"The trainer's data module is of type {type(data).__name__}, but photos are looked up in a "
            "SIVTDataModule: give the trainer one with datamodule=."
        )
    return data
