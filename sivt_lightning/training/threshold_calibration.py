"""Thresholds from the held-out normal images, so that a score can become a verdict."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from sivt_lightning.data.datamodule import data_of
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import Agreed, SIVTError
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.inference.photos import joined
from sivt_lightning.inference.thresholds import Held, held_of, thresholds_of
from sivt_lightning.model.detection import Detection
from sivt_lightning.processes import gather


class ThresholdCalibration(Callback):
    """Set the module's `thresholds` at the end of every validation of a fit.

    It acts in `on_validation_epoch_end`. ModelCheckpoint saves in `on_validation_end` or `on_train_epoch_end`, which
    Lightning calls later (and it calls checkpoint callbacks last in every hook), so a checkpoint that follows a
    validation holds the thresholds of the very weights it saves.

    Args:
        quantile: the share of normal images, and of their pixels, that may not be above the threshold.
    """

    def __init__(self, quantile: float = 0.99) -> None:
        if not 0 < quantile < 1:
            raise SIVTError(f"The quantile of the thresholds must lie between 0 and 1, both excluded; got {quantile}.")
        self.quantile = quantile
        self.held: dict[int, Held] = {}  # by place among the held-out images
        self.tiles: dict[int, Tensor] = {}  # residuals of those that are tiles of a photo

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation."""
        self.held, self.tiles = {}, {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep what is said of each image; the data module has stopped at an image that cannot be read."""
        if _calibrates(trainer):
            samples, places = data_of(trainer).val_set.samples, batch.index.tolist()
            cut = [row for row, place in enumerate(places) if samples[place].tile is not None]
            self.tiles |= {places[row]: outputs.residual[row].float().cpu() for row in cut}
            rows = [row for row in range(len(places)) if row not in cut]
            categories, regions = [samples[places[row]].category for row in rows], data_of(trainer).regions
            held = held_of(categories, outputs.score[rows], outputs.map[rows], regions)
            self.held |= dict(zip((places[row] for row in rows), held, strict=True))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the same thresholds on every process."""
        if not _calibrates(trainer):
            return
        module: Any = pl_module
        held = {place: image for part in gather(self.held) for place, image in part.items()}
        tiles = {place: residual for part in gather(self.tiles) for place, residual in part.items()}
        if tiles:
            held |= _of_photos(data_of(trainer).val_set.samples, tiles, module.inspection)
        self.held, self.tiles = {}, {}
        module.thresholds_step = trainer.global_step
        try:
            module.thresholds = thresholds_of(list(held.values()), self.quantile)
        except SIVTError as error:
            raise Agreed(str(error)) from error


def _of_photos(samples: Sequence[Sample], tiles: Mapping[int, Tensor], inspection: Inspection) -> dict[int, Held]:
    """Of each photo that was cut, at the place of the last of its images, the whole."""
    held, seen = {}, dict[int, Tensor]()
    for place, sample in enumerate(samples):
        if sample.tile is None or place not in tiles:
            continue
        grid, number = sample.tile
        seen[number] = tiles[place]
        if grid.is_whole(number):
            # Tiles that show nothing of what is inspected were left out, and count for nothing.
            residuals = [seen.get(tile, torch.zeros_like(tiles[place])) for tile in range(grid.images)]
            score, anomaly_map, residual = joined(torch.stack(residuals), grid, inspection.settings)
            whole = Detection(score[None], [anomaly_map], None, [residual])
            score, maps, *_ = inspection(whole, [sample.category])
            held[place] = held_of([sample.category], score, maps, inspection.regions)[0]
            seen = {}
    return held


def _calibrates(trainer: Trainer) -> bool:
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
