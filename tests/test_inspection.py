"""A model with a region of interest, from training to exports: what lies outside changes nothing that is said of it."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from conftest import rows_of, write_tiny_data
from lightning import Trainer
from parts import PIXELS, Probe, calibration_of
from PIL import Image

from sivt_lightning import Predictor, SIVTError
from sivt_lightning.cli import main
from sivt_lightning.cli.serve import parse_settings
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.evaluation.callback import Evaluation
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.inference.judge import Asked, Judgement, ProductJudge
from sivt_lightning.inference.prediction import Prediction
from sivt_lightning.inference.thresholds import Threshold
from sivt_lightning.model.detection import Detection
from sivt_lightning.prediction_files.writer import PredictionWriter

TINY = f"""{PIXELS}data: {{root: ROOT, batch_size: 4, num_workers: 0}}
trainer: {{max_epochs: 1, accelerator: cpu}}
"""
EXPORT = """
from sivt_lightning.cli import main
for kind in ("onnx", "torch"):
    assert main(["export", "--ckpt_path", "model/best.ckpt", "--format", kind, "--keep_thresholds"]) == 0
"""
SETTINGS = {"image_size": 32, "image_score": "highest"}
KNOWN = calibration_of(bolt=(0.4, 50, 50), nut=(0.4, 150, 50))
LEFT = torch.arange(16).repeat(16, 1) < 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, of which the left of `across` alone is inspected, the model and its exports."""
    folder = tmp_path_factory.mktemp("trained")
    write_tiny_data(folder / "data")
    for path in folder.glob("data/down/t*/*/*.png"):  # darker: by pixels alone, stripes are told apart by their tone
        Image.open(path).point([value // 3 for value in range(256)]).save(path)
    region = np.zeros((40, 40), np.uint8)
    region[:, :20] = 255
    Image.fromarray(region).save(folder / "data/across/roi.png")
    (folder / "tiny.yaml").write_text(TINY.replace("ROOT", str(folder / "data")))
    with contextlib.chdir(folder):
        assert main(["fit", "--config", "tiny.yaml"]) == 0
        shutil.copytree("runs/tiny/version_0/checkpoints", "model")
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    """Its exports beside the model."""
    with contextlib.chdir(trained):
        forked.run(code=EXPORT)  # without the checks of shapes, which are no numbers while torch traces
    return trained / "model"


@pytest.fixture(scope="module")
def predictor(trained: Path) -> Predictor:
    return Predictor(trained / "model/best.ckpt", "cpu", unknown=False, false_alarms=0.001)


def planted(photo: Path, left: int) -> np.ndarray:
    """The photo with a bright square."""
    pixels = np.array(Image.open(photo))
    pixels[24:34, left : left + 8] = 250
    return pixels


def test_a_defect_outside_changes_neither_score_nor_verdict_and_one_inside_does(
    predictor: Predictor, trained: Path
) -> None:
    for photo in sorted((trained / "data/across/test/good").iterdir()):
        good, outside, inside = predictor([photo, planted(photo, 30), planted(photo, 6)])
        assert good.product == outside.product == inside.product == "across"
        assert outside.score == pytest.approx(good.score, rel=0.1)
        assert outside.verdict == good.verdict == "normal"
        assert inside.verdict == "anomalous"
        assert inside.score > 4 * good.score
        assert not outside.anomaly_map[:, 16:].any()
        assert [region.box[2] <= 20 for region in inside.regions] == [True] * len(inside.regions)
        assert inside.regions


def test_a_product_without_a_region_is_inspected_everywhere(predictor: Predictor, trained: Path) -> None:
    photo = trained / "data/down/test/good/000.png"
    good, bad = predictor([photo, planted(photo, 30)])
    assert good.inspected is None
    assert (good.anomaly_map > 0).all()
    assert bad.verdict == "anomalous"


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_exports_say_what_the_checkpoint_says(suffix: str, predictor: Predictor, trained: Path, exported: Path) -> None:
    of_file = Predictor(exported / f"best.{suffix}", unknown=False, false_alarms=0.001)
    photo = trained / "data/across/test/good/000.png"
    pictures = [photo, planted(photo, 30), planted(photo, 6), trained / "data/down/test/good/000.png"]
    for one, other in zip(predictor(pictures), of_file(pictures), strict=True):
        assert other.score == pytest.approx(one.score, rel=1e-3)
        assert (other.verdict, other.product) == (one.verdict, one.product)
        np.testing.assert_allclose(other.anomaly_map, one.anomaly_map, rtol=1e-3, atol=1e-5)
    side_car = json.loads((exported / f"best.{suffix}.json").read_text())
    assert list(side_car["regions"]) == ["across"]
    assert of_file.model.about.inspection.same_as(predictor.model.about.inspection)


def test_test_and_calibrate_keep_it(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the photos are elsewhere, without its file."""
    elsewhere = tmp_path / "data"
    shutil.copytree(trained / "data", elsewhere)
    (elsewhere / "across/roi.png").unlink()
    model = str(trained / "model/best.ckpt")
    quick = ["--eval.gallery", "false", "--eval.report", "false", "--eval.curves", "false"]
    for root in (trained / "data", elsewhere):
        told = ["--data.root", str(root), "--output", str(tmp_path / root.parent.name)]
        assert main(["test", "--ckpt_path", model, *told, *quick]) == 0
    ours, theirs = (json.loads((tmp_path / place.name / "metrics.json").read_text()) for place in (trained, tmp_path))
    assert ours["categories"] == theirs["categories"]
    draw = Image.new("L", (40, 40))
    draw.paste(255, (0, 0, 9, 9))
    draw.save(elsewhere / "across/roi.png")
    capsys.readouterr()
    again = tmp_path / "again.ckpt"
    assert main(["calibrate", "--ckpt_path", model, "--good", str(elsewhere), "--output", str(again)]) == 0
    assert "across/roi.png says another part than the model was trained to inspect" in capsys.readouterr().out
    before, after = (torch.load(file, weights_only=True) for file in (model, again))
    assert before["regions"] == after["regions"]
    photo = trained / "data/across/test/good/000.png"
    assert Predictor(again, "cpu")(photo).score == Predictor(model, "cpu")(photo).score


def test_a_training_goes_on_with_the_same_region_only(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    go_on = ["fit", "--ckpt_path", "runs/tiny/version_0/checkpoints/last.ckpt", "--trainer.max_epochs", "2"]
    roi = trained / "data/across/roi.png"
    content = roi.read_bytes()
    try:
        Image.new("L", (40, 40), 255).save(roi)
        assert main(go_on) == 1
        assert "are not those that the training was begun with" in capsys.readouterr().err
    finally:
        roi.write_bytes(content)
    assert main(go_on) == 0


# -- figures, exactly: a model that says what is painted -------------------------------------------------------------


@pytest.fixture
def painted(tmp_path: Path) -> Callable[[str, int | None], Path]:
    """Makes a test of bolts: two good ones, and two with a red defect, one of them beside the region."""

    def make(name: str, glaring: int | None) -> Path:
        """`glaring`: a column at which all photos have a red spot."""
        for folder, left, red in (("good", 2, 40), ("bad", 2, 200), ("bad", 11, 200), ("good", 3, 60)):
            pixels, mask = np.full((16, 16, 3), 50, np.uint8), np.zeros((16, 16), np.uint8)
            pixels[..., 0] = np.arange(16)
            pixels[4:7, left : left + 3, 0], mask[4:7, left : left + 3] = red, 255
            if glaring is not None:
                pixels[10:12, glaring, 0] = 255
            places = [(tmp_path / name / "bolt/test" / folder, pixels)]
            places += [(tmp_path / name / "bolt/ground_truth/bad", mask)] if folder == "bad" else []
            for place, picture in places:
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(place / f"{left}.png")
        return tmp_path / name

    return make


def with_region() -> Probe:
    model = Probe(KNOWN)
    model.about = replace(model.about, inspection=Inspection(SETTINGS, {"bolt": LEFT}))
    return model


def run(trainer_callback: Any, task: str, model: Probe, **data: Any) -> None:
    module = SIVTDataModule(image_size=16, num_workers=0, **data)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[trainer_callback])
    trainer.test(model, module, verbose=False) if task == "test" else trainer.predict(
        model, module, return_predictions=False
    )


def test_figures_and_verdicts_of_a_test_know_nothing_of_what_lies_outside(
    painted: Callable[[str, int | None], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {}
    for name, glaring in (("plain", None), ("outside", 12), ("inside", 1)):
        evaluation = Evaluation(str(tmp_path / f"out-{name}"), curves=False)
        run(evaluation, "test", with_region(), root=str(painted(name, glaring)))
        assert evaluation.results is not None
        results[name] = {part: evaluation.results[part] for part in ("categories", "pooled", "operating_points")}
    assert results["outside"] == results["plain"] != results["inside"]
    assert results["plain"]["operating_points"]["pooled"]["recall"] == 0.5  # of the one beside nothing can be known
    said = capsys.readouterr().out
    assert "outside the region that is inspected lies all of the masks of" in said
    assert "bad/11.png" in said.replace("\n", "")


def test_predictions_know_nothing_of_what_lies_outside(
    painted: Callable[[str, int | None], Path], tmp_path: Path
) -> None:
    rows = {}
    for name, glaring in (("plain", None), ("outside", 12), ("inside", 1)):
        photos = painted(name, glaring) / "bolt/test"
        run(PredictionWriter(str(tmp_path / f"out-{name}")), "predict", with_region(), predict_path=str(photos))
        rows[name] = rows_of(tmp_path / f"out-{name}/predictions.csv")
    assert rows["outside"] == rows["plain"] != rows["inside"]
    assert [row["verdict"] for row in rows["plain"]] == ["normal", "anomalous", "normal", "normal"]
    files = [tmp_path / "out-plain" / rows["plain"][1][kind] for kind in ("mask", "photo")]
    mask, photo = (np.asarray(Image.open(file)) for file in files)
    assert mask[:, :8].any()
    assert not mask[:, 8:].any()
    assert photo[0, 12, 2] > 60  # pale, where it is not inspected
    assert abs(int(photo[0, 2, 2]) - 50) < 10


def test_the_region_is_that_of_the_product_a_photo_is_held_against() -> None:
    judge = ProductJudge(KNOWN, Asked(), Inspection(SETTINGS, {"bolt": LEFT}))
    maps = torch.where(LEFT, 0.1, 0.9).expand(2, 16, 16)
    batch = Detection(torch.tensor([0.9, 0.9]), maps, torch.tensor([[50.0, 50.0], [150.0, 50.0]]) / 255)
    seen = judge.inspected(batch, [None, None])
    assert seen.score.tolist() == pytest.approx([0.1, 0.9])
    assert [judged.verdict for judged in judge(seen, [None, None])] == ["normal", "anomalous"]
    assert judge.inspected(batch, ["nut", "bolt"]).score.tolist() == pytest.approx([0.9, 0.1])


# -- the smallest region ---------------------------------------------------------------------------------------------


def spotted(smallest_region: int, note: str = "") -> Prediction:
    """A photo of 40 x 20 pixels with regions of 20 and 80 of them."""
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[0, :2] = anomaly_map[4:6, 4:8] = 2.0
    judged = Judgement("anomalous", Threshold(1.0, 1.0, 9), "bolt", smallest_region=smallest_region)
    return Prediction.of(2.0, anomaly_map, judged, (40, 20), note)


@pytest.mark.parametrize(("smallest", "areas"), [(0, [25, 100]), (25, [25, 100]), (26, [100]), (100, [100]), (101, [])])
def test_smaller_regions_are_none(smallest: int, areas: list[int]) -> None:
    found = spotted(smallest, "Read.")
    assert sorted(region.area for region in found.regions) == areas
    assert found.mask.sum() * 12.5 == sum(areas)
    assert found.verdict == ("anomalous" if areas else "normal")
    expected = "Read." if areas else "Read. Its score is above the threshold, but no anomalous region has 101 pixels"
    assert found.note.startswith(expected)


def test_of_what_is_unknown_and_of_what_is_normal_no_region_is_asked() -> None:
    judged = Judgement("unknown", Threshold(1.0, 1.0, 9), smallest_region=1000)
    assert Prediction.of(2.0, np.full((8, 8), 2.0, np.float32), judged, (8, 8)).verdict == "unknown"
    normal = Prediction.of(0.5, np.zeros((8, 8), np.float32), judged._replace(verdict="normal"), (8, 8))
    assert (normal.verdict, normal.note) == ("normal", "")
    with pytest.raises(SIVTError, match="smallest_region is -1: give a number of pixels, or 0"):
        Asked(smallest_region=-1)


def test_command_line_and_predictor_take_it(trained: Path, predictor: Predictor, tmp_path: Path) -> None:
    photo, model = tmp_path / "photo.png", str(trained / "model/best.ckpt")
    Image.fromarray(planted(trained / "data/across/test/good/000.png", 6)).save(photo)
    found = predictor(photo)
    settings = {"unknown": False, "false_alarms": 0.001, "smallest_region": 1000}
    without = Predictor(model, "cpu", **settings)(photo)  # type: ignore[arg-type]
    assert (found.verdict, without.verdict, without.regions) == ("anomalous", "normal", [])
    assert without.score == found.score > without.threshold
    told = [part for name, value in settings.items() for part in (f"--{name}", str(value).lower())]
    arguments = ["--ckpt_path", model, "--data.predict_path", str(photo), "--output", str(tmp_path / "out"), *told]
    assert main(["predict", *arguments]) == 0
    (row,) = rows_of(tmp_path / "out/predictions.csv")
    assert (row["verdict"], row["regions"], row["note"]) == ("normal", "[]", without.note)
    assert parse_settings(["--model", model, "--smallest_region", "25"]).smallest_region == 25


def test_a_prediction_drops_small_regions_and_says_so(
    painted: Callable[[str, int | None], Path], tmp_path: Path
) -> None:
    photos, rows = painted("photos", None) / "bolt/test", {}
    for smallest in (0, 9, 10):
        writer = PredictionWriter(str(tmp_path / f"{smallest}"), smallest_region=smallest)
        run(writer, "predict", Probe(KNOWN), predict_path=str(photos))
        rows[smallest] = rows_of(tmp_path / f"{smallest}/predictions.csv")
    assert rows[9] == rows[0]
    assert [row["verdict"] for row in rows[0]] == ["anomalous", "anomalous", "normal", "normal"]
    assert [row["verdict"] for row in rows[10]] == ["normal"] * 4
    assert ["smallest_region" in row["note"] for row in rows[10]] == [True, True, False, False]
    assert not np.asarray(Image.open(tmp_path / "10" / rows[10][0]["mask"])).any()
    heat = {n: np.asarray(Image.open(tmp_path / f"{n}" / rows[n][0]["heat"])).max() for n in (0, 10)}
    assert heat[0] > 85 >= heat[10]
    page = (tmp_path / "10/report.html").read_text()
    assert page.count('"small": true') == 2
