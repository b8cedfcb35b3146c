"""The files of a prediction: complete, in order, never overwriting one another, and there after an interruption."""

import csv
import io
import json
import math
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from parts import Probe, calibration_of
from PIL import Image

from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import read_csv
from sivt_lightning.inference.thresholds import Threshold, Thresholds
from sivt_lightning.model.detection import Detection
from sivt_lightning.prediction_files.progress_bar import PredictionProgress
from sivt_lightning.prediction_files.writer import PredictionWriter
from sivt_lightning.report.picture_names import picture_names

SIZE = 16
THRESHOLDS = Thresholds(
    0.99,
    Threshold(0.5, 0.25, images=200),
    {"bolt": Threshold(0.2, 0.1, images=4), "line 1": Threshold(2.0, 0.5, images=150)},
)


def paint(path: Path, red: int, size: tuple[int, int] = (SIZE, SIZE)) -> None:
    """A grey image whose upper left quarter is so red."""
    image = Image.new("RGB", size, (0, 90, 90))
    image.paste((red, 90, 90), (0, 0, size[0] // 2, size[1] // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    paint(tmp_path / "photos" / "b.png", 255)
    paint(tmp_path / "photos" / "line 1" / "a.png", 0, size=(300, 80))
    paint(tmp_path / "photos" / "line 1" / "a.jpg", 255, size=(80, 300))
    (tmp_path / "photos" / "c.png").write_bytes(b"no image")
    return tmp_path / "photos"


def predict(
    path: Path, writer: PredictionWriter, model: LightningModule | None = None, batch_size: int = 2, *more: Callback
) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[writer, *more])
    data = SIVTDataModule(predict_path=str(path), image_size=SIZE, eval_batch_size=batch_size, num_workers=0)
    trainer.predict(model or Probe(THRESHOLDS), data, return_predictions=False)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_the_table_and_the_files_it_names(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer, out = PredictionWriter(str(tmp_path / "out")), tmp_path / "out"
    predict(photos, writer)
    rows = rows_of(out / "predictions.csv")
    assert list(rows[0])[:5] == ["path", "score", "threshold", "is_anomalous", "error"]
    assert [row["path"] for row in rows] == ["b.png", "c.png", "line 1/a.jpg", "line 1/a.png"]
    assert [row["is_anomalous"] for row in rows] == ["true", "", "true", "false"]
    assert [row["score"] for row in rows[:2]] == ["1", ""]
    assert rows[0]["anomalous_share"] == "0.25"
    assert [row["threshold"] for row in rows] == ["0.5", "", "0.5", "0.5"]  # none of a photo without a result
    assert rows[3]["mask"] == "masks/line 1/a_png.png"
    named = {row[column] for row in rows for column in ("mask", "overlay", "photo", "heat") if row[column]}
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert there == named | {"predictions.csv", "predictions.json", "report.html"}
    printed = capsys.readouterr().out
    assert "4 images: 2 anomalous, 1 normal, 1 without a result" in printed
    assert str(out / "predictions.csv") in printed


def test_a_mask_has_the_photos_own_size_and_only_black_and_white(photos: Path, tmp_path: Path) -> None:
    predict(photos, PredictionWriter(str(tmp_path / "out")))
    mask = Image.open(tmp_path / "out" / "masks" / "line 1" / "a_jpg.png")
    assert mask.size == (80, 300)
    expected = np.zeros((300, 80), np.uint8)
    expected[:150, :40] = 255
    differing = (np.asarray(mask) != expected).mean()
    assert differing < 0.1, "the edge moves by one cell of the network's map"
    assert set(np.unique(mask)) == {0, 255}
    assert not np.asarray(Image.open(tmp_path / "out" / "masks" / "line 1" / "a_png.png")).any()


def test_maps_keep_every_value(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(photos, PredictionWriter(str(tmp_path / "out"), maps=True))
    row = rows_of(tmp_path / "out" / "predictions.csv")[0]
    anomaly_map = np.asarray(Image.open(tmp_path / "out" / row["map"]))
    assert row["map"] == "maps/b.tiff"
    assert anomaly_map.dtype == np.float32
    assert np.array_equal(anomaly_map, np.asarray(Image.open(photos / "b.png"))[..., 0] / np.float32(255))
    assert f"4 x {SIZE} x {SIZE} float32 values" in capsys.readouterr().out


def test_an_image_that_cannot_be_read_has_a_row_and_a_reason_and_is_counted(photos: Path, tmp_path: Path) -> None:
    writer = PredictionWriter(str(tmp_path / "out"))
    predict(photos, writer)
    (row,) = [row for row in rows_of(tmp_path / "out" / "predictions.csv") if row["error"]]
    assert row["path"] == "c.png"
    assert "c.png cannot be read" in row["error"]
    assert row["score"] == row["is_anomalous"] == row["mask"] == row["overlay"] == ""
    assert writer.failed == 1


def test_a_score_that_is_no_number_is_not_called_normal(photos: Path, tmp_path: Path) -> None:
    class Diverged(Probe):
        def predict_step(self, batch: Any, batch_idx: int) -> Detection:
            return super().predict_step(batch, batch_idx)._replace(score=torch.full((len(batch.images),), torch.nan))

    writer = PredictionWriter(str(tmp_path / "out"))
    predict(photos, writer, Diverged(THRESHOLDS))
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert {row["is_anomalous"] for row in rows} == {""}
    assert "not a finite number" in rows[0]["error"]
    assert writer.failed == 4


def test_a_score_at_the_threshold_is_normal(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", 255)
    predict(
        tmp_path / "a.png",
        PredictionWriter(str(tmp_path / "out")),
        Probe(Thresholds(0.99, Threshold(1.0, 1.0, 40), {})),
    )
    (row,) = rows_of(tmp_path / "out" / "predictions.csv")
    assert (row["score"], row["is_anomalous"], row["anomalous_share"]) == ("1", "false", "0")


def test_a_picture_depends_on_its_own_image_alone(photos: Path, tmp_path: Path) -> None:
    """One colour scale serves the run, whatever else is in it and in whichever batch."""
    predict(photos, PredictionWriter(str(tmp_path / "all")), batch_size=4)
    paint(tmp_path / "alone" / "line 1" / "a.png", 0, size=(300, 80))
    predict(tmp_path / "alone", PredictionWriter(str(tmp_path / "one")))
    together = (tmp_path / "all" / "overlays" / "line 1" / "a_png.jpg").read_bytes()
    assert together == (tmp_path / "one" / "overlays" / "line 1" / "a.jpg").read_bytes()


def test_the_default_folder_bears_the_name_of_what_is_predicted(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    predict(photos, PredictionWriter())
    predict(photos / "b.png", PredictionWriter())
    assert len(rows_of(tmp_path / "predictions" / "photos" / "predictions.csv")) == 4
    assert [row["path"] for row in rows_of(tmp_path / "predictions" / "b" / "predictions.csv")] == ["b.png"]


def test_a_threshold_given_by_hand_wins(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predict(photos, PredictionWriter(str(tmp_path / "out"), threshold=1.5))
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert [row["threshold"] for row in rows] == ["1.5", "", "1.5", "1.5"]
    assert [row["is_anomalous"] for row in rows] == ["false", "", "false", "false"]
    assert rows[0]["anomalous_share"] == "0"  # as the photo, whatever a pixel's threshold says
    assert rows[0]["regions"] == "[]"
    assert not np.asarray(Image.open(tmp_path / "out" / rows[0]["mask"])).any()
    with pytest.raises(SIVTError, match="threshold is -1"):
        PredictionWriter(threshold=-1.0)


def test_thresholds_by_category_are_those_of_the_folders(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paint(photos / "bolt" / "line 1" / "d.png", 60)  # the upper folder counts
    for name in ("b.png", "c.png"):
        (photos / name).unlink()
    predict(photos, PredictionWriter(str(tmp_path / "out"), threshold_by="category"))
    rows = {row["path"]: row for row in rows_of(tmp_path / "out" / "predictions.csv")}
    assert {path: (row["threshold"], row["is_anomalous"]) for path, row in rows.items()} == {
        "bolt/line 1/d.png": ("0.2", "true"),
        "line 1/a.jpg": ("2", "false"),
        "line 1/a.png": ("2", "false"),
    }
    assert rows["bolt/line 1/d.png"]["anomalous_share"] == "0.25"  # 60 / 255 is above its category's 0.1 only
    output = capsys.readouterr().out
    assert "The threshold of bolt rests on fewer held-out normal images" in output
    assert "about 1 good image in 5" in output
    predict(photos / "line 1", PredictionWriter(str(tmp_path / "inside"), threshold_by="category"))  # named by itself
    assert {row["threshold"] for row in rows_of(tmp_path / "inside" / "predictions.csv")} == {"2"}


def test_a_model_without_a_calibration_says_what_would_add_one(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for settings in ({}, {"threshold_by": "pooled"}):
        predict(photos, PredictionWriter(str(tmp_path / "out"), overwrite=True, **settings))  # type: ignore[arg-type]
        row = rows_of(tmp_path / "out" / "predictions.csv")[0]
        assert (row["verdict"], row["product"], row["calibrated"]) == ("anomalous", "", "")
        assert "`sivt calibrate --ckpt_path FILE` adds it, without training" in capsys.readouterr().out


# ------------------------------------------------------------ products are recognised

KNOWN = calibration_of(bolt=(0.2, 90, 90), nut=(0.8, 200, 20))
COLOURS = {"bolt": (90, 90), "nut": (200, 20), "elsewhere": (20, 250)}


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """A good and a bad one of each of two products, and of something else."""
    for name, rest in COLOURS.items():
        for kind, red in (("good", 40), ("bad", 255)):
            path = tmp_path / "mixed" / f"{kind}_{name}.png"
            path.parent.mkdir(exist_ok=True)
            image = Image.new("RGB", (SIZE, SIZE), (0, *rest))
            image.paste((red, *rest), (0, 0, SIZE // 2, SIZE // 2))
            image.save(path)
    return tmp_path / "mixed"


def table_of(folder: Path) -> dict[str, dict[str, str]]:
    return {row["path"].removesuffix(".png"): row for row in rows_of(folder / "predictions.csv")}


def test_each_photo_is_held_against_its_own_product(
    products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    writer = PredictionWriter(str(out))
    predict(products, writer, Probe(KNOWN))
    rows = table_of(out)
    assert {name: (row["verdict"], row["is_anomalous"], row["product"]) for name, row in rows.items()} == {
        "bad_bolt": ("anomalous", "true", "bolt"),
        "bad_elsewhere": ("unknown", "true", ""),
        "bad_nut": ("anomalous", "true", "nut"),
        "good_bolt": ("normal", "false", "bolt"),
        "good_elsewhere": ("unknown", "true", ""),
        "good_nut": ("normal", "false", "nut"),
    }
    assert float(rows["bad_bolt"]["threshold"]) == pytest.approx(0.2, rel=1e-3)
    assert float(rows["bad_nut"]["threshold"]) == pytest.approx(0.8, rel=1e-3)
    # One score is rarer in the product whose good parts score lower; 1 of 20 is where they are anomalous.
    rare = {name: float(row["calibrated"]) for name, row in rows.items()}
    assert rare["good_nut"] < rare["good_bolt"] < math.log10(20) < rare["bad_nut"] < rare["bad_bolt"]
    for name in ("good_bolt", "good_nut"):  # 40 / 255 is nowhere above a pixel's threshold; so nothing is shown
        assert (rows[name]["regions"], rows[name]["anomalous_share"]) == ("[]", "0")
    assert (writer.anomalous, writer.unknown, writer.failed) == (2, 2, 0)
    printed = capsys.readouterr().out
    assert "6 images: 2 anomalous, 2 normal, 2 unknown, 0 without a result." in printed
    assert "it has not passed. `--unknown false` takes each photo" in printed
    assert "sivt calibrate" not in printed  # 19 photos promise 1 of 20


def test_unknown_photos_are_taken_for_what_they_are_most_like_where_that_is_asked_for(
    products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(products, PredictionWriter(str(tmp_path / "out"), unknown=False), Probe(KNOWN))
    rows = table_of(tmp_path / "out")
    assert {row["verdict"] for row in rows.values()} == {"normal", "anomalous"}
    assert rows["bad_elsewhere"]["product"] in ("bolt", "nut")
    assert " unknown" not in capsys.readouterr().out


def test_a_share_of_false_alarms_moves_all_thresholds_and_says_where_it_is_an_estimate(
    products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = {}
    for share in (0.5, 0.05, 0.01):
        predict(products, PredictionWriter(str(tmp_path / str(share)), false_alarms=share), Probe(KNOWN))
        limits[share] = {name: float(row["threshold"]) for name, row in table_of(tmp_path / str(share)).items()}
        assert ("For bolt, nut that is an estimate" in capsys.readouterr().out) == (share == 0.01)
    for name in ("bad_bolt", "bad_nut"):
        assert limits[0.5][name] < limits[0.05][name] < limits[0.01][name]


def test_a_normal_photo_shows_nothing_even_where_pixels_are_above_their_threshold(
    products: Path, tmp_path: Path
) -> None:
    predict(products, PredictionWriter(str(tmp_path / "out"), threshold=2.0), Probe(KNOWN))
    rows = table_of(tmp_path / "out")
    bolt = rows["bad_bolt"]  # all of whose corner is above the 0.2 of a pixel
    assert (bolt["verdict"], bolt["threshold"], bolt["regions"], bolt["anomalous_share"]) == ("normal", "2", "[]", "0")
    assert not np.asarray(Image.open(tmp_path / "out" / bolt["mask"])).any()
    assert rows["bad_elsewhere"]["verdict"] == "unknown"  # a score says nothing of what is shown


def test_a_product_that_is_told_is_not_recognised(products: Path, tmp_path: Path) -> None:
    predict(products / "good_bolt.png", PredictionWriter(str(tmp_path / "nut"), category="nut"), Probe(KNOWN))
    (row,) = rows_of(tmp_path / "nut" / "predictions.csv")
    assert (row["verdict"], row["product"]) == ("unknown", "")  # it is no nut
    (products / "nut").mkdir()
    (products / "good_nut.png").rename(products / "nut" / "good_bolt.png")
    predict(products / "nut", PredictionWriter(str(tmp_path / "folder"), threshold_by="category"), Probe(KNOWN))
    (row,) = rows_of(tmp_path / "folder" / "predictions.csv")
    assert (row["verdict"], row["product"]) == ("normal", "nut")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"category": "screw"}, "no threshold for category 'screw': the model knows bolt, nut"),
        ({"threshold_by": "pooled"}, "threshold_by pooled: a score compares with scores of the same product only"),
        ({"threshold_by": "category"}, r"none of its folders \(mixed\) is a category"),
    ],
)
def test_what_a_calibrated_model_cannot_give_is_refused_before_anything_is_written(
    settings: dict[str, Any], sentence: str, products: Path, tmp_path: Path
) -> None:
    with pytest.raises(SIVTError, match=sentence):
        predict(products, PredictionWriter(str(tmp_path / "out"), **settings), Probe(KNOWN))
    assert not (tmp_path / "out").exists()


def test_drift_is_of_each_product_that_was_recognised(
    products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(40):
        for name, red in (
            ("bolt", 27 + i % 20),
            ("nut", 103 + i % 20),
            ("elsewhere", 30),
        ):  # nuts: the lower half alone
            Image.new("RGB", (SIZE, SIZE), (red, *COLOURS[name])).save(products / f"good_{name}_{i:02d}.png")
    many = calibration_of(photos=200, bolt=(0.2, 90, 90), nut=(0.8, 200, 20))
    predict(products, PredictionWriter(str(tmp_path / "out"), drift=True, report=False), Probe(many), 16)
    bolt, nut = json.loads((tmp_path / "out" / "drift.json").read_text())["compared"]  # nothing of what is unknown
    assert (bolt["category"], bolt["parts"], bolt["anomalous"], bolt["verdict"]) == ("bolt", 42, 1, "steady")
    assert (nut["category"], nut["parts"], nut["anomalous"], nut["verdict"]) == ("nut", 42, 1, "moved down")
    (window,) = nut["windows"]
    assert (window["first_path"], window["last_path"]) == ("bad_nut.png", "good_nut_39.png")
    printed = capsys.readouterr().out
    assert "nut: Scores of normal parts have moved down since calibration" in printed
    assert "bolt: " not in printed


def test_one_category_for_all_images(photos: Path, tmp_path: Path) -> None:
    (photos / "c.png").unlink()
    predict(photos, PredictionWriter(str(tmp_path / "out"), category="bolt"))
    assert {row["threshold"] for row in rows_of(tmp_path / "out" / "predictions.csv")} == {"0.2"}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"threshold_by": "category"}, r"b.png: none of its folders \(photos\) is a category"),
        ({"category": "nut"}, "no threshold for category 'nut'"),
        ({"category": "bolt", "threshold_by": "category"}, "give one"),
        ({"threshold": 0.5, "false_alarms": 0.01}, "threshold 0.5 is a score, .* give one"),
        ({"false_alarms": 1.0}, "false_alarms is 1.0: give the share"),
        ({"false_alarms": 0.01}, "^false_alarms 0.01: The model's file has no calibration, .*sivt calibrate"),
        ({"threshold_by": "product"}, "^threshold_by product: The model's file has no calibration, .*sivt calibrate"),
    ],
)
def test_what_an_old_model_cannot_give_is_refused_before_anything_is_written(
    settings: dict[str, Any], sentence: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(SIVTError, match=sentence):
        predict(photos, PredictionWriter(str(tmp_path / "out"), **settings))
    assert not (tmp_path / "out").exists()


def test_without_thresholds_there_is_no_verdict_and_nothing_is_written(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SIVTError, match="no thresholds"):
        predict(photos, PredictionWriter(str(tmp_path / "out")), Probe())
    assert not (tmp_path / "out").exists()


@pytest.fixture
def interrupt_handler() -> Iterator[None]:
    """Lightning leaves Ctrl-C ignored after one."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupt_handler")
@pytest.mark.parametrize(("fault", "exits"), [(KeyboardInterrupt, SystemExit), (RuntimeError, RuntimeError)])
def test_an_interrupted_run_keeps_what_is_done(
    photos: Path, tmp_path: Path, fault: type[BaseException], exits: type[BaseException]
) -> None:
    class Interrupted(Probe):
        def predict_step(self, batch: Any, batch_idx: int) -> Detection:
            if batch_idx == 2:
                raise fault
            return super().predict_step(batch, batch_idx)

    out = tmp_path / "out"
    with pytest.raises(exits):
        predict(photos, PredictionWriter(str(out)), Interrupted(THRESHOLDS), batch_size=1)
    rows = rows_of(out / "predictions.csv.part")
    assert [row["path"] for row in rows] == ["b.png", "c.png"]
    assert (out / rows[0]["overlay"]).is_file()
    assert not (out / "predictions.csv").exists()
    resumed = Counting(THRESHOLDS)
    predict(photos, PredictionWriter(str(out), resume=True), resumed)
    assert resumed.seen == 3  # the one that failed is tried again
    assert not (out / "predictions.csv.part").exists()
    predict(photos, PredictionWriter(str(tmp_path / "undisturbed")))
    assert contents(out) == contents(tmp_path / "undisturbed")


class Counting(Probe):
    seen = 0

    def predict_step(self, batch: Any, batch_idx: int) -> Detection:
        self.seen += len(batch.images)
        return super().predict_step(batch, batch_idx)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_with_results_is_not_written_to_unasked(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, PredictionWriter(str(out)))
    before = contents(out)
    with pytest.raises(SIVTError, match=r"add --resume to go on with it, --overwrite to replace it"):
        predict(photos, PredictionWriter(str(out), threshold=0.1))
    with pytest.raises(SIVTError, match="give one"):
        PredictionWriter(resume=True, overwrite=True)
    assert contents(out) == before


def test_overwrite_leaves_nothing_of_before_but_what_is_not_its_own(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, PredictionWriter(str(out), maps=True))
    (out / "masks" / "notes.txt").write_text("mine")
    (photos / "b.png").unlink()
    predict(photos, PredictionWriter(str(out), overlays=False, report=False, overwrite=True))
    named = {"predictions.csv", "predictions.json", "masks/notes.txt"}
    assert contents(out).keys() == named | {f"masks/line 1/a_{kind}.png" for kind in ("jpg", "png")}


def test_a_table_cannot_have_files_outside_its_folder_deleted(photos: Path, tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious.png"
    predict(photos, PredictionWriter(str(out)))
    paint(precious, 3)
    table = out / "predictions.csv"
    table.write_text(
        table.read_text().replace("masks/b.png", "../precious.png").replace("overlays/b.jpg", str(precious))
    )
    predict(photos, PredictionWriter(str(out), overwrite=True))
    assert precious.is_file()


def test_resume_does_what_is_missing_only(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "c.png").unlink()
    out, model = tmp_path / "out", Counting(THRESHOLDS)
    predict(photos, PredictionWriter(str(out), resume=True), model)  # there is nothing yet: like any other
    assert model.seen == 3
    before = contents(out)
    predict(photos, PredictionWriter(str(out), resume=True), model)
    assert model.seen == 3
    assert contents(out) == before
    assert "3 of 3 images are done already" in capsys.readouterr().out
    (out / "masks" / "b.png").unlink()
    paint(photos / "d.png", 9)
    predict(photos, PredictionWriter(str(out), resume=True), model)
    assert model.seen == 5
    changed = {(name, before[name]) for name in ("predictions.csv", "report.html")}
    assert contents(out).items() > before.items() - changed
    assert [row["path"] for row in rows_of(out / "predictions.csv")] == [
        "b.png",
        "d.png",
        "line 1/a.jpg",
        "line 1/a.png",
    ]


@pytest.mark.parametrize("cut", [1, 20])
def test_a_row_that_was_cut_off_is_not_done(photos: Path, tmp_path: Path, cut: int) -> None:
    out, model = tmp_path / "out", Counting(THRESHOLDS)
    (photos / "c.png").unlink()
    predict(photos, PredictionWriter(str(out)))
    table = out / "predictions.csv"
    whole = table.read_bytes()
    table.rename(out / "predictions.csv.part").write_bytes(whole[:-cut])
    predict(photos, PredictionWriter(str(out), resume=True), model)
    assert model.seen == 1
    assert table.read_bytes() == whole


def test_resume_refuses_results_of_another_kind(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, PredictionWriter(str(out)))
    before = contents(out)
    other = Probe(THRESHOLDS, "other")
    for settings, model, sentence in (
        ({}, other, "another model"),
        ({"threshold": 0.3}, None, "another choice of thresholds"),
        ({"maps": True}, None, "another choice of pictures"),
    ):
        with pytest.raises(SIVTError, match=sentence):
            predict(photos, PredictionWriter(str(out), resume=True, **settings), model)  # type: ignore[arg-type]
    (out / "predictions.json").write_text("{}")
    with pytest.raises(SIVTError, match="no telling which"):
        predict(photos, PredictionWriter(str(out), resume=True))
    del before["predictions.json"]
    assert contents(out).items() >= before.items()


def test_regions_are_in_the_table(photos: Path, tmp_path: Path) -> None:
    predict(photos, PredictionWriter(str(tmp_path / "out"), masks=False, overlays=False, report=False))
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert list(rows[0])[-1] == "regions"
    assert [json.loads(row["regions"] or "[]") for row in rows if row["path"] in ("b.png", "c.png")] == [
        [{"box": [0, 0, 8, 8], "area": 64, "peak": 1.0}],
        [],
    ]
    (region,) = json.loads(rows[2]["regions"])  # a JPEG of 80 x 300, its upper left quarter red
    assert region["box"] == pytest.approx([0, 0, 40, 150], abs=20)
    assert not (tmp_path / "out" / "masks").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_told_on_a_terminal_only(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = PredictionWriter(str(tmp_path / "file"))
    predict(photos, writer, None, 2, PredictionProgress(writer))
    assert "images/s" not in capsys.readouterr().out
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "150")
    writer = PredictionWriter(str(tmp_path / "terminal"))
    predict(photos, writer, None, 2, PredictionProgress(writer))
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).split("images/s")[-2:]
    assert "4/4" in last[0]
    assert "left: 2 anomalous, 1 without a result" in last[1]


ODD_NAMES = {  # as the table says them
    "=1+1.png": "'=1+1.png",
    "-1.png": "'-1.png",
    "a,b.png": "a,b.png",
    'q"uote.png': 'q"uote.png',
    "ネジ.png": "ネジ.png",
    "two\nlines.png": "two\nlines.png",
    "not-utf8-\udcff.png": r"not-utf8-\xff.png",
    r"not-utf8-\xff.png": r"not-utf8-\x5cxff.png",
    "x" * 250 + ".png": "x" * 250 + ".png",
}


def test_odd_names_are_told_apart_and_found_again(tmp_path: Path) -> None:
    photos, out, model = tmp_path / "photos", tmp_path / "out", Counting(THRESHOLDS)
    for name in ODD_NAMES:
        paint(photos / name, 255)
    (photos / "=bad\udcff.png").write_bytes(b"no image")
    predict(photos, PredictionWriter(str(out), maps=True), batch_size=8)
    rows = {row["path"]: row for row in rows_of(out / "predictions.csv")}
    assert rows.keys() == {*ODD_NAMES.values(), r"'=bad\xff.png"}
    assert r"=bad\xff.png cannot be read" in rows[r"'=bad\xff.png"]["error"]
    files = [row[column] for row in read_csv(out / "predictions.csv") for column in ("mask", "overlay", "map")]
    assert all((out / file).is_file() for file in files if file)
    assert r"not-utf8-\\xff.png" in (out / "report.html").read_bytes().decode()
    predict(photos, PredictionWriter(str(out), maps=True, resume=True), model)
    assert model.seen == 1  # the bad one


@pytest.mark.parametrize("again", ["resume", "overwrite"])
def test_a_row_of_many_regions_is_read_again(again: str, photos: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", Counting(THRESHOLDS)
    predict(photos, PredictionWriter(str(out)))
    table = out / "predictions.csv"
    region = '{""box"": [0, 0, 8, 8], ""area"": 64, ""peak"": 1.0}'
    table.write_text(table.read_text().replace(region, ", ".join([region] * 3000)))
    predict(photos, PredictionWriter(str(out), **{again: True}), model)  # type: ignore[arg-type]
    assert model.seen == (1 if again == "resume" else 4)
    (regions,) = [row["regions"] for row in read_csv(table) if row["path"] == "b.png"]
    assert len(json.loads(regions)) == (3000 if again == "resume" else 1)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.png", "b/x.png"], ["a/x", "b/x"]),
        (["x.png", "x.jpg", "y.png"], ["x_png", "x_jpg", "y"]),
        (["X.png", "x.PNG"], ["X_png", "x_PNG_2"]),
        (["a.jpg", "a.png", "a_png.bmp"], ["a_jpg", "a_png", "a_png_2"]),
        (["a_png.bmp", "a.jpg", "a.png"], ["a_png", "a_jpg", "a_png_2"]),
        (["A/x.png", "a/x.png"], ["A/x_png", "a/x_png_2"]),
        (["\u00e9.png", "e\u0301.png"], ["\u00e9_png", "e\u0301_png_2"]),
        (["x.v1.png", "x.v2.png"], ["x.v1", "x.v2"]),
        (["../../x.png", "/x.jpg"], ["x_png", "x_jpg"]),
        (["x" * 220 + "1.png", "x" * 220 + "2.png"], ["x" * 200 + "_png", "x" * 200 + "_png_2"]),
    ],
)
def test_no_two_pictures_share_a_name_and_none_leaves_the_folder(paths: list[str], names: list[str]) -> None:
    given = picture_names([PurePosixPath(path) for path in paths])
    assert given == names
    assert len({name.casefold() for name in given}) == len(paths)
