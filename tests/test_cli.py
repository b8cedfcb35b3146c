"""The command line as its user meets it."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Watched, rows_of, write_tiny_data
from forked import run
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sivt_lightning.cli import compare, main
from sivt_lightning.data.demo import SMALLEST, write_demo_data
from sivt_lightning.evaluation.trained_model import TrainedModel
from sivt_lightning.inference.calibration import Calibration
from sivt_lightning.inference.formats import FORMAT
from sivt_lightning.training.run_folder import claim, give_back

REPOSITORY = Path(__file__).parents[1]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


@pytest.fixture(scope="session")
def trained(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a finished training."""
    folder = tmp_path_factory.mktemp("work")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["fit", "--config", str(tiny_config)]) == 0
    finally:
        os.chdir(before)
    return folder / "runs" / "tiny" / "version_0"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_fit_leaves_a_run_directory(trained: Path) -> None:
    assert (trained / "checkpoints" / "best.ckpt").stat().st_size < (
        trained / "checkpoints" / "last.ckpt"
    ).stat().st_size
    settings = yaml.safe_load((trained / "config.yaml").read_text())
    assert settings["model"]["groups"] == 4  # defaults are spelled out
    assert settings["trainer"]["gradient_clip_val"] == 1.0
    assert list(trained.glob("events.out.tfevents*"))
    logged = rows_of(trained / "metrics.csv")
    columns = set(logged[0])
    assert {"epoch", "step", "train/loss_epoch", "val/loss", "images_per_s", "lr-Muon/pg1"} <= columns
    losses = [float(row["val/loss"]) for row in logged if row["val/loss"]]
    assert len(losses) == 2
    assert losses[1] < losses[0]


def test_a_checkpoint_holds_what_test_and_predict_need(trained: Path) -> None:
    best = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["thresholds"]["pooled"]["images"] == 2  # one held out of each category's ten
    assert best["thresholds"]["quantile"] == 0.99
    assert best["precision"] == "32-true"
    assert best["state_dict"]["detector.partition"].dtype == torch.int64
    assert best["state_dict"]["detector.backbone.net.bn1.running_mean"].abs().max() > 0  # calibrated
    assert "optimizer_states" not in best  # weights only: a file to pass on
    assert best["hyper_parameters"]["backbone"] == "test_resnet"


def threshold_of(run: Path, product: str) -> float:
    stored = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["calibration"]
    return Calibration.from_plain(stored).products[product].score.threshold(stored["false_alarms"])


def test_fit_ends_with_a_calibration_of_the_best_model(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["--trainer.max_epochs", "1"]
    assert main(["fit", "--config", str(tiny_config), *one, "--false_alarms", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "Calibrating it with 2 good photos of 2 products, and 18 that it was trained on.\n" in printed
    assert "At most 10 % of good parts are to be called anomalous. For across, down that is an estimate" in printed
    run = Path("runs/tiny/version_0")
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["format_number"] == FORMAT
    assert best["calibration"]["false_alarms"] == 0.1
    scores = {name: product["score"] for name, product in best["calibration"]["products"].items()}
    assert {name: (score["held_out"], score["trained"]) for name, score in scores.items()} == {
        "across": (1, 9),
        "down": (1, 9),
    }
    assert "calibration" not in torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert yaml.safe_load((run / "config.yaml").read_text())["false_alarms"] == 0.1


def test_a_training_that_is_stopped_leaves_a_model_that_says_what_it_lacks(
    tiny_config: Path, tiny_data: Path, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.stop = 7  # in the second epoch
    assert main(["fit", "--config", str(tiny_config)]) == 1
    best = Path("runs/tiny/version_0/checkpoints/best.ckpt")
    assert "calibration" not in torch.load(best, weights_only=True)
    pooled = torch.load(best, weights_only=True)["thresholds"]["pooled"]["image"]
    capsys.readouterr()
    model = ["--ckpt_path", str(best)]
    assert main(["predict", *model, "--data.predict_path", str(tiny_data / "down"), "--output", "out"]) == 0
    assert "The model's file has no calibration, so no product is recognised" in capsys.readouterr().out
    for row in rows_of(Path("out/predictions.csv")):
        assert float(row["threshold"]) == pytest.approx(pooled, rel=1e-6)
        assert (row["product"], row["calibrated"]) == ("", "")
    assert main(["test", *model, "--eval.curves", "false", "--eval.gallery", "false"]) == 0
    assert "The model's file has no calibration" in capsys.readouterr().out
    assert "pooled_raw" not in json.loads(Path("runs/tiny/version_0/test/metrics.json").read_text())
    assert main(["calibrate", *model]) == 0  # as it says
    calibrated = str(best.with_stem("best-calibrated"))
    assert main(["test", "--ckpt_path", calibrated, "--eval.curves", "false", "--eval.gallery", "false"]) == 0
    assert "The model's file has no calibration" not in capsys.readouterr().out


def test_fit_says_the_next_command_and_trains_what_is_trainable(
    tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(tiny_config), "--name", "other", "--trainer.max_epochs", "1"]) == 0
    output = capsys.readouterr().out
    assert "on 18 images of 2 categories, 2 held out" in output
    assert "epoch 1/1  train/loss" in output
    assert "images/s" in output
    assert output.rstrip().endswith("FOLDER_OF_PHOTOS")
    assert "sivt test --ckpt_path runs/other/version_0/checkpoints/best.ckpt" in output


def test_test_needs_only_the_checkpoint(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--ckpt_path", str(trained / "checkpoints" / "best.ckpt")]) == 0
    figures = json.loads((trained / "test" / "metrics.json").read_text())
    assert {"categories", "mean", "pooled"} < set(figures)
    assert set(figures["categories"]) == {"across", "down"}
    kinds = {"image": ("auroc", "ap", "f1max"), "pixel": ("auroc", "ap", "f1max", "aupro")}
    assert set(figures["mean"]) == {f"{kind}_{name}" for kind, names in kinds.items() for name in names}
    used = {name: point["threshold"] for name, point in figures["operating_points"]["categories"].items()}
    assert used == {name: threshold_of(trained, name) for name in ("across", "down")}
    assert figures["operating_points"]["pooled"]["threshold"] is None  # one for all there is none
    assert figures["operating_points"]["pooled"]["recognised"] == 1.0
    assert figures["settings"]["model"]["width"] == 16
    assert figures["mean"]["image_auroc"] > 0.8  # a bright square on stripes is easy even for this tiny model
    assert (trained / "test" / "metrics.csv").is_file()
    assert (trained / "test" / "metrics.md").is_file()
    assert f"{figures['mean']['image_auroc']:.4f}" in capsys.readouterr().out


def test_predict_writes_scores_masks_and_overlays(trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    photos = tiny_data / "down" / "test"
    checkpoint = str(trained / "checkpoints" / "best.ckpt")
    assert main(["predict", "--ckpt_path", checkpoint, "--data.predict_path", str(photos)]) == 0
    rows = rows_of(tmp_path / "predictions" / "test" / "predictions.csv")
    assert [row["path"] for row in rows][:2] == ["good/000.png", "good/001.png"]
    assert list(rows[0])[:5] == ["path", "score", "threshold", "is_anomalous", "error"]
    threshold = threshold_of(trained, "down")
    for row in rows:
        assert row["product"] in ("down", "")  # nobody has told it; "" is an unknown one
        assert float(row["threshold"]) == pytest.approx(threshold, rel=1e-6)
        assert (row["verdict"] == "normal") == (row["is_anomalous"] == "false")
        assert row["verdict"] == "unknown" or (row["verdict"] == "anomalous") == (float(row["score"]) > threshold)
        assert row["overlay"] == f"overlays/{row['path'].removesuffix('.png')}.jpg"
        assert row["mask"] == f"masks/{row['path']}"
        assert (tmp_path / "predictions" / "test" / row["overlay"]).is_file()
        assert (tmp_path / "predictions" / "test" / row["mask"]).is_file()


def scores(folder: Path) -> dict[str, float]:
    return {row["path"]: float(row["score"]) for row in rows_of(folder / "predictions.csv")}


def test_scores_do_not_depend_on_batch_size_order_or_process(trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    arguments = ["predict", "--ckpt_path", str(trained / "checkpoints" / "best.ckpt"), "--data.predict_path"]
    assert main([*arguments, str(tiny_data), "--output", "whole"]) == 0
    assert main([*arguments, str(tiny_data), "--output", "single", "--data.eval_batch_size", "1"]) == 0
    reordered = tmp_path / "reordered"
    names = sorted(p.relative_to(tiny_data) for p in tiny_data.rglob("*.png"))
    for number, name in enumerate(reversed(names)):
        (reordered / f"{number:03d}").mkdir(parents=True)
        shutil.copy(tiny_data / name, reordered / f"{number:03d}" / name.name)
    run(*arguments, str(reordered), "--output", "other")
    whole, single = scores(tmp_path / "whole"), scores(tmp_path / "single")
    assert len(whole) == len(names)
    assert single == pytest.approx(whole, rel=1e-5)
    other = [scores(tmp_path / "other")[f"{n:03d}/{name.name}"] for n, name in enumerate(reversed(names))]
    assert other == pytest.approx([whole[name.as_posix()] for name in reversed(names)], rel=1e-5)


def test_flags_win_over_what_the_checkpoint_says(trained: Path, tmp_path: Path) -> None:
    other = write_tiny_data(tmp_path / "elsewhere", train=2, good=1, bad=2)
    checkpoint = str(trained / "checkpoints" / "best.ckpt")
    options = ["--data.root", str(other), "--data.categories", "[down]", "--output", "out"]
    assert main(["test", "--ckpt_path", checkpoint, *options]) == 0
    assert list(json.loads(Path("out/metrics.json").read_text())["categories"]) == ["down"]


def test_a_run_goes_on_in_its_own_directory_with_its_best_score(tiny_config: Path, tmp_path: Path) -> None:
    constant = ["--model.schedule", "constant", "--model.learning_rate", "0.003"]
    assert main(["fit", "--config", str(tiny_config), *constant]) == 0
    run = Path("runs/tiny/version_0")
    first = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    # Weights that are made worse before they go on: the best of before must stay the best.
    for value in first["state_dict"].values():
        if value.is_floating_point():
            value += 1
    torch.save(first, run / "checkpoints" / "last.ckpt")
    best = (run / "checkpoints" / "best.ckpt").read_bytes()
    arguments = ["--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--trainer.max_epochs", "3"]
    assert main(["fit", *arguments]) == 0  # no config: the run's own
    assert [p.name for p in Path("runs/tiny").iterdir()] == ["version_0"]
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert (first["epoch"], last["epoch"]) == (1, 2)
    losses = [float(row["val/loss"]) for row in rows_of(run / "metrics.csv") if row["val/loss"]]
    assert len(losses) == 3  # the log goes on, too
    assert losses[2] > losses[1]
    assert (run / "checkpoints" / "best.ckpt").read_bytes() == best
    statistics = "detector.standardize.mean"  # of the checkpoint, not measured again
    assert torch.equal(last["state_dict"][statistics], first["state_dict"][statistics])


def test_a_start_that_fails_takes_no_version(tiny_config: Path) -> None:
    assert main(["fit", "--config", str(tiny_config), "--data.root", "nowhere"]) == 1
    assert main(["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1"]) == 0
    assert [p.name for p in Path("runs/tiny").iterdir()] == ["version_0"]


@pytest.mark.parametrize("limit", [["--trainer.max_steps", "3"], ["--trainer.max_time", "00:00:00:00"]])
def test_a_training_that_ends_before_its_first_validation_is_no_success(
    limit: list[str], tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(tiny_config), *limit]) == 1
    assert "ended before its first validation, so there is no model" in capsys.readouterr().err


@pytest.mark.parametrize("setting", [["--trainer.num_sanity_val_steps", "2"], ["--trainer.overfit_batches", "2"]])
def test_lightnings_own_ways_of_trying_out_leave_a_model(setting: list[str], tiny_config: Path) -> None:
    assert main(["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1", *setting]) == 0
    best = torch.load("runs/tiny/version_0/checkpoints/best.ckpt", weights_only=True)
    assert best["thresholds"]["pooled"]["images"] == 2


def listing(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_command_writes_outside_its_folder(
    trained: Path, tiny_config: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.yaml", "metrics.csv", "hparams.yaml", "predictions.csv", "metrics.json", "experiment.json"):
        Path(name).write_text("the user's own")
    Path("rows.yaml").write_text(f"title: t\nconfig: {tiny_config}\nrows: {{one: null}}\n")
    before = listing(Path())
    # A process of its own is no different, and takes its time.
    monkeypatch.setattr(
        "sivt_lightning.experiment.laboratory._call", lambda folder, arguments: in_folder(folder, arguments)
    )

    def in_folder(folder: Path, arguments: list[str]) -> str:
        with contextlib.chdir(folder):
            return "" if main(arguments) == 0 else "it failed"

    best = ["--ckpt_path", str(trained / "checkpoints/best.ckpt")]
    fit, one = ["fit", "--config", str(tiny_config), "--data.cache", "disk"], ["--trainer.max_epochs", "1"]
    photos = ["--data.predict_path", str(tiny_data / "down/test"), "--writer.drift", "true"]
    elsewhere = ["--trainer.default_root_dir", "out/root", "--trainer.logger", "false"]
    commands = [
        [*fit, *one, "--trainer.logger", "false"],
        [*fit, *one, *elsewhere],
        ["fit", "--ckpt_path", "runs/tiny/version_0/checkpoints/last.ckpt", "--trainer.max_epochs", "2"],
        ["test", *best, "--trainer.logger", "true", "--output", "out/test"],
        ["predict", *best, *photos, "--trainer.logger", "true", "--trainer.enable_checkpointing", "true"],
        ["benchmark", *best, "--batch_sizes", "[1]", "--seconds", "0.01", "--json", "out/cost.json"],
        ["compare", "out/test", "out/test", "--output", "out/table.md"],
        ["experiment", "rows.yaml", "--root", str(tiny_data), "--output", "out/experiments"],
    ]
    Path("out").mkdir()
    for command in commands:
        assert main(command) == 0, command
    after = listing(Path())
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"runs", "predictions", "out"}
    assert {name: after[name] for name in before} == before
    assert not Path("runs/tiny/version_2").exists()


def test_starts_at_once_take_folders_of_their_own() -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: claim("same"), range(16)))
    assert sorted(map(str, folders)) == sorted(f"runs/same/version_{k}" for k in range(16))
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize("place", [{"SLURM_PROCID": "1"}, {"NODE_RANK": "1"}])
def test_ranks_of_other_programs_take_nothing_from_a_training_of_one_process(
    place: dict[str, str], tiny_config: Path
) -> None:
    run("fit", "--config", str(tiny_config), "--trainer.max_epochs", "1", **place)
    assert [path.name for path in Path("runs/tiny").iterdir()] == ["version_0"]
    assert Path("runs/tiny/version_0/checkpoints/best.ckpt").is_file()


def test_a_folder_that_cannot_be_written_is_one_sentence(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs").write_text("")
    assert main(["fit", "--config", str(tiny_config)]) == 1
    error = capsys.readouterr().err
    assert "Cannot write into runs/tiny: Not a directory. A run's folder is made in runs/" in error
    assert "--output" not in error


@pytest.mark.parametrize(("encoding", "code"), [("utf-16", 2), ("latin-1", 2), ("utf-8-sig", 0)])
def test_configs_of_any_editor(encoding: str, code: int, tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"# Prüfung\n{tiny_config.read_text()}"
    Path("mine.yaml").write_text(text, encoding=encoding)
    for option in (["--config", "mine.yaml"], ["--config=mine.yaml"])[: 1 if code == 0 else 2]:
        assert main(["fit", *option, "--trainer.max_epochs", "1"]) == code
        error = capsys.readouterr().err
        assert (
            code == 0
            or error == "sivt: error: config mine.yaml is no text in UTF-8: save it as UTF-8 in your editor.\n"
        )


def test_a_config_that_another_file_names_is_text_too(
    tiny_config: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text(tiny_config.read_text(), encoding="utf-16")
    Path("rows.yaml").write_text("title: t\nconfig: mine.yaml\nrows: {one: null}\n")
    assert main(["experiment", "rows.yaml", "--root", str(tiny_data), "--output", "out"]) == 1
    assert capsys.readouterr().err.startswith("sivt: error: A text file is no UTF-8 (")


def test_fit_never_touches_test_images(tiny_config: Path, tmp_path: Path) -> None:
    root = write_tiny_data(tmp_path / "data", train=4)
    for path in root.glob("*/test/*/*.png"):
        path.write_bytes(b"not an image")
    assert main(["fit", "--config", str(tiny_config), "--data.root", str(root), "--trainer.max_epochs", "1"]) == 0


def test_unreadable_images_are_reported_and_give_exit_code_3(trained: Path, tiny_data: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(tiny_data / "down" / "test" / "good", photos)
    (photos / "broken.png").write_bytes(b"\x89PNG nothing more")
    checkpoint = str(trained / "checkpoints" / "best.ckpt")
    assert main(["predict", "--ckpt_path", checkpoint, "--data.predict_path", str(photos)]) == 3
    rows = {row["path"]: row for row in rows_of(tmp_path / "predictions" / "photos" / "predictions.csv")}
    assert rows["broken.png"]["score"] == ""
    assert "broken.png" in rows["broken.png"]["error"]
    assert float(rows["000.png"]["score"]) > 0


def test_a_folder_whose_name_is_no_utf8_can_be_told(
    trained: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_data / "down" / "test" / "good", "Gr\udcf6\udcdfe")
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", screen)
    model = str(trained / "checkpoints" / "best.ckpt")
    assert main(["predict", "--ckpt_path", model, "--data.predict_path", "Gr\udcf6\udcdfe"]) == 0
    screen.flush()
    # As tables show it.
    assert r"Look at: predictions/Gr\xf6\xdfe/report.html" in screen.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_bfloat16_with_either_optimizer_and_gradients_clipped(tiny_config: Path, optimizer: str) -> None:
    precision = "bf16-mixed"
    arguments = ["--trainer.precision", precision, "--trainer.max_epochs", "1", "--model.optimizer", optimizer]
    assert main(["fit", "--config", str(tiny_config), *arguments]) == 0
    checkpoint = "runs/tiny/version_0/checkpoints/best.ckpt"
    assert torch.load(checkpoint, weights_only=True)["precision"] == precision
    assert main(["test", "--ckpt_path", checkpoint]) == 0


class Hostile:
    def __reduce__(self) -> tuple:
        return (Path("was_here").touch, ())


def write_bad_checkpoints() -> None:
    torch.save({"state_dict": {}}, "foreign.ckpt")
    torch.save({"state_dict": Hostile()}, "hostile.ckpt")
    Path("text.ckpt").write_text("hello")
    Path("in_config.yaml").write_text("ckpt_path: text.ckpt\ndata: {root: .}\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["test"], "add --ckpt_path"),
        (["test", "--ckpt_path", "absent.ckpt"], "no such file"),
        (["test", "--ckpt_path", "https://example.com/best.ckpt"], "local files only"),
        (["predict", "--ckpt_path", "foreign.ckpt"], "not a checkpoint of `sivt fit`"),
        (["predict", "--ckpt_path", "hostile.ckpt"], "not loaded"),
        (["predict", "--ckpt_path", "text.ckpt"], "not loaded"),
        (["predict", "--ckpt_path", "GOOD"], "data.predict_path"),
        (["predict", "--ckpt_path", "GOOD", "--data.predict_path", "nowhere"], "to a folder of images or to one image"),
        (["predict", "--ckpt_path", "GOOD", "--data.predict_path", ""], "No images to predict"),
        (["predict", "--ckpt_path", "GOOD", "--data.predict_path", "x" * 300], "File name too long. Name another."),
        (["test", "--ckpt_path", "GOOD", "--data.root", "nowhere"], "nowhere does not exist. Set data.root"),
        (["test", "--ckpt_path", "GOOD", "--trainer.precision", "16-mixed"], "needs a GPU"),
        (["fit", "--config", "TINY", "--data.root", "nowhere"], "nowhere does not exist. Set data.root"),
        (["fit", "--config", "TINY", "--trainer.precision", "16-mixed"], "needs a GPU"),
        (["fit", "--config", "TINY", "--model.heads", "3"], "3 heads"),
        (["fit", "--config", "TINY", "--model.backbone", "resnet19"], "did you mean"),
        (["fit", "--config", "TINY", "--model.weights", "nowhere.pth"], "there is no such file. Give the path"),
        (["fit", "--config", "TINY", "--model.learning_rate", "-1"], "give a positive number"),
        (["fit", "--config", "TINY", "--model.warmup", "1"], "from 0 to below 1"),
        (["fit", "--config", "TINY", "--model.pasted", "2"], "share of the images from 0 to 1"),
        (["fit", "--config", "TINY", "--model.latent_dropout", "1"], "share of the values from 0 to below 1"),
        (["fit", "--config", "TINY", "--model.cosine_weight", "-1"], "give 0 or a positive number"),
        (["fit", "--config", "TINY", "--trainer.max_epochs", "-1"], "set trainer.max_epochs to 1 or more"),
        (["fit", "--config", "TINY", "--name", "../up"], "use letters, digits, dots"),
        (["fit", "--ckpt_path", "GOOD"], "last.ckpt"),
        (["predict", "--ckpt_path", "GOOD", "--data.predict_path", ".", "--model.smoothing_sigma", "1"], "thresholds"),
        (["test", "--ckpt_path", "GOOD", "--model.width", "32"], "thresholds"),
        (["test", "--ckpt_path", "GOOD", "--config", "TINY"], "a model and its thresholds are used as they were"),
        (["fit", "--config", "TINY", "--trainer.precision", "64-true"], "choose one of"),
        (["fit", "--config", "TINY", "--trainer.accelerator", "abacus"], "You selected an invalid accelerator name"),
        (["fit", "--config", "TINY", "--model.patch_size", "0"], "choose one of [1, 2, 4]"),
        (["fit", "--config", "TINY", "--model.mlp_ratio", "-1"], "choose a positive ratio"),
        (["fit", "--config", "CKPT_IN_CONFIG"], "give it as --ckpt_path"),
        (["fit", "--trainer.max_epochs", "1"], "data.root"),
        (["fit", "--config", "TINY", "--false_alarms", "1"], "false_alarms is 1.0: give the share of good parts"),
        (["test", "--ckpt_path", "GOOD", "--false_alarms", "0"], "false_alarms is 0.0: give the share of good parts"),
        (["test", "--ckpt_path", "GOOD", "--threshold_by", "pooled"], "this model has no threshold for all"),
        (
            ["predict", "--ckpt_path", "GOOD", "--data.predict_path", "DATA", "--category", "up"],
            "no threshold for category 'up': the model knows across, down",
        ),
        (["fit", "--config", "TINY", "--trainer.max_epochs", "0"], "max_epochs is 0, which leaves no model"),
        (["fit", "--config", "TINY", "--trainer.max_steps", "0"], "max_steps is 0, which leaves no model"),
        (["fit", "--config", "TINY", "--trainer.limit_train_batches", "0"], "limit_train_batches is 0"),
        (["fit", "--config", "TINY", "--trainer.limit_val_batches", "0.0"], "limit_val_batches is 0.0"),
        (["fit", "--config", "TINY", "--trainer.fast_dev_run", "true"], "fast_dev_run is true"),
        (["fit", "--config", "TINY", "--trainer.barebones", "true"], "barebones is true"),
        (["fit", "--config", "TINY", "--trainer.enable_checkpointing", "false"], "enable_checkpointing is false"),
        (["fit", "--config", "TINY", "--trainer.check_val_every_n_epoch", "3"], "more than the 2 epochs"),
        (["fit", "--config", "TINY", "--trainer.val_check_interval", "0"], "val_check_interval is 0, which leaves no"),
        (["fit", "--config", "TINY", "--trainer.check_val_every_n_epoch", "0"], "check_val_every_n_epoch is 0"),
        (["fit", "--config", "TINY", "--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches is 0"),
        (["fit", "--config", "TINY", "--trainer.val_check_interval", "100"], "number of the training batches (5).\n"),
        (
            ["fit", "--config", "TINY", "--trainer.limit_val_batches", "0.001"],
            "Please increase the `limit_val_batches`",
        ),
        (
            ["fit", "--config", "TINY", "--trainer.devices", "many"],
            "`devices` selected with `CPUAccelerator` should be",
        ),
        (
            ["test", "--ckpt_path", "GOOD", "--seed_everything", "3"],
            "error: seed_everything is 3, but the checkpoint's",
        ),
        (["test", "--ckpt_path", "GOOD", "--trainer.limit_test_batches", "1"], "leaves images out"),
        (["test", "--ckpt_path", "GOOD", "--trainer.limit_test_batches", "0.5"], "leaves images out"),
        (["predict", "--ckpt_path", "GOOD", "--trainer.limit_predict_batches", "0"], "leaves images out"),
        (["predict", "--ckpt_path", "GOOD", "--trainer.fast_dev_run", "true"], "leaves images out"),
        (["demo-data", "."], "empty"),
    ],
)
def test_a_mistake_gets_one_sentence(
    arguments: list[str],
    sentence: str,
    trained: Path,
    tiny_config: Path,
    tiny_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_bad_checkpoints()
    known = {
        "GOOD": str(trained / "checkpoints" / "best.ckpt"),
        "TINY": str(tiny_config),
        "CKPT_IN_CONFIG": "in_config.yaml",
        "DATA": str(tiny_data),
    }
    assert main([known.get(a, a) for a in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("sivt: error: ")
    assert sentence in error
    assert "Traceback" not in error
    assert not Path("was_here").exists()
    assert not list(Path("runs").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give a command: fit, test, predict, compare"),
        (["fly"], "There is no command fly: there are fit, test"),
        (["predct"], "did you mean predict?"),
        (["fit", "--no_such_option", "1"], "There is no option --no_such_option. `sivt fit --help`"),
        (["fit", "--data.rot", "."], "did you mean --data.root"),  # no abbreviation of --data.rotation
        (["fit", "--model.widht", "3"], "did you mean --model.width"),
        (["fit", "--threshold.quantile", "0.9"], "There is no option --threshold.quantile"),
        (["fit", "--config", "misspelt.yaml"], "There is no option model.widht: did you mean model.width"),
        (["fit", "--config", "absent.yaml"], "absent.yaml"),
        (["fit", "--model.width", "wide"], "model.width is wide, but must be of type int."),
        (["fit", "--model.learning_rate", "nan"], "model.learning_rate is nan, which is no number: give a positive"),
        (["fit", "--config", "empty.yaml"], "config empty.yaml is empty: write"),
        (["fit", "--config", "list.yaml"], "config list.yaml holds no settings: write"),
        (["fit", "--config", "broken.yaml"], "config broken.yaml is no YAML: "),
        (["fit", "--seed_everything", "true"], "so that a run can be repeated"),
        (["fit", "--seed_everything", "-1"], "so that a run can be repeated"),
        (["fit", "--config"], "--config expected one argument"),
        (["fit", "--name", "-x"], "one that begins with a dash is given as --name=-NAME."),
        (["compare", "--figurs", "image_auroc", "a"], "did you mean --figures?"),
        (["demo-data"], "required: folder"),
    ],
)
def test_wrong_usage_gets_one_sentence_and_exits_with_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = {"misspelt": "model: {widht: 3}\n", "empty": "# none\n", "list": "- 1\n", "broken": "a: [1\n"}
    for name, text in configs.items():
        Path(f"{name}.yaml").write_text(text)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("sivt: error: ")
    assert error.count("\n") == 1
    assert sentence in error


def test_quiet_leaves_errors_alone_to_be_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = partial(write_demo_data, size=SMALLEST, train=1, good=1, defective=1)
    monkeypatch.setattr("sivt_lightning.cli.demo_data.write_demo_data", few)
    assert main(["demo-data", str(tmp_path / "data"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "data" / "gear").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert main(["--quiet", "test", "--ckpt_path", "absent.ckpt"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "absent.ckpt" in err


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_a_test_of_the_last_checkpoint_asks_for_no_callbacks_of_a_training(
    verb: str, trained: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    photos = ["--data.predict_path", str(tiny_data / "down/test")] if verb == "predict" else []
    last = str(trained / "checkpoints/last.ckpt")
    assert main([verb, "--ckpt_path", last, *photos, "--output", "out", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn if "callbacks" in str(warning.message)] == []


def test_an_epoch_without_a_last_one_is_numbered_alone(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = ["--trainer.max_epochs", "-1", "--trainer.max_steps", "5"]
    assert main(["fit", "--config", str(tiny_config), *steps]) == 0
    assert "\nepoch 1  train/loss" in capsys.readouterr().out


def test_an_error_in_a_step_is_not_taken_for_a_setting(tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a fault of the program")

    monkeypatch.setattr("sivt_lightning.training.module.SIVT.training_step", fail)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ValueError, match="a fault of the program"):
        main(["fit", "--config", str(tiny_config)])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_other_runs_of_a_name_stay_when_one_is_given_back() -> None:
    kept, failed = claim("same"), claim("same")
    give_back(failed)
    assert kept.is_dir()
    give_back(kept)
    assert not Path("runs").exists()


def test_debug_shows_where_an_error_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--ckpt_path", "absent.ckpt", "--debug"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith("`sivt fit` prints the path of the one it writes.\n")


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    command = f"{sys.executable} -m sivt_lightning fit --help | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: sivt")
    assert done.stderr == ""


@pytest.mark.parametrize("signalled", [KeyboardInterrupt, SIGTERMException])
def test_being_told_to_end_is_no_crash_and_no_success(
    signalled: type[BaseException], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(args: object) -> int:
        raise signalled

    monkeypatch.setattr(compare, "run", interrupted)
    assert main(["compare", "a"]) == 1
    assert capsys.readouterr().err == "sivt: Stopped.\n"


@pytest.mark.parametrize(
    ("verb", "sentence"), [("test", "no figures of a part"), ("predict", "the same command with --resume goes on")]
)
def test_sigterm_ends_a_test_and_a_prediction_as_ctrl_c_does(
    verb: str,
    sentence: str,
    trained: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step, before = getattr(TrainedModel, f"{verb}_step"), signal.getsignal(signal.SIGTERM)

    def terminated(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*given)

    monkeypatch.setattr(TrainedModel, f"{verb}_step", terminated)
    given = ["--output", str(tmp_path / "out"), "--data.predict_path", str(tiny_data)]
    assert main([verb, "--ckpt_path", str(trained / "checkpoints/best.ckpt"), *given]) == 1
    assert sentence in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_broken_training_image_stops_fit_with_its_name(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tiny_data(tmp_path / "data", train=8)
    (root / "down" / "train" / "good" / "003.png").write_bytes(b"")
    for workers in ("0", "1"):
        code = main(["fit", "--config", str(tiny_config), "--data.root", str(root), "--data.num_workers", workers])
        error = capsys.readouterr().err
        assert code == 1
        assert "003.png" in error
        assert "Traceback" not in error


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_trains_a_step(config: Path, two_images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config.read_text().startswith("# sivt fit --config configs/")  # opens with its command
    small = ["--data.batch_size", "1", "--data.eval_batch_size", "1", "--data.num_workers", "0"]
    limits = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1"]
    precision = ["--trainer.precision", "32-true", "--trainer.accelerator", "cpu"]
    data = ["--data.root", str(two_images), "--model.weights", "random", "--data.categories", "[down]"]
    assert main(["fit", "--config", str(config), *data, *small, *limits, *precision]) == 0
    assert f"runs/{config.stem}/version_0/checkpoints/best.ckpt" in capsys.readouterr().out
    if config.stem == "sivt":
        checkpoint = torch.load("runs/sivt/version_0/checkpoints/best.ckpt", weights_only=True)
        trained = {k: v for k, v in checkpoint["state_dict"].items() if k.startswith("detector.reconstructor.")}
        assert sum(v.numel() for v in trained.values()) == 14_595_248  # the paper's


def test_help_is_there() -> None:
    for arguments in (
        ["--help"],
        ["fit", "--help"],
        ["test", "--help"],
        ["predict", "--help"],
        ["demo-data", "--help"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0


def test_a_new_product_joins_a_trained_model(
    trained: Path, tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_tiny_data(tmp_path / "data")
    shutil.copytree(root / "down", root / "more")
    start = ["fit", "--model.init_from", str(trained / "checkpoints" / "best.ckpt")]
    settings = ["--data.root", str(root), "--data.batch_size", "4", "--trainer.accelerator", "cpu", "--name", "joined"]
    assert main([*start, *settings, "--trainer.max_epochs", "1"]) == 0  # no config: the model is that of the checkpoint
    assert "on 27 images of 3 categories" in capsys.readouterr().out
    joined = Path("runs/joined/version_0/checkpoints/best.ckpt")
    before, after = (torch.load(path, weights_only=True) for path in (trained / "checkpoints" / "best.ckpt", joined))
    assert after["hyper_parameters"]["width"] == 16
    assert after["thresholds"]["pooled"]["images"] == 3
    for name, value in before["state_dict"].items():
        if not name.startswith(("detector.reconstructor.", "detector.memory_bank.")):
            assert torch.equal(after["state_dict"][name], value), name  # statistics and backbone are not measured anew
    first_loss = [
        float(row["val/loss"]) for row in rows_of(Path("runs/joined/version_0/metrics.csv")) if row["val/loss"]
    ]
    fresh = [float(row["val/loss"]) for row in rows_of(trained / "metrics.csv") if row["val/loss"]]
    assert first_loss[0] < fresh[0]  # it starts from what was learned
    assert main(["test", "--ckpt_path", str(joined)]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model.width", "32"], "model.width is 32, but the model of init_from"),
        (["--model.heads", "2"], "model.heads is 2"),
        (["--model.groups", "3"], "model.groups is 3"),
        (["--model.init_from", "absent.ckpt"], "no such file"),
    ],
)
def test_a_model_starts_from_one_of_its_own_shape_only(
    arguments: list[str], sentence: str, trained: Path, tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["--model.init_from", str(trained / "checkpoints" / "best.ckpt"), "--config", str(tiny_config)]
    assert main(["fit", *start, *arguments]) == 1
    assert sentence in capsys.readouterr().err
