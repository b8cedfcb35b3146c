"""A picture of what the model sees at present, for TensorBoard."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from sivt_lightning.data.datamodule import data_of
from sivt_lightning.data.synthetic import twins
from sivt_lightning.errors import SIVTError
from sivt_lightning.model.detection import Detection
from sivt_lightning.report.sheets import panel
from sivt_lightning.seeding import generator_for


class Panel(Callback):
    """Every few epochs: held-out images and the same with a synthetic defect, each beside its anomaly map.

    Args:
        every_n_epochs: epochs between two pictures; the last epoch has one, too. 0 for none.
        images: how many images, spread evenly over the held-out ones.
    """

    def __init__(self, every_n_epochs: int = 5, images: int = 8) -> None:
        if every_n_epochs < 0 or images < 1:
            raise SIVTError("panel: give 0 or more for every_n_epochs, and 1 or more for images.")
        self.every_n_epochs, self.images = every_n_epochs, images

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the thresholds are set, which are the picture's colour scale."""
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        epoch = trainer.current_epoch + 1
        due = self.every_n_epochs and (epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs)
        fits = trainer.state.fn == "fit" and not trainer.sanity_checking
        if not (boards and due and trainer.is_global_zero and fits):
            return
        data = data_of(trainer)
        held_out = data.val_set.samples
        chosen = np.unique(np.linspace(0, len(held_out) - 1, min(self.images, len(held_out))).round().astype(int))
        photos, size = [data.val_set.photo(i) for i in chosen.tolist()], data.image_size
        regions = [data.region_of(held_out[i]) for i in chosen]
        pairs = (
            twins(photo, photos[i - 1], size, generator_for(i), region)
            for i, (photo, region) in enumerate(zip(photos, regions, strict=True))
        )
        good, bad, masks = zip(*pairs, strict=True)
        images = torch.stack([*good, *bad])
        module: Any = pl_module
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            parts = [module.detector(part) for part in images.to(module.device).split(data.eval_batch_size)]
        detection = Detection(*(torch.cat(of).cpu() for of in zip(*parts, strict=True)))
        maps = module.inspection.within(detection, [*regions, *regions]).map
        picture = panel(
            images.permute(0, 2, 3, 1).numpy(),
            maps.numpy(),
            torch.stack(masks).numpy(),
            module.thresholds.pooled.pixel,
        )
        for board in boards:
            board.experiment.add_image("held out, and with a defect", picture, trainer.global_step, dataformats="HWC")
