"""Validation scores without labels: how well good images are told from the same with a synthetic defect."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from sivt_lightning.data.datamodule import SIVTDataModule, data_of
from sivt_lightning.data.synthetic import twins
from sivt_lightning.errors import NOT_FINITE, Agreed, SIVTError
from sivt_lightning.evaluation.metrics.figures import Ranking
from sivt_lightning.evaluation.metrics.intervals import of_images
from sivt_lightning.evaluation.metrics.ranking import PixelRanking
from sivt_lightning.features.fill import single_threads
from sivt_lightning.files import read_csv
from sivt_lightning.processes import gather
from sivt_lightning.seeding import generator_for, integer

FIGURE = "val/synthetic_auroc"
PIXEL_FIGURE = "val/synthetic_pixel_ap"
LOST = 0.15  # of the pixel AP: several times what it sways by from epoch to epoch


class Twin(NamedTuple):
    """A held-out image, changed as another good one might be, or the same with a defect."""

    position: int  # of the image in val_set
    defective: bool
    kept: Tensor  # uint8 image, or its features
    mask: Bool[Tensor, "S S"]  # True where the defect shows


class SyntheticValidation(Callback):
    """Logs image AUROC and pixel AP of held-out images that were changed harmlessly, against the same with a synthetic
    defect, means over the categories.

    The twins are drawn from (seed, image, number), the same ones in every epoch, process and restart. They are made at
    the first validation and kept, as features where the data module keeps features.

    Args:
        per_image: pairs of twins of each held-out image; 0 for none, and no score.
    """

    def __init__(self, per_image: int = 1) -> None:
        if per_image < 0:
            raise SIVTError(f"synthetic.per_image is {per_image}: give 0 or more pairs of twins for each image.")
        self.per_image = per_image
        self.twins: list[Twin] | None = None

    def state_dict(self) -> dict[str, Any]:
        """What a score is compared with later ones by."""
        return {"per_image": self.per_image}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation. Every process has a metric of every category, whether it meets one or not."""
        data = data_of(trainer)
        self.positions: list[int] = []
        self.finite = True  # whether all maps are; told at the end, when every process can stop with the others
        self.pixels = {category: PixelRanking() for category in sorted({s.category for s in data.val_set.samples})}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Which images are this process's."""
        self.positions += batch.index.tolist()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the twins, and compare."""
        if not self._is_on(trainer):
            return
        data = data_of(trainer)
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            if self.twins is None:
                self.twins = self._make(pl_module, data)
            scores = self._scores(pl_module, data)
        every = [score for part in gather(scores) for score in part]
        if not all(gather(self.finite)):
            raise Agreed(f"An anomaly map of a held-out image is {NOT_FINITE}")
        pl_module.log(FIGURE, self._auroc(data, every), sync_dist=True)
        pl_module.log(PIXEL_FIGURE, self._pixel_ap(), sync_dist=True)

    def _is_on(self, trainer: Trainer) -> bool:
        return self.per_image > 0 and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking

    def _make(self, module: Any, data: SIVTDataModule) -> list[Twin]:
        """Of the images that this process has just validated."""

        def make(i: int) -> list[Twin]:
            made = []
            for number in range(self.per_image):
                # The last number sets these numbers apart from those of partitions and augmentations.
                generator = generator_for(module.settings.seed, i, number, 2)
                other = data.train_set.photo(integer(generator, 0, len(data.train_set) - 1))
                inspected = data.region_of(data.val_set.samples[i])
                good, bad, mask = twins(data.val_set.photo(i), other, data.image_size, generator, inspected)
                made += [Twin(i, False, keep(good), torch.zeros_like(mask)), Twin(i, True, keep(bad), mask)]
            return made

        def keep(image: Tensor) -> Tensor:
            pixels = (image * 255).round().byte()
            if data.cache == "off":
                return pixels
            return module.frozen_features(_pixels([pixels], module.device))[0].float().cpu()

        with single_threads(torch.get_num_threads()) as pool:
            return [twin for made in pool.map(make, sorted(self.positions)) for twin in made]

    def _scores(self, module: Any, data: SIVTDataModule) -> list[tuple[int, bool, float]]:
        assert self.twins is not None  # made before
        scores = []
        for start in range(0, len(self.twins), data.eval_batch_size):
            indices, defective, kept, masks = zip(*self.twins[start : start + data.eval_batch_size], strict=True)
            if data.cache == "off":
                features = module.detector.features(_pixels(kept, module.device))
            else:
                features = torch.stack(list(kept)).to(module.device)
            detection, _ = module.detector.detect(features)
            regions = [data.region_of(data.val_set.samples[i]) for i in indices]
            detection = module.inspection.within(detection, regions)
            scores += list(zip(indices, defective, detection.score.tolist(), strict=True))
            self._add(data, indices, detection.map, torch.stack(list(masks)))
        return scores

    def _add(self, data: SIVTDataModule, indices: Sequence[int], maps: Tensor, masks: Tensor) -> None:
        if not maps.isfinite().all():
            self.finite = False
            return
        for i, anomaly_map, mask in zip(indices, maps, masks, strict=True):
            sample = data.val_set.samples[i]
            self.pixels[sample.category].update(anomaly_map[None], mask[None], data.region_of(sample))

    def _pixel_ap(self) -> float:
        values = []
        for metric in self.pixels.values():
            metric.sync(dist_sync_fn=lambda state, group=None: gather(state))
            values.append(metric.figures()["ap"].value)
            metric.reset()
        return float(np.mean(values))

    def _auroc(self, data: SIVTDataModule, every: Sequence[tuple[int, bool, float]]) -> float:
        scores: dict[str, tuple[list[float], list[float]]] = {category: ([], []) for category in self.pixels}
        for i, defective, score in every:
            scores[data.val_set.samples[i].category][defective].append(score)
        accounts = (of_images(*map(np.array, parts)) for parts in scores.values())
        return float(np.mean([Ranking(account).auroc().value for account in accounts]))


def _pixels(images: Sequence[Tensor], device: torch.device) -> Tensor:
    return torch.stack(list(images)).to(device).float() / 255


def lost_by_training(metrics: Path) -> str:
    """What to know of a training, by its metrics.csv, whose maps have come to mark fewer defects; or "".

    A model that learns for long on few photos begins to rebuild defects, too, and its loss does not tell.
    """
    rows = [row for row in read_csv(metrics) if row.get(PIXEL_FIGURE)] if metrics.is_file() else []
    values = [float(row[PIXEL_FIGURE]) for row in rows]
    best = max(range(len(values)), key=values.__getitem__, default=-1)
    if best < 0 or values[-1] >= (1 - LOST) * values[best]:
        return ""
    epoch = int(rows[best]["epoch"]) + 1
    return (
        f"After epoch {epoch} maps marked synthetic defects in held-out photos better (pixel AP {values[best]:.3f}) "
        f"than at the end ({values[-1]:.3f}): it has begun to rebuild defects, too. --trainer.max_epochs {epoch} may "
        "find more."
    )
