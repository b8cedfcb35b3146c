"""`sivt calibrate`: other good photos make other verdicts of the same weights."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import run
from PIL import Image

from sivt_lightning.cli import main
from sivt_lightning.inference.about import read_about
from sivt_lightning.inference.calibration import Calibration
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.inference.photo_lists import read_list
from sivt_lightning.inference.predictor import Predictor


def calibration_of(model: Path) -> Calibration:
    calibration = read_about(str(model)).calibration
    assert calibration is not None
    return calibration


@pytest.fixture(scope="module")
def before(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as an earlier version would have left it: with thresholds alone."""
    contents = read_checkpoint(str(checkpoint))
    path = tmp_path_factory.mktemp("before") / "old.ckpt"
    torch.save({name: value for name, value in contents.items() if name not in ("calibration", "format_number")}, path)
    return path


@pytest.fixture(scope="module")
def brighter(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good photos of one product under another lamp."""
    folder = tmp_path_factory.mktemp("brighter")
    (folder / "across").mkdir()
    for photo in (tiny_data / "across/train/good").iterdir():
        pixels = np.asarray(Image.open(photo)).astype(float) * 1.3
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "across" / photo.name)
    return folder


def test_fit_ends_with_a_calibration(checkpoint: Path) -> None:
    calibration = calibration_of(checkpoint)
    assert calibration.products.keys() == {"across", "down"}
    assert calibration.false_alarms == 0.05
    assert [(p.score.held_out, p.score.trained) for p in calibration.products.values()] == [(1, 9), (1, 9)]


def test_an_older_checkpoint_gets_the_calibration_that_fit_would_have_given(
    before: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    target = tmp_path / "new.ckpt"
    assert main(["calibrate", "--ckpt_path", str(before), "--output", str(target)]) == 0
    said = capsys.readouterr().out
    assert "2 good photos of 2 products, and 18 that it was trained on" in said
    ours, fits = calibration_of(target), calibration_of(checkpoint)
    for name, product in ours.products.items():
        assert product.score.threshold(0.05) == pytest.approx(fits.products[name].score.threshold(0.05), rel=1e-4)
    assert read_about(str(before)).calibration is None, "the file itself stays as it is"
    old, new = read_checkpoint(str(before)), read_checkpoint(str(target))
    assert all(torch.equal(new["state_dict"][name], value) for name, value in old["state_dict"].items())


def test_a_checkpoint_that_holds_nothing_is_calibrated(checkpoint: Path, tmp_path: Path) -> None:
    """Of a training that was stopped before its first validation, say: it knows no products yet."""
    bare, target = tmp_path / "bare.ckpt", tmp_path / "new.ckpt"
    torch.save(read_checkpoint(str(checkpoint)) | {"calibration": None, "thresholds": None}, bare)
    assert main(["calibrate", "--ckpt_path", str(bare), "--output", str(target)]) == 0
    assert calibration_of(target).products.keys() == calibration_of(checkpoint).products.keys()


def test_an_older_checkpoint_says_what_it_lacks(
    before: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = str(tiny_data / "across/test")
    predict = ["predict", "--ckpt_path", str(before), "--data.predict_path", photos, "--output", str(tmp_path / "out")]
    assert main(predict) == 0
    assert "`sivt calibrate --ckpt_path FILE` adds it" in capsys.readouterr().out
    assert main([*predict, "--overwrite", "--false_alarms", "0.01"]) == 1
    assert "false_alarms 0.01: The model's file has no calibration" in capsys.readouterr().err


def test_photos_under_another_lamp_renew_their_product_alone(
    checkpoint: Path, brighter: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    target = tmp_path / "lamp.ckpt"
    assert main(["calibrate", "--ckpt_path", str(checkpoint), "--good", str(brighter), "--output", str(target)]) == 0
    said = capsys.readouterr().out
    assert "across: at 5 % false alarms the threshold is" in said
    assert ", it was " in said
    assert "It rests on 10 good photos." in said
    assert "(19 would do)" in said
    was, now = calibration_of(checkpoint), calibration_of(target)
    assert now.products["down"] == was.products["down"]
    assert now.products["across"] != was.products["across"]
    photo = next((brighter / "across").iterdir())
    assert Predictor(checkpoint, unknown=True)(photo).verdict != "normal", "not what it was trained on"
    assert Predictor(target)(photo).verdict == "normal"


def test_a_product_without_weights_of_its_own_gets_thresholds(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    generator = np.random.default_rng(0)
    for part in ("new", "next"):
        (tmp_path / part).mkdir()
        for number in range(25):
            pixels = generator.normal(60, 8, (40, 40, 3)) + np.array([120, 0, 0])
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / part / f"{number}.png")
    photos = sorted((tmp_path / "next").iterdir())
    assert {one.verdict for one in Predictor(checkpoint)([*photos])} == {"unknown"}
    target = tmp_path / "more.ckpt"
    new = ["calibrate", "--ckpt_path", str(checkpoint), "--good", str(tmp_path / "new"), "--category", "brick"]
    assert main([*new, "--output", str(target)]) == 1
    assert "shows brick, but the model knows across, down" in capsys.readouterr().err
    new.append("--add")
    assert main([*new, "--output", str(target)]) == 0
    assert "the model was not trained on this product, so it finds few of its defects" in capsys.readouterr().out
    predictions = Predictor(target)([*photos])
    assert {one.product for one in predictions} <= {"brick", None}
    assert sum(one.verdict == "normal" for one in predictions) >= 20


def test_defects_tell_recall_and_its_price(
    checkpoint: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = [
        "calibrate",
        "--ckpt_path",
        str(checkpoint),
        "--output",
        str(tmp_path / "x.ckpt"),
        "--false_alarms",
        "0.2",
    ]
    assert main([*command, "--defects", str(tiny_data / "across/test/square"), "--category", "across"]) == 1
    assert "what the photos of --good show" in capsys.readouterr().err
    good = str(tiny_data / "across/train/good")
    assert (
        main([*command, "--good", good, "--category", "across", "--defects", str(tiny_data / "across/test/square")])
        == 0
    )
    said = capsys.readouterr().out
    assert "Of 3 defects" in said
    assert "at  20 % false alarms" in said
    counts = [int(line.split(" of 3")[0].split()[-1]) for line in said.splitlines() if line.startswith("  at ")]
    assert len(counts) == 6
    assert counts == sorted(counts), "more false alarms, fewer misses"
    assert calibration_of(tmp_path / "x.ckpt").false_alarms == 0.2


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as a model of OpenVINO."""
    model = tmp_path_factory.mktemp("exported") / "m.xml"
    # Without the checks of shapes, with which torch takes twice the time to trace a model.
    run("export", "--ckpt_path", str(checkpoint), "--format", "openvino", "--output", str(model))
    return model


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """Its own copy for a test."""
    shutil.copytree(exported.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / exported.name


def test_an_export_is_calibrated_as_a_checkpoint_is(model: Path, brighter: Path, tmp_path: Path) -> None:
    assert main(["calibrate", "--ckpt_path", str(model), "--good", str(brighter)]) == 0
    target = tmp_path / "m-calibrated.xml"
    assert target.read_bytes() == model.read_bytes()
    photo = next((brighter / "across").iterdir())
    assert Predictor(target)(photo).verdict == "normal"
    assert calibration_of(target).products["down"] == calibration_of(model).products["down"]
    assert json.loads((tmp_path / "m-calibrated.xml.json").read_text())["calibrated_on"].startswith("good photos in")


def write_list(file: Path, rows: list[tuple[str, str, str]]) -> Path:
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([("path", "product", "label"), *rows])
    return file


def test_a_list_of_verdicts_that_a_person_has_corrected(
    checkpoint: Path, brighter: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = [(str(photo), "across", "good") for photo in sorted((brighter / "across").iterdir())]
    rows += [(str(photo), "across", "defect") for photo in sorted((tiny_data / "across/test/square").iterdir())]
    listed = write_list(tmp_path / "verdicts.csv", [*rows, ("gone.png", "", "")])
    assert (
        main(["calibrate", "--ckpt_path", str(checkpoint), "--good", str(listed), "--output", str(tmp_path / "y.ckpt")])
        == 0
    )
    said = capsys.readouterr().out
    assert "with 10 good photos of 1 products" in said
    assert "Of 3 defects" in said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("gone.png", "across", "good"), r"line 2: .*gone\.png is not there"),
        (("there.png", "across", "fine"), "line 2: its label is 'fine'; give good or defect"),
        (("there.png", "", "good"), "line 2: its product is not said"),
        (("there.png", "across", "defect"), "none of its photos has the label good"),
    ],
)
def test_a_list_that_is_wrong(row: tuple[str, str, str], said: str, tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "there.png")
    with pytest.raises(Exception, match=said):
        read_list(write_list(tmp_path / "list.csv", [row]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--good", "nowhere"], "nowhere is no folder"),
        (["--output", "x.onnx"], r"ends in \.ckpt"),
        (["--false_alarms", "5"], "share of good parts"),
        (["--good", "empty.csv"], "name the columns path, product and label"),
        (["--good", "none.csv"], "does not exist"),
        (["--category", "bolt"], "give them, too"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    arguments: list[str],
    said: str,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").touch()
    model = shutil.copy(checkpoint, "m.ckpt")
    assert main(["calibrate", "--ckpt_path", str(model), *arguments]) == 1
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert not list(tmp_path.glob("*calibrated*"))


def test_lists_of_defects_are_read_before_anything_is_written(
    checkpoint: Path, brighter: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photo, target = str(tiny_data / "across/test/square/000.png"), tmp_path / "z.ckpt"
    (tmp_path / "broken.png").write_bytes(b"none")
    command = ["calibrate", "--ckpt_path", str(checkpoint), "--good", str(brighter), "--output", str(target)]
    for rows, said in (
        ([(photo, "bolt", "defect")], "defects of bolt, but what is calibrated is across, down"),
        ([(photo, "", "good")], "its product is not said"),
        ([(photo, "down", "")], "none of its photos has the label defect"),
        ([(photo, "down", "defect")] * 2, "stands in an earlier line"),
        ([("broken.png", "down", "defect")], "cannot be read"),
    ):
        listed = write_list(tmp_path / "list.csv", rows)
        assert main([*command, "--defects", str(listed)]) == 1
        assert said in capsys.readouterr().err
        assert not target.exists()
    assert main([*command, "--defects", str(write_list(tmp_path / "list.csv", [(photo, "down", "defect")]))]) == 0
    assert "Of 1 defects" in capsys.readouterr().out


def test_photos_that_the_model_has_learned_from_are_told(
    checkpoint: Path, tiny_data: Path, brighter: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["calibrate", "--ckpt_path", str(checkpoint), "--output", str(tmp_path / "z.ckpt"), "--overwrite"]
    assert main([*command, "--good", str(tiny_data)]) == 0
    assert "18 of the good photos are those that the model was trained on" in capsys.readouterr().out
    assert main([*command, "--good", str(brighter)]) == 0
    assert "trained on" not in capsys.readouterr().out


def test_one_photo_renews_a_calibration_but_makes_none(
    checkpoint: Path, before: Path, brighter: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    one = write_list(tmp_path / "one.csv", [(str(brighter / "across/000.png"), "across", "good")])
    command = ["calibrate", "--good", str(one), "--output", str(tmp_path / "z.ckpt")]
    assert main([*command, "--ckpt_path", str(before)]) == 1
    assert "One photo of a product does not tell how its good parts vary" in capsys.readouterr().err
    assert main([*command, "--ckpt_path", str(checkpoint)]) == 0


def test_no_file_of_another_model_is_replaced(
    model: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command, weights = ["calibrate", "--ckpt_path"], tmp_path / "other.bin"
    weights.write_text("another's")
    assert main([*command, str(model), "--output", str(tmp_path / "other.xml")]) == 1
    assert "other.bin exists: add --overwrite" in capsys.readouterr().err
    export = ["export", "--ckpt_path", str(checkpoint), "--format", "openvino"]
    assert main([*export, "--output", str(tmp_path / "other.xml")]) == 1
    assert "other.bin exists: add --overwrite" in capsys.readouterr().err
    assert weights.read_text() == "another's"
    (tmp_path / "folder.ckpt").mkdir()
    assert main([*command, str(checkpoint), "--output", str(tmp_path / "folder.ckpt"), "--overwrite"]) == 1
    assert "folder.ckpt is a folder" in capsys.readouterr().err
    assert main([*command, ""]) == 1
    assert "ckpt_path '' is no file" in capsys.readouterr().err


def test_what_is_there_is_kept(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    target = tmp_path / "there.ckpt"
    target.touch()
    command = ["calibrate", "--ckpt_path", str(checkpoint), "--output", str(target)]
    assert main(command) == 1
    assert "add --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert calibration_of(target).products


def test_a_finished_training_that_was_stopped_while_calibrating_says_how(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from sivt_lightning.inference.good_photos import GoodPhotos

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(GoodPhotos, "measure", stopped)
        assert main(["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1"]) == 1
    folder = Path("runs/tiny/version_0/checkpoints")
    assert calibration_is_missing(folder / "best.ckpt")
    main(["fit", "--ckpt_path", str(folder / "last.ckpt")])
    said = capsys.readouterr().out
    command = said[said.index("sivt calibrate") :].splitlines()[0].rstrip(" .").removesuffix(". To train longer:")
    assert main(command.split()[1:]) == 0
    assert not calibration_is_missing(folder / "best.ckpt")


def calibration_is_missing(model: Path) -> bool:
    return read_about(str(model)).calibration is None
