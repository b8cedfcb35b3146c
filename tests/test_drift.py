"""Drift: rarely a false alarm, no alarm for defects, an alarm where the scores of normal parts have moved."""

import contextlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coloured import Coloured, client_of, photo
from conftest import write_tiny_data
from PIL import Image, ImageEnhance
from scipy.stats import mannwhitneyu

from sivt_lightning.cli import main
from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.calibration import Good, calibrate
from sivt_lightning.inference.drift import ALARMS, FEWEST, WINDOW, DriftMonitor, Window, level_of
from sivt_lightning.inference.drifts import Drifts
from sivt_lightning.inference.judge import Asked, ProductJudge
from sivt_lightning.inference.thresholds import Threshold, Thresholds, threshold_of


def held_out(generator: np.random.Generator, images: int = 90) -> Threshold:
    scores = generator.gamma(4, 5, images)
    return threshold_of(scores, scores, 0.99)


def run(threshold: Threshold, scores: np.ndarray) -> tuple[DriftMonitor, list[Window]]:
    monitor = DriftMonitor(threshold)
    windows = [monitor.add(float(score), bool(score > threshold.image)) for score in scores]
    return monitor, [window for window in windows if window is not None]


@pytest.mark.parametrize("images", [25, 90, 400])
def test_false_alarms_are_as_rare_as_it_says(images: int) -> None:
    """Of 150 lines with 15 windows and more, each compared with a calibration of its own."""
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(150):
        monitor, windows = run(held_out(generator, images), generator.gamma(4, 5, 23 * WINDOW))
        assert len(windows) >= 15
        alarms += monitor.moved is not None
    assert alarms <= 150 * ALARMS + 4  # three deviations of the count


def test_false_alarms_stay_rare_over_a_thousand_windows() -> None:
    """Of 200 lines; all windows of one at once, for the monitor would take a minute."""
    generator = np.random.default_rng(0)
    levels = np.array([level_of(number) for number in range(1, 1001)])
    alarms = 0
    for _ in range(200):
        threshold = held_out(generator)
        held = DriftMonitor(threshold).held
        normal = generator.gamma(4, 5, 130 * WINDOW * 10)
        parts = normal[normal <= threshold.image][: 1000 * WINDOW].reshape(1000, WINDOW)
        p = mannwhitneyu(parts, held[None], axis=1, method="asymptotic").pvalue
        _, windows = run(threshold, parts[:2].ravel())
        assert [window.p for window in windows] == pytest.approx(p[:2])
        alarms += bool((p <= levels).any())
    assert alarms <= 200 * ALARMS + 4


@pytest.mark.parametrize(("shift", "verdict"), [(10, "moved up"), (-10, "moved down")])
def test_a_shift_is_found(shift: float, verdict: str) -> None:
    """Of one deviation, in the four windows after it, with 90 images held out."""
    generator = np.random.default_rng(1)
    count = 0
    for _ in range(100):
        threshold = held_out(generator)
        steady, moved = generator.gamma(4, 5, 5 * WINDOW), shift + generator.gamma(4, 5, 5 * WINDOW)
        monitor, _ = run(threshold, np.concatenate([steady, moved]))
        count += monitor.moved is not None and monitor.moved.verdict == verdict and monitor.moved.last >= 5 * WINDOW
    assert count >= 95


def test_defects_raise_no_alarm() -> None:
    generator = np.random.default_rng(2)
    threshold = held_out(generator)
    scores = generator.gamma(4, 5, 2000)
    scores[generator.random(2000) < 0.3] *= 20  # three in ten parts are defective, and glaring
    monitor, windows = run(threshold, scores)
    assert monitor.moved is None
    assert sum(window.anomalous for window in windows) > 500
    assert sum(window.normal + window.anomalous for window in windows) == windows[-1].last + 1


def test_windows_say_what_was_in_them() -> None:
    monitor, windows = run(Threshold(1000.0, 1.0, 50, [float(i) for i in range(50)]), np.arange(250.0))
    assert [(window.first, window.last, window.normal) for window in windows] == [(0, 99, 100), (100, 199, 100)]
    assert windows[0].mean == pytest.approx(49.5)
    assert windows[0].quantiles == pytest.approx([4.95, 24.75, 49.5, 74.25, 94.05])
    assert windows[1].above == 1.0
    assert windows[1].verdict == "moved up"
    assert windows[1].level == pytest.approx(windows[0].level / 4)
    rest = monitor.close()
    assert rest is not None
    assert (rest.first, rest.last, rest.normal) == (200, 249, 50)
    assert monitor.close() is None
    assert "median is 49.5, it was 24.5 (from part 1 to 100, p = " in monitor.sentence()
    names = [f"{i:03}.png" for i in range(250)]
    assert "(from 000.png to 099.png, p = " in monitor.sentence(names)
    names[99] = "\udcff\x1b.png"  # no UTF-8, and a terminal's command
    assert "(from 000.png to ??.png, p = " in monitor.sentence(names)


def test_where_there_are_too_few_it_says_so() -> None:
    monitor, windows = run(Threshold(9.0, 1.0, 5, [1.0, 2.0, 3.0, 4.0, 9.0]), np.ones(300))
    assert {window.verdict for window in windows} == {"cannot tell"}
    assert f"knows 4 held-out normal scores below the threshold, and {FEWEST} are the fewest" in monitor.sentence()
    threshold = held_out(np.random.default_rng(0))
    monitor, _ = run(threshold, np.full(FEWEST - 1, 1.0))
    assert f"cannot be told yet: {FEWEST - 1} parts were called normal, {WINDOW} are judged at" in monitor.sentence()
    assert monitor.close() is not None
    assert f"cannot be told: {FEWEST - 1} parts were called normal" in monitor.sentence()
    old = DriftMonitor(Threshold(9.0, 1.0, 200))
    assert "knows 0 held-out normal scores" in old.sentence()


def test_parts_above_the_threshold_are_never_called_steady() -> None:
    """A camera that was knocked: nothing is left to compare. It was mended, but what came till then is not known."""
    generator = np.random.default_rng(3)
    threshold = held_out(generator)
    good = generator.gamma(4, 5, 1200)
    good = good[good <= threshold.image][:1000]
    monitor, _ = run(threshold, good[:500])
    assert (monitor.verdict, monitor.sentence()) == ("steady", "")
    windows = [monitor.add(1000.0, True) for _ in range(5 * WINDOW)]
    blind = [window for window in windows if window is not None]
    assert [(window.normal, window.anomalous, window.verdict) for window in blind] == [(0, WINDOW, "cannot tell")] * 5
    assert (blind[0].mean, blind[0].quantiles, blind[0].p) == (None, None, None)
    assert monitor.verdict == "cannot tell"
    assert monitor.defects == 5 * WINDOW
    for score in good[500:]:
        monitor.add(float(score), False)
    assert monitor.last is not None
    assert (monitor.last.verdict, monitor.verdict) == ("steady", "cannot tell")
    assert "most parts (100 of 100, from part 501 to 600) are above the threshold" in monitor.sentence()


def test_what_little_is_below_the_threshold_does_not_make_it_steady() -> None:
    """Where 60 of 100 parts are above it, the others may look as they did."""
    generator = np.random.default_rng(4)
    threshold = held_out(generator)
    scores = generator.gamma(4, 5, 600)
    scores[generator.random(600) < 0.6] += 1000
    monitor, windows = run(threshold, scores)
    assert {window.verdict for window in windows} == {"cannot tell"}
    assert all(window.p is not None and window.normal >= FEWEST for window in windows)
    assert "are above the threshold" in monitor.sentence()


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    monitor = DriftMonitor(held_out(np.random.default_rng(0)))
    with pytest.raises(SIVTError, match="leave out images without a result"):
        monitor.add(score, False)
    assert monitor.parts == 0


def test_the_expected_share_of_anomalous_parts() -> None:
    """The highest of n good scores is exceeded by one in n + 1."""
    scores = np.arange(90.0)
    assert DriftMonitor(threshold_of(scores, scores, 0.99)).calibration()["anomalous_share"] == pytest.approx(1 / 91)
    assert DriftMonitor(threshold_of(scores, scores, 0.9)).calibration()["anomalous_share"] == pytest.approx(9 / 91)


def test_scores_that_are_all_the_same() -> None:
    monitor, windows = run(Threshold(4.0, 1.0, 40, [3.0] * 40), np.full(200, 3.0))
    assert [window.verdict for window in windows] == ["steady", "steady"]
    assert monitor.sentence() == ""


def told(drifts: Drifts, product: str, scores: np.ndarray) -> None:
    """Parts of a product, judged as `ProductJudge` judges them."""
    limit = drifts.judge.threshold(product).image
    for score in scores:
        drifts.add("anomalous" if score > limit else "normal", product, float(score))


def calibrated(generator: np.random.Generator, held_out: int, trained: int) -> Drifts:
    """Of two products; images that the model has learned from have lower scores."""
    parts: list[dict[str, Good]] = []
    for count, factor in ((held_out, 1.0), (trained, 0.8)):
        scores = {name: scale * factor * generator.gamma(4, 5, count) for name, scale in (("bolt", 1.0), ("nut", 9.0))}
        parts.append({name: Good(own, own, generator.normal(0, 1, (count, 3))) for name, own in scores.items()})
    return Drifts(ProductJudge(calibrate(*parts), Asked()))


def test_each_product_is_compared_with_its_own_held_out_photos() -> None:
    """However many it was trained on; of 100 lines, whose two products have four windows and more, one in fifty."""
    generator, alarms = np.random.default_rng(5), 0
    for _ in range(100):
        drifts = calibrated(generator, 40, 200)
        told(drifts, "bolt", generator.gamma(4, 5, 450))
        told(drifts, "nut", 9 * generator.gamma(4, 5, 450))
        assert [len(monitor.held) for monitor in drifts.monitors.values()] == [38, 38]  # below the threshold
        alarms += drifts.verdict != "steady"
    assert alarms <= 100 * 2 * ALARMS + 4


def test_the_product_that_has_moved_is_named() -> None:
    generator = np.random.default_rng(6)
    drifts = calibrated(generator, 90, 0)
    assert drifts.sentences() == ["Whether scores have moved cannot be told yet: no parts."]
    told(drifts, "bolt", generator.gamma(4, 5, 300))
    assert (drifts.verdict, drifts.sentences()) == ("steady", [])
    told(drifts, "nut", 9 * (15 + generator.gamma(4, 2, 300)))
    assert drifts.verdict == "moved up"
    (sentence,) = drifts.sentences({"nut": [f"{i:03}.png" for i in range(300)]})
    assert sentence.startswith("nut: Scores of normal parts have moved up since calibration: their median is ")
    assert "(from 000.png to " in sentence
    few = calibrated(generator, 12, 90)
    told(few, "bolt", generator.gamma(4, 5, 300))
    assert few.verdict == "cannot tell"
    assert "bolt: Whether scores have moved cannot be told: the model knows 12 held-out" in few.sentences()[0]


def test_unknown_parts_are_counted_and_many_are_never_called_steady() -> None:
    generator = np.random.default_rng(7)
    drifts = calibrated(generator, 90, 0)
    told(drifts, "bolt", generator.gamma(4, 5, 290))
    for _ in range(10):
        drifts.add("unknown", None, 1e6)
    assert (drifts.parts, drifts.unknown, drifts.verdict, drifts.news) == (300, 10, "steady", "")
    for _ in range(45):
        drifts.add("unknown", None, 1e6)
    told(drifts, "bolt", generator.gamma(4, 5, 40))
    for _ in range(15):
        drifts.add("unknown", None, 1e6)
    assert drifts.news == drifts.sentences()[0]
    assert "most parts (60 of 100, from part 301 to 400) look like none of the products" in drifts.news
    told(drifts, "bolt", generator.gamma(4, 5, 300))
    assert (drifts.verdict, drifts.news, drifts.unknown) == ("cannot tell", "", 70)
    last = calibrated(generator, 90, 0)
    for _ in range(FEWEST):
        last.add("unknown", None, 1e6)
    assert (last.sentences(), last.close()) == ([], {})
    assert f"most parts ({FEWEST} of {FEWEST}, from part 1 to {FEWEST}) look" in last.sentences()[0]


@pytest.fixture(scope="module")
def trained(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On 70 images of each product, of which 21 are held out."""
    folder = tmp_path_factory.mktemp("drift")
    write_tiny_data(folder / "data", train=70, good=1, bad=1)
    arguments = ["--config", str(tiny_config), "--data.root", str(folder / "data"), "--data.val_share", "0.3"]
    with contextlib.chdir(folder):
        assert main(["fit", *arguments, "--trainer.max_epochs", "1"]) == 0
    return folder


def predicted(trained: Path, photos: Path, output: Path, *more: str) -> dict[str, Any]:
    """What is above no threshold, and of one of the products."""
    checkpoint = trained / "runs/tiny/version_0/checkpoints/best.ckpt"
    arguments = ["--ckpt_path", str(checkpoint), "--data.predict_path", str(photos), "--output", str(output)]
    quick = ["--writer.masks", "false", "--writer.overlays", "false", "--writer.report", "false"]
    every = ["--threshold", "1e9", "--unknown", "false"]
    assert main(["predict", *arguments, *quick, *every, "--writer.drift", "true", *more]) == 0
    return json.loads((output / "drift.json").read_text())


def test_predict_says_that_the_light_has_changed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same, dark = tmp_path / "same", tmp_path / "dark"
    for path in sorted((trained / "data").glob("*/train/good/*.png")):
        for folder, factor in ((same, 1.0), (dark, 0.75)):
            to = folder / path.parts[-4] / path.name
            to.parent.mkdir(parents=True, exist_ok=True)
            ImageEnhance.Brightness(Image.open(path)).enhance(factor).save(to)
    report = predicted(trained, same, tmp_path / "out")
    across, down = report["compared"]
    assert report.keys() == {"test", "window", "unknown", "compared"}
    assert across.keys() == {"category", "calibration", "parts", "anomalous", "verdict", "windows"}
    for compared in (across, down):
        assert compared["verdict"] == "steady"
        assert (compared["parts"], compared["anomalous"]) == (70, 0)
        assert compared["calibration"]["images"] == 21
    (window,) = across["windows"]
    assert window.keys() == {field.name for field in fields(Window)} | {"verdict", "first_path", "last_path"}
    assert (window["first_path"], window["last_path"]) == ("across/000.png", "across/069.png")
    assert "have moved" not in capsys.readouterr().out
    # Half of it is done already: the same, to the letter.
    whole = (tmp_path / "out/drift.json").read_text()
    rows = (tmp_path / "out/predictions.csv").read_text().splitlines(keepends=True)
    (tmp_path / "out/predictions.csv").write_text("".join(rows[:41]))
    predicted(trained, same, tmp_path / "out", "--resume")
    assert "40 of 140 images are done already" in capsys.readouterr().out
    assert (tmp_path / "out/drift.json").read_text() == whole
    report = predicted(trained, dark, tmp_path / "out", "--overwrite", "--threshold_by", "category")
    assert [one["category"] for one in report["compared"]] == ["across", "down"]
    assert all(one["verdict"].startswith("moved") for one in report["compared"])
    said = capsys.readouterr().out
    assert "across: Scores of normal parts have moved" in said
    assert "(from down/000.png to down/069.png, p = " in said
    report = predicted(trained, dark, tmp_path / "strange", "--unknown", "true")
    assert report["unknown"] > 70
    assert "look like none of the products, and these are not compared" in capsys.readouterr().out
    # Without it an earlier run's is not left to be taken for this one's.
    checkpoint_path = str(trained / "runs/tiny/version_0/checkpoints/best.ckpt")
    again = ["--data.predict_path", str(same), "--output", str(tmp_path / "out"), "--overwrite"]
    assert main(["predict", "--ckpt_path", checkpoint_path, *again]) == 0
    assert not (tmp_path / "out/drift.json").exists()


def test_the_server_says_it_too(capfd: pytest.CaptureFixture[str]) -> None:
    predictor = Coloured(known=Thresholds(0.99, Threshold(100.0, 1.0, 30, [float(i) for i in range(30)]), {}))
    with client_of(predictor) as client:
        assert client.get("/v1/drift").json()["verdict"] == "cannot tell"
        for i in range(WINDOW):
            client.post("/v1/predict", content=photo(200 if i % 20 == 0 else i % 13))
        for i in range(2 * WINDOW):
            client.post("/v1/predict", content=photo(60 + i % 30))
        answer = client.get("/v1/drift").json()
    assert answer["verdict"] == "moved down"  # the first, from 0 to 29 to 0 to 12; it is held
    (one,) = answer["products"]
    assert one["windows"] == 2
    assert one["last"]["verdict"] == "moved up"
    assert "Scores of normal parts have moved" in answer["sentence"]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert sum("drift" in line for line in lines) == 1


def test_the_server_says_that_most_parts_are_above_the_threshold(capfd: pytest.CaptureFixture[str]) -> None:
    predictor = Coloured(known=Thresholds(0.99, Threshold(100.0, 1.0, 30, [float(i) for i in range(30)]), {}))
    with client_of(predictor) as client:
        for _ in range(WINDOW):
            client.post("/v1/predict", content=photo(200))
        answer = client.get("/v1/drift").json()
    assert answer["verdict"] == "cannot tell"
    assert (answer["products"][0]["last"]["normal"], answer["products"][0]["last"]["mean"]) == (0, None)
    (line,) = (entry for line in capfd.readouterr().err.splitlines() if "drift" in (entry := json.loads(line)))
    assert "most parts (100 of 100, from part 1 to 100) are above the threshold" in line["drift"]
