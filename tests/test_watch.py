"""What a training shows: losses by category, gradient norm, sheets of pictures; and where it stops by itself."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sivt_lightning.cli import main
from sivt_lightning.report.sheets import NARROW as GAP
from sivt_lightning.report.sheets import panel
from sivt_lightning.training.module import SIVT

RUN = Path("runs/tiny/version_0")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_losses_by_category_gradient_norm_and_panels(tiny_config: Path) -> None:
    shares = ["--data.val_share", "0.3", "--trainer.log_every_n_steps", "1"]
    panels = ["--panel.every_n_epochs", "2", "--panel.images", "4", "--trainer.max_epochs", "3"]
    assert main(["fit", "--config", str(tiny_config), *shares, *panels]) == 0
    with (RUN / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    validations = [row for row in rows if row["val/loss"]]
    assert len(validations) == 3
    for row in validations:  # both categories hold out three images
        by_category = [float(row[f"val/loss/{category}"]) for category in ("across", "down")]
        assert np.mean(by_category) == pytest.approx(float(row["val/loss"]), rel=1e-5)
        assert by_category[0] != by_category[1]
    norms = [float(row["train/grad_norm"]) for row in rows if row["train/grad_norm"]]
    assert len(norms) == 12  # four steps of up to four of 14 images, three epochs
    assert max(norms) > 1  # before it is clipped to 1
    board = EventAccumulator(str(RUN), size_guidance={"images": 0}).Reload()
    sheets = board.Images("held out, and with a defect")
    assert [sheet.step for sheet in sheets] == [8, 12]  # the second epoch and the last
    assert (sheets[0].width, sheets[0].height) == (4 * (32 + GAP) - GAP, 4 * (32 + GAP) - GAP)


def test_no_panels_where_none_are_wanted(tiny_config: Path) -> None:
    assert main(["fit", "--config", str(tiny_config), "--panel.every_n_epochs", "0", "--trainer.max_epochs", "1"]) == 0
    assert not EventAccumulator(str(RUN)).Reload().Tags()["images"]


def test_a_panel_shows_each_image_its_map_and_its_defective_twin() -> None:
    images, maps = np.zeros((4, 16, 16, 3), np.float32), np.zeros((4, 16, 16), np.float32)
    images[1], images[3], maps[3] = 0.5, 1.0, 30.0
    masks = np.zeros((2, 16, 16), bool)
    masks[1, 4:12, 4:12] = True
    sheet = panel(images, maps, masks, pixel_threshold=10.0)
    assert sheet.shape == (16 + GAP + 16, 4 * (16 + GAP) - GAP, 3)
    below = sheet[16 + GAP :]
    assert (sheet[:16, :16] == 0).all()
    assert (below[:16, :16] == 128).all()  # the second image
    assert (below[0, 2 * (16 + GAP)] == 255).all()  # its twin
    assert (below[8, 2 * (16 + GAP) : 2 * (16 + GAP) + 16] == (0, 255, 255)).all(-1).any()  # outlined
    assert below[8, 3 * (16 + GAP) + 8, 0] > below[8, 16 + GAP + 8, 0] + 100  # the twin's map is hot


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [2, 5])  # within an epoch, and its last: no checkpoint may follow
def test_a_loss_that_is_no_number_stops_the_training(
    step: int, value: float, tiny_config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, seen = SIVT.training_step, []

    def broken(self: SIVT, batch, batch_idx: int) -> torch.Tensor:  # type: ignore[no-untyped-def]
        seen.append(batch.index.tolist())
        loss = train(self, batch, batch_idx)
        return loss * value if len(seen) == step else loss

    monkeypatch.setattr(SIVT, "training_step", broken)
    assert main(["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1"]) == 1
    output = capsys.readouterr().err
    assert f"The loss is {value} at step {step} (epoch 1)" in output
    assert output.count(".png") == len(seen[step - 1])
    assert not (RUN / "checkpoints").exists()
