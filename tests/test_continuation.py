"""A training that goes on with other settings: each is applied or refused, and no image, rate or file goes astray."""

import copy
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Watched, rows_of, write_tiny_data
from forked import together
from PIL import Image, ImageOps

from sivt_lightning.cli import fit, main
from sivt_lightning.data import datamodule
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.dataset import TrainSampler
from sivt_lightning.data.identity import digest
from sivt_lightning.errors import SIVTError
from sivt_lightning.model.settings import ModelSettings
from sivt_lightning.training.continuation import FREE, IMAGES, LINKED, refuse_changes
from sivt_lightning.training.optimizer import ADAMW_SHARE, Schedule

LAST = Path("runs/tiny/version_0/checkpoints/last.ckpt")
GO_ON = ["fit", "--ckpt_path", str(LAST)]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def finished(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a run of two epochs was made."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "--config", str(tiny_config), "--patience", "5"]) == 0
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, here."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    return tmp_path / "runs/tiny/version_0"


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def last() -> dict[str, Any]:
    return torch.load(LAST, weights_only=True)


# --- images and rates


@pytest.mark.parametrize(("size", "counted"), [(6, True), (16, True), (2, False)])
def test_other_batches_show_each_image_of_the_epoch_once(
    size: int,
    counted: bool,
    tiny_config: Path,
    watched: Watched,
) -> None:
    watched.stop = 7  # two steps of the second epoch's five are done
    more = ["--trainer.max_epochs", "3", "--model.warmup", "0.2"]
    assert main(["fit", "--config", str(tiny_config), *more]) == 1
    if not counted:  # by an earlier version
        checkpoint = last()
        del checkpoint["SIVTDataModule"]
        torch.save(checkpoint, LAST)
    assert main([*GO_ON, "--data.batch_size", str(size)]) == 0
    for epoch in range(3):
        assert sorted(watched.images_of(epoch)) == list(range(18)), epoch
    rates = [rate for *_, rate in watched.steps]
    before, after, peak = rates[:7], rates[7:], max(rates)
    assert before[0] < before[2] <= peak  # 0.2 of 15 steps
    assert after == sorted(after, reverse=True)  # it never rises again
    step = 0.5 * peak * torch.pi / (0.8 * 15) * max(size / 4, 1)  # the steepest there is
    assert abs(after[0] - before[-1]) < 2 * step
    assert last()["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("length", "before", "after", "seen"), [(36, 1, 2, 12), (37, 2, 3, 10), (9, 4, 2, 8), (5, 1, 4, 4)]
)
def test_processes_share_what_is_left_of_an_epoch(length: int, before: int, after: int, seen: int) -> None:
    def order(processes: int, skip: int) -> list[list[int]]:
        shares = []
        for rank in range(processes):
            sampler = TrainSampler(length, 0, rank, processes)
            sampler.skip = skip
            shares.append(list(sampler))
        return shares

    first = [i for share in order(before, 0) for i in share[: seen // before]]
    rest = order(after, seen)
    assert len({len(share) for share in rest}) == 1  # none waits for another
    shown = [*first, *(i for share in rest for i in share)]
    if length - seen >= after:
        assert len(shown) == len(set(shown)) == length - (length - seen) % after
    else:
        assert len(rest[0]) == 1  # fewer than processes: repeated


def test_progress_counts_in_epochs_and_ends_at_one() -> None:
    plain = Schedule(100, float("inf"), 0.1, cosine=True)
    larger = Schedule(50, float("inf"), 0.1, cosine=True)  # of twice the batch, after 40 steps of the smaller one
    larger.ahead = 20 - 40
    for step in range(40, 71):
        assert larger(step) == pytest.approx(plain(40 + 2 * (step - 40)), abs=1e-12)
    assert [larger(step) for step in (70, 71, 100)] == [0, 0, 0]
    by_steps = Schedule(100, 60, 0.1, cosine=True)  # steps end it first
    by_steps.ahead = 30
    rates = [by_steps(step) for step in range(10, 70)]
    assert rates == sorted(rates, reverse=True)
    assert by_steps(60) == 0


# --- settings


def test_every_setting_is_applied_or_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(fit, "refuse_changes", lambda *args: asked.append(args))
    assert main([*GO_ON, "--trainer.max_epochs", "2"]) == 0  # nothing left, so settings are all that is looked at
    config, checkpoint, folder, recorded = asked[0]
    refuse_changes(config, checkpoint, folder, recorded)
    parts = (("model", ModelSettings), ("data", SIVTDataModule))
    every = {f"{part}.{key}" for part, made in parts for key in inspect.signature(made).parameters}
    assert every > FREE | IMAGES
    for name in every - LINKED:
        changed = copy.deepcopy(config)
        changed[name] = "another"
        if name in FREE | IMAGES:
            refuse_changes(changed, checkpoint, folder, recorded)
        else:
            with pytest.raises(SIVTError, match=rf"^{name} is another, .*leave the option out"):
                refuse_changes(changed, checkpoint, folder, recorded)
    for name, value in {
        "seed_everything": 3, "monitor": "val/synthetic_auroc", "trainer.limit_val_batches": 1, "name": "other",
        "trainer.overfit_batches": 1,
    }.items():  # fmt: skip
        changed = copy.deepcopy(config)
        changed[name] = value
        with pytest.raises(SIVTError, match=name):
            refuse_changes(changed, checkpoint, folder, recorded)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model.optimizer", "adamw"], "model.optimizer is adamw, but the run to go on with was begun with muon"),
        (["--model.image_size", "64"], "model.image_size is 64"),
        (["--model.smoothing_sigma", "1"], "model.smoothing_sigma is 1.0"),
        (["--seed_everything", "1"], "seed_everything is 1"),
        (["--name", "other"], "name is other, but a run goes on in its own folder, "),
        (["--trainer.limit_val_batches", "1"], "trainer.limit_val_batches is 1"),
        (["--trainer.overfit_batches", "1"], "trainer.overfit_batches is 1, but the run to go on with was begun with "),
        (["--data.categories", "[down]"], "begun with other images, 18 and 2 held out, than the 9 and 1"),
        (["--data.val_share", "0.3"], "give it back its photos"),
    ],
)
def test_a_setting_that_cannot_be_changed_gets_one_sentence(
    arguments: list[str], sentence: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    assert main([*GO_ON, "--trainer.max_epochs", "3", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("sivt: error: ")
    assert error.count("\n") == 1
    assert sentence in error
    kept = contents(run)
    assert all(kept[name] == before[name] for name in ("config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt"))


def test_rates_and_decay_given_anew_are_those_that_are_used(run: Path) -> None:
    given = ["--model.learning_rate", "0.004", "--model.weight_decay", "0.5", "--model.schedule", "constant"]
    assert main([*GO_ON, "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1", *given]) == 0
    groups = last()["optimizer_states"][0]["param_groups"]
    for group in groups:
        share = ADAMW_SHARE if group.get("use_fallback") else 1
        assert group["lr"] == group["initial_lr"] == pytest.approx(0.004 * share)
        assert group["weight_decay"] == 0.5
    rates = [float(row["lr-Muon/pg1"]) for row in rows_of(run / "metrics.csv") if row["lr-Muon/pg1"]]
    assert rates[-5:] == [0.004] * 5
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["learning_rate"] == 0.004
    assert last()["hyper_parameters"]["learning_rate"] == 0.004


def test_patience_given_anew_is_that_which_is_used(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stuck = ["--model.learning_rate", "1e-12", "--model.schedule", "constant", "--model.weight_decay", "0"]
    steady = [*stuck, "--model.warmup", "0", "--trainer.max_epochs", "6"]
    assert main(["fit", "--config", str(tiny_config), *steady, "--patience", "1"]) == 0
    ended = last()["epoch"]
    assert ended < 4
    capsys.readouterr()
    assert main(GO_ON) == 0
    assert "val/loss had not got better for 1 validations" in capsys.readouterr().out
    assert last()["epoch"] == ended
    assert main([*GO_ON, "--patience", "2"]) == 0
    assert last()["epoch"] == ended + 1


def test_a_finished_run_says_so_and_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    assert main(GO_ON) == 0
    output = capsys.readouterr().out
    assert "Nothing is left to train: its 2 epochs are done" in output
    assert f"sivt fit --ckpt_path {LAST} --trainer.max_epochs 4" in output
    assert contents(run) == before


def test_what_a_config_given_by_hand_leaves_open_stays_as_it_was(run: Path, tiny_config: Path) -> None:
    assert main([*GO_ON, "--config", str(tiny_config), "--trainer.max_epochs", "3"]) == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["patience"] == 5  # of the command line that began it


def test_images_that_came_later_are_refused_but_not_a_folder_that_was_moved(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tiny_data(tmp_path / "data", train=4)
    assert main(["fit", "--config", str(tiny_config), "--data.root", "data", "--trainer.max_epochs", "1"]) == 0
    data.rename("moved")
    more = [*GO_ON, "--trainer.max_epochs", "2", "--data.root", "moved"]
    photos = tmp_path / "moved/down/train/good"
    shutil.copy(photos / "001.png", photos / "100.png")
    assert main(more) == 1
    assert "begun with other images, 6 and 2 held out, than the 7 and 2" in capsys.readouterr().err
    (photos / "100.png").unlink()
    assert main(more) == 0


def repaint(root: Path) -> None:
    for path in root.glob("*/train/*/*.png"):
        with Image.open(path) as image:
            ImageOps.invert(image).save(path)


def test_photos_that_were_changed_under_their_names_are_refused(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, looked = write_tiny_data(tmp_path / "data", train=4), list[int]()
    monkeypatch.setattr(datamodule, "digest", lambda samples: looked.append(len(samples)) or digest(samples))
    assert main(["fit", "--config", str(tiny_config), "--data.root", "data", "--trainer.max_epochs", "1"]) == 0
    assert looked == [8]
    repaint(data)
    before = contents(LAST.parents[1])
    assert main([*GO_ON, "--trainer.max_epochs", "2"]) == 1
    assert f"Photos in {data} have changed since the training was begun" in capsys.readouterr().err
    kept = contents(LAST.parents[1])
    assert all(kept[name] == before[name] for name in ("config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt"))
    repaint(data)
    looked.clear()
    assert main([*GO_ON, "--trainer.max_epochs", "2"]) == 0
    assert looked == [8]  # once, for the check and for the next checkpoint
    checkpoint = last()
    del checkpoint["training"]["images"]  # of an earlier version
    torch.save(checkpoint, LAST)
    repaint(data)
    assert main([*GO_ON, "--trainer.max_epochs", "3"]) == 0


def test_processes_that_meet_changed_photos_end_together(tiny_config: Path, tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data", train=4)
    assert main(["fit", "--config", str(tiny_config), "--data.root", "data", "--trainer.max_epochs", "1"]) == 0
    repaint(data)
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    first, second = together(*GO_ON, "--trainer.max_epochs", "2", *two)
    assert "have changed since the training was begun" in first.stderr
    assert "changed" not in second.stderr
    assert (first.returncode, second.returncode) == (1, 0)


def test_a_run_of_an_earlier_version_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run / "config.yaml"
    settings = yaml.safe_load(config.read_text())
    assert settings.pop("false_alarms") == 0.05
    config.write_text(yaml.safe_dump(settings | {"threshold": {"quantile": 0.9}, "patience": 6}))
    checkpoint = last() | {"format_number": 1}
    checkpoint["callbacks"]["ThresholdCalibration"] = {"quantile": 0.9}
    torch.save(checkpoint, LAST)
    assert main([*GO_ON, "--trainer.max_epochs", "3"]) == 0
    said = "config.yaml has threshold.quantile, of an earlier version: false_alarms has taken its place.\n"
    assert said in capsys.readouterr().out
    now = yaml.safe_load(config.read_text())
    assert (now["false_alarms"], now["patience"]) == (0.05, 6)
    assert "threshold" not in now
    assert torch.load(LAST.with_name("best.ckpt"), weights_only=True)["calibration"]["false_alarms"] == 0.05


def test_another_share_of_false_alarms_is_that_of_the_model_from_then_on(run: Path) -> None:
    assert main([*GO_ON, "--trainer.max_epochs", "3", "--false_alarms", "0.2"]) == 0
    assert torch.load(LAST.with_name("best.ckpt"), weights_only=True)["calibration"]["false_alarms"] == 0.2


# --- thresholds


def test_no_checkpoint_holds_thresholds_of_other_weights(
    tiny_config: Path,
    watched: Watched,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rare = ["--trainer.max_epochs", "3", "--trainer.check_val_every_n_epoch", "2"]
    assert main(["fit", "--config", str(tiny_config), *rare]) == 0
    best = torch.load(LAST.with_name("best.ckpt"), weights_only=True)
    assert best["thresholds"] is not None
    assert (best["epoch"], last()["epoch"]) == (1, 2)
    assert last()["thresholds"] is None
    capsys.readouterr()
    assert main(["test", "--ckpt_path", str(LAST)]) == 0
    assert "holds no thresholds, so there are no verdicts" in capsys.readouterr().out
    assert main(["fit", "--ckpt_path", str(LAST), "--trainer.max_epochs", "4"]) == 0
    assert last()["thresholds"] is not None
    watched.stop = len(watched.steps) + 2
    assert main(["fit", "--ckpt_path", str(LAST), "--trainer.max_epochs", "6"]) == 1
    assert last()["global_step"] == 22
    assert last()["thresholds"] is None


@pytest.mark.parametrize("verb", ["test", "predict"])
@pytest.mark.parametrize("more", [[], ["--threshold", "5"]])
def test_a_map_of_another_kind_is_refused(
    verb: str, more: list[str], checkpoint: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = ["--data.predict_path", str(tiny_data / "down/test")] if verb == "predict" else []
    changed = ["--model.smoothing_sigma", "0", "--model.map_power", "1"]
    assert main([verb, "--ckpt_path", str(checkpoint), *photos, *changed, *more, "--output", "out"]) == 1
    assert "model.smoothing_sigma: a model and its thresholds are used as they were trained" in capsys.readouterr().err


def test_a_test_in_another_precision_says_what_its_thresholds_are_of(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [
        "--trainer.precision",
        "bf16-mixed",
        "--output",
        "out",
        "--eval.gallery",
        "false",
        "--eval.curves",
        "false",
    ]
    assert main(["test", "--ckpt_path", str(checkpoint), *other]) == 0
    assert "The thresholds were found in 32-true: in bf16-mixed scores differ" in capsys.readouterr().out
    assert json.loads(Path("out/metrics.json").read_text())["settings"]["test"]["precision"] == "bf16-mixed"
