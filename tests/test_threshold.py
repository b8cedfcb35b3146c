"""Thresholds come from held-out normal images, and into the checkpoint of the weights they belong to."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.utils.data import DataLoader

from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.dataset import Item, collate
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.thresholds import ROUNDING, Threshold, Thresholds, threshold_of
from sivt_lightning.model.detection import Detection
from sivt_lightning.training.threshold_calibration import ThresholdCalibration

IMAGES, SIZE = 10, 16


class Probe(LightningModule):
    """Scores image k with k times its one weight, which grows by 1 in each of its epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.thresholds: Thresholds | None = None

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return -self.weight

    def validation_step(self, batch: Any, batch_idx: int) -> Detection:
        score = batch.index.float() * self.weight
        return Detection(score, score[:, None, None].expand(-1, SIZE, SIZE) * 10)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["thresholds"] = self.thresholds


class Data(SIVTDataModule):
    """Ten held-out images, the first seven of them bolts."""

    def __init__(self) -> None:
        super().__init__()
        black = torch.zeros(3, SIZE, SIZE), torch.zeros(SIZE, SIZE, dtype=torch.bool)
        self.items = [Item(*black, index, "") for index in range(IMAGES)]
        samples = [Sample(Path(f"{i}.png"), "bolt" if i < 7 else "nut") for i in range(IMAGES)]
        self.val_set = SimpleNamespace(samples=samples)  # type: ignore[assignment]

    def setup(self, stage: str) -> None:
        """There are no folders."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.items, 4, collate_fn=collate)

    val_dataloader = train_dataloader


def fit(model: Probe, folder: Path, *callbacks: Callback, epochs: int = 1) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(
        max_epochs=epochs, limit_train_batches=1, default_root_dir=folder, callbacks=[*callbacks], **quiet
    )
    trainer.fit(model, datamodule=Data())


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_quantile_outside_0_and_1_is_refused(quantile: float) -> None:
    with pytest.raises(SIVTError, match="between 0 and 1"):
        ThresholdCalibration(quantile)


def test_a_threshold_is_a_value_that_occurred_and_few_normal_images_exceed_it() -> None:
    scores = np.random.default_rng(0).random(997).astype(np.float32)
    threshold = threshold_of(scores, scores * 3, 0.95)
    above = 1 + ROUNDING
    assert threshold.image in scores.astype(float) * above
    assert 0.049 < (scores > threshold.image).mean() <= 0.05
    assert threshold.pixel == ((scores * 3).astype(float) * above)[scores.astype(float) * above == threshold.image]
    assert threshold_of(scores[:20], scores, 0.99).image == scores[:20].max() * above, "nobody among 20 may exceed it"


def test_last_digits_make_no_good_image_anomalous() -> None:
    """A part that looks like one held out, computed in a batch of another size."""
    score, pixels = np.float32(110.46836), np.linspace(0, 900, 64, dtype=np.float32)
    threshold = threshold_of(score[None], pixels, 0.99)
    for times in (1 + 2e-7, 1 - 2e-7, 1 + 2e-6):
        assert not score * times > threshold.image
        assert not (pixels * times > threshold.pixel).any()
    assert score * 1.0001 > threshold.image
    assert threshold_of(np.zeros(3), np.zeros(9), 0.99) == Threshold(0.0, 0.0, 3, [0.0, 0.0, 0.0])


def test_each_checkpoint_holds_the_thresholds_of_its_own_weights(tmp_path: Path) -> None:
    every = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", save_top_k=-1)
    above = 1 + ROUNDING
    # the checkpoint callback is named first, and still saves last
    fit(Probe(), tmp_path, every, ThresholdCalibration(0.5), epochs=3)
    for epoch in range(3):
        saved = torch.load(tmp_path / f"epoch={epoch}.ckpt", weights_only=False)
        weight = saved["state_dict"]["weight"].item()
        assert weight == 2 + epoch
        every, bolts, nuts = (
            Threshold(k * weight * above, 10 * k * weight * above, len(images), [i * weight for i in images])
            for k, images in ((5, range(10)), (3, range(7)), (8, range(7, 10)))
        )
        assert saved["thresholds"] == Thresholds(0.5, every, {"bolt": bolts, "nut": nuts})


def test_the_sanity_check_and_a_bare_validation_set_nothing(tmp_path: Path) -> None:
    seen = []

    class AfterSanityCheck(Callback):
        def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append(pl_module.thresholds)

    model, calibration = Probe(), ThresholdCalibration()
    fit(model, tmp_path, AfterSanityCheck(), calibration)
    assert seen == [None]
    assert model.thresholds is not None
    model.thresholds = None
    trainer = Trainer(accelerator="cpu", callbacks=[calibration], logger=False, enable_progress_bar=False)
    trainer.validate(model, datamodule=Data(), verbose=False)
    assert model.thresholds is None


def test_a_score_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    model = Probe()
    model.weight.data.fill_(float("nan"))
    with pytest.raises(SIVTError, match="not a finite number"):
        fit(model, tmp_path, ThresholdCalibration())
