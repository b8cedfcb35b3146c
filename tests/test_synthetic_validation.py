"""The validation score from synthetic defects: the same in every epoch, process and restart, and what it may choose."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import rows_of, write_tiny_data
from forked import run_two
from lightning import LightningModule, Trainer
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.nn.functional import adaptive_max_pool2d

from sivt_lightning.cli import main
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.model.detection import Detection
from sivt_lightning.training.synthetic_validation import FIGURE, PIXEL_FIGURE, SyntheticValidation, lost_by_training


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def logged(run: str) -> list[dict[str, str]]:
    return [row for row in rows_of(Path("runs", run, "version_0", "metrics.csv")) if row["val/loss"]]


@pytest.mark.parametrize("cache", ["off", "memory", "disk"])
def test_it_is_logged_whatever_is_kept_and_is_the_same_each_time(cache: str, tiny_config: Path) -> None:
    arguments = ["fit", "--config", str(tiny_config), "--data.cache", cache, "--data.val_share", "0.3"]
    for run in ("one", "two"):
        assert main([*arguments, "--name", run]) == 0
    values = [float(row["val/synthetic_auroc"]) for row in logged("one")]
    assert len(values) == 2
    assert all(0 <= value <= 1 for value in values)
    assert logged("two")[1]["val/synthetic_auroc"] == logged("one")[1]["val/synthetic_auroc"]


def test_each_twin_is_made_by_one_thread(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that shared an operation would wait for one another, longest where other programs compute."""
    data = SIVTDataModule(str(tiny_data), image_size=32, cache="memory")
    data.setup("fit")
    used: list[int] = []

    def features(images: torch.Tensor) -> torch.Tensor:
        used.append(torch.get_num_threads())
        return images

    module = SimpleNamespace(settings=SimpleNamespace(seed=0), device=torch.device("cpu"), frozen_features=features)
    callback = SyntheticValidation(per_image=2)
    callback.positions = [1, 0]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        twins = callback._make(module, data)
    finally:
        torch.set_num_threads(before)
    assert [(twin.position, twin.defective) for twin in twins] == [
        (i, bad) for i in (0, 0, 1, 1) for bad in (False, True)
    ]
    assert used == [1] * 8


def test_it_chooses_best_ckpt_where_asked_and_ends_the_training(
    tiny_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.5, 0.9, 0.7, 0.8, 0.6])
    monkeypatch.setattr(SyntheticValidation, "_auroc", lambda *_: next(values))
    arguments = ["fit", "--config", str(tiny_config), "--trainer.max_epochs", "5", "--patience", "2"]
    assert main([*arguments, "--monitor", "val/synthetic_auroc", "--name", "a"]) == 0
    best = torch.load("runs/a/version_0/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == 1
    assert "val/synthetic_auroc has not got better for 2" in capsys.readouterr().out
    values_logged = [float(row["val/synthetic_auroc"]) for row in logged("a")]
    assert values_logged == pytest.approx([0.5, 0.9, 0.7, 0.8], abs=1e-6)


def test_pixels_may_choose_too(tiny_config: Path) -> None:
    arguments = ["fit", "--config", str(tiny_config), "--trainer.max_epochs", "3"]
    assert main([*arguments, "--monitor", "val/synthetic_pixel_ap", "--name", "a"]) == 0
    values = [float(row["val/synthetic_pixel_ap"]) for row in logged("a")]
    best = torch.load("runs/a/version_0/checkpoints/best.ckpt", weights_only=True)
    assert values[best["epoch"]] == max(values)


def test_without_twins_there_is_no_score(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", "--config", str(tiny_config), "--synthetic.per_image", "0", "--trainer.max_epochs", "1"]
    assert main(arguments) == 0
    assert "val/synthetic_auroc" not in logged("tiny")[0]
    for monitor in ("val/synthetic_auroc", "val/synthetic_pixel_ap"):
        assert main([*arguments, "--monitor", monitor]) == 1
        assert "give 1 or more" in capsys.readouterr().err
    with pytest.raises(SIVTError, match="per_image"):
        SyntheticValidation(-1)


class Probe(LightningModule):
    """Scores an image by its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.settings, self.inspection = SimpleNamespace(seed=3), Inspection()
        self.weight = torch.nn.Parameter(torch.ones(()))
        score = lambda images, _: Detection(images.mean((1, 2, 3)), images[:, 0])  # noqa: E731
        self.detector = SimpleNamespace(features=lambda x: x, detect=lambda x: (score(x, None), x), score=score)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.weight * 0

    def validation_step(self, batch: Any, batch_idx: int) -> Detection:
        return self.detector.score(batch.images, None)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_score_is_the_mean_of_each_categorys_auroc(tmp_path: Path) -> None:
    data = SIVTDataModule(str(write_tiny_data(tmp_path / "data")), image_size=32, val_share=0.5, num_workers=0)
    callback = SyntheticValidation(per_image=2)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, callbacks=[callback], **quiet)
    trainer.fit(Probe(), data)
    samples = data.val_set.samples
    assert callback.twins is not None
    assert [twin.position for twin in callback.twins] == [i for i in range(10) for _ in range(4)]
    assert not any(twin.mask.any() for twin in callback.twins if not twin.defective)
    expected, precision = [], []
    for category in ("across", "down"):
        own = [twin for twin in callback.twins if samples[twin.position].category == category]
        truth = [twin.defective for twin in own]
        scores = [float(twin.kept.float().mean() / 255) for twin in own]
        expected.append(roc_auc_score(truth, scores))
        pixels = torch.cat([twin.kept[0].flatten() / 255 for twin in own])
        precision.append(average_precision_score(torch.cat([twin.mask.flatten() for twin in own]), pixels))
    assert float(trainer.callback_metrics[FIGURE]) == pytest.approx(np.mean(expected), abs=1e-6)
    assert float(trainer.callback_metrics[PIXEL_FIGURE]) == pytest.approx(np.mean(precision), abs=1e-4)


def test_models_of_two_sizes_are_judged_by_the_same_defects(tmp_path: Path) -> None:
    root, masks = str(write_tiny_data(tmp_path / "data")), []
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    for size in (32, 64):
        data, callback = SIVTDataModule(root, image_size=size, val_share=0.5, num_workers=0), SyntheticValidation(2)
        trainer = Trainer(accelerator="cpu", max_epochs=1, num_sanity_val_steps=0, callbacks=[callback], **quiet)
        trainer.fit(Probe(), data)
        assert callback.twins is not None
        masks.append(torch.stack([twin.mask for twin in callback.twins]).float())
    assert torch.equal(masks[0], adaptive_max_pool2d(masks[1], 32))


def test_two_processes_log_the_score_of_one(tiny_config: Path) -> None:
    fit = ["fit", "--config", str(tiny_config), "--data.val_share", "0.3", "--trainer.max_epochs", "1"]
    two = ["--name", "two", "--data.batch_size", "2", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    run_two(*fit, *two)
    assert main([*fit, "--name", "one"]) == 0
    for figure, error in ((FIGURE, 1e-6), (PIXEL_FIGURE, 1e-4)):  # rounding may reorder two of 27,000 pixels
        one, both = (float(logged(run)[0][figure]) for run in ("one", "two"))
        assert both == pytest.approx(one, abs=error)


def test_a_run_goes_on_by_its_own_monitor_and_no_other(
    tiny_config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.9, 0.5, 0.6])
    monkeypatch.setattr(SyntheticValidation, "_auroc", lambda *_: next(values))
    assert main(["fit", "--config", str(tiny_config), "--monitor", "val/synthetic_auroc"]) == 0
    last = ["fit", "--ckpt_path", "runs/tiny/version_0/checkpoints/last.ckpt", "--trainer.max_epochs", "3"]
    assert main([*last, "--monitor", "val/loss"]) == 1
    assert "is judged by val/synthetic_auroc" in capsys.readouterr().err
    assert main(last) == 0
    best = torch.load("runs/tiny/version_0/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == 0
    assert best["training"]["monitor"] == "val/synthetic_auroc"


@pytest.mark.parametrize(
    ("values", "epoch"), [([0.2, 0.3, 0.28, 0.2], 2), ([0.2, 0.3, 0.26], None), ([0.1, 0.2], None), ([], None)]
)
def test_a_training_that_marks_ever_fewer_defects_is_told(
    values: list[float], epoch: int | None, tmp_path: Path
) -> None:
    rows = [f"{number},1.0,{value}\n{number},,\n" for number, value in enumerate(values)]
    (tmp_path / "metrics.csv").write_text("epoch,val/loss,val/synthetic_pixel_ap\n" + "".join(rows))
    said = lost_by_training(tmp_path / "metrics.csv")
    assert bool(said) == (epoch is not None)
    if epoch is not None:
        assert f"After epoch {epoch} " in said
        assert f"--trainer.max_epochs {epoch} may" in said
