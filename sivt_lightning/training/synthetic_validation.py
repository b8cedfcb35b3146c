"""Validation scores without labels: how well held-out images are told from the same with a synthetic defect."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from sivt_lightning.data.datamodule import SIVTDataModule, data_of
from sivt_lightning.data.synthetic import with_defect
from sivt_lightning.errors import NOT_FINITE, Agreed, SIVTError
from sivt_lightning.evaluation.metrics.figures import Ranking
from sivt_lightning.evaluation.metrics.intervals import of_images
from sivt_lightning.evaluation.metrics.ranking import PixelRanking
from sivt_lightning.features.fill import single_threads
from sivt_lightning.processes import gather
from sivt_lightning.seeding import generator_for

FIGURE = "val/synthetic_auroc"
PIXEL_FIGURE = "val/synthetic_pixel_ap"


class Twin(NamedTuple):
    """A held-out image with a synthetic defect."""

    position: int  # of the image in val_set
    kept: Tensor  # uint8 image, or its features
    mask: Bool[Tensor, "S S"]  # True where it was changed


class SyntheticValidation(Callback):
    """Logs image AUROC and pixel AP of the held-out images against their defective twins, means over the categories.

    The twins are drawn from (seed, image, number), the same ones in every epoch, process and restart. They are made at
    the first validation and kept, as features where the data module keeps features.

    Args:
        per_image: twins of each held-out image; 0 for none, and no score.
    """

    def __init__(self, per_image: int = 1) -> None:
        if per_image < 0:
            raise SIVTError(f"synthetic.per_image is {per_image}: give 0 or more defective twins of each image.")
        self.per_image = per_image
        self.twins: list[Twin] | None = None

    def state_dict(self) -> dict[str, Any]:
        """What a score is compared with later ones by."""
        return {"per_image": self.per_image}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation. Every process has a metric of every category, whether it meets one or not."""
        data = data_of(trainer)
        self.normal: dict[int, float] = {}
        self.finite = True  # whether all maps are; told at the end, when every process can stop with the others
        self.pixels = {category: PixelRanking() for category in sorted({s.category for s in data.val_set.samples})}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep scores and maps of the images as they are."""
        if self._is_on(trainer):
            indices = batch.index.tolist()
            self.normal |= dict(zip(indices, outputs.score.float().tolist(), strict=True))
            self._add(data_of(trainer), indices, outputs.map, torch.zeros(outputs.map.shape, dtype=torch.bool))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the twins, and compare."""
        if not self._is_on(trainer):
            return
        data = data_of(trainer)
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            if self.twins is None:
                self.twins = self._make(pl_module, data)
            twins = self._scores(pl_module, data)
        parts = gather((list(self.normal.items()), twins))
        if not all(gather(self.finite)):
            raise Agreed(f"An anomaly map of a held-out image is {NOT_FINITE}")
        every = [[pair for part in parts for pair in part[defective]] for defective in (0, 1)]
        pl_module.log(FIGURE, self._auroc(data, *every), sync_dist=True)
        pl_module.log(PIXEL_FIGURE, self._pixel_ap(), sync_dist=True)

    def _is_on(self, trainer: Trainer) -> bool:
        return self.per_image > 0 and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking

    def _make(self, module: Any, data: SIVTDataModule) -> list[Twin]:
        """Of the images that this process has just validated."""

        def make(i: int) -> list[Twin]:
            photo, made = data.val_set.photo(i), []
            for number in range(self.per_image):
                # The last number sets these numbers apart from those of partitions and augmentations.
                generator = generator_for(module.settings.seed, i, number, 2)
                defective, mask = with_defect(photo, data.image_size, generator)
                twin = (defective * 255).round().byte()
                if data.cache != "off":  # in float32, as the features of the images that they are compared with
                    twin = module.frozen_features(_pixels([twin], module.device))[0].float().cpu()
                made.append(Twin(i, twin, mask))
            return made

        with single_threads(torch.get_num_threads()) as pool:
            return [twin for twins in pool.map(make, sorted(self.normal)) for twin in twins]

    def _scores(self, module: Any, data: SIVTDataModule) -> list[tuple[int, float]]:
        assert self.twins is not None  # made before
        scores = []
        for start in range(0, len(self.twins), data.eval_batch_size):
            indices, kept, masks = zip(*self.twins[start : start + data.eval_batch_size], strict=True)
            if data.cache == "off":
                features = module.detector.features(_pixels(kept, module.device))
            else:
                features = torch.stack(list(kept)).to(module.device)
            detection, _ = module.detector.detect(features)
            scores += list(zip(indices, detection.score.tolist(), strict=True))
            self._add(data, indices, detection.map, torch.stack(list(masks)))
        return scores

    def _add(self, data: SIVTDataModule, indices: Sequence[int], maps: Tensor, masks: Tensor) -> None:
        if not maps.isfinite().all():
            self.finite = False
            return
        for i, anomaly_map, mask in zip(indices, maps, masks, strict=True):
            self.pixels[data.val_set.samples[i].category].update(anomaly_map[None], mask[None])

    def _pixel_ap(self) -> float:
        values = []
        for metric in self.pixels.values():
            metric.sync(dist_sync_fn=lambda state, group=None: gather(state))
            values.append(metric.figures()["ap"].value)
            metric.reset()
        return float(np.mean(values))

    def _auroc(self, data: SIVTDataModule, normal: list[tuple[int, float]], twins: list[tuple[int, float]]) -> float:
        scores: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        for defective, pairs in enumerate((normal, twins)):
            for i, score in pairs:
                scores[data.val_set.samples[i].category][defective].append(score)
        values = []
        for category in sorted(scores):
            account = of_images(*(np.array(part) for part in scores[category]))
            values.append(Ranking(account).auroc().value)
        return float(np.mean(values))


def _pixels(images: Sequence[Tensor], device: torch.device) -> Tensor:
    return torch.stack(list(images)).to(device).float() / 255
