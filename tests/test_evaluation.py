"""The figures of a test: right, independent of batches, scale and processes, and undefined where they mean nothing."""

import csv
import io
import json
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import run_two
from lightning import LightningModule, Trainer
from parts import Probe, calibration_of
from PIL import Image
from rich.console import Console
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from sivt_lightning.data import layouts
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import Agreed, SIVTError
from sivt_lightning.evaluation.callback import Evaluation
from sivt_lightning.evaluation.tally import Outcome, Tally, mean_of, plain
from sivt_lightning.evaluation.verdicts import Judged, operating_points
from sivt_lightning.inference.thresholds import Threshold, Thresholds
from sivt_lightning.model.detection import Detection
from sivt_lightning.report import curves
from sivt_lightning.report.tables import FIGURES, OPERATING, Results, console_tables, csv_table, markdown_tables

SIZE = 16
MASK = Path("mask.png")


class Drawn:
    """Random scores, maps and masks of samples, with ties."""

    def __init__(self, samples: list[Sample]) -> None:
        generator = torch.Generator().manual_seed(0)
        self.samples = samples
        self.scores = torch.rand(len(samples), generator=generator).mul(20).round() / 10  # 0 to 2, on both sides of 1
        self.maps = torch.rand(len(samples), SIZE, SIZE, generator=generator).mul(200).round() / 100
        self.masks = torch.rand(len(samples), SIZE, SIZE, generator=generator) < 0.1
        for i, sample in enumerate(samples):
            self.masks[i] &= sample.mask_path is not None

    def outcome(self, batch_size: int = 5, scale: float = 1.0) -> Outcome:
        tally = Tally(self.samples)
        for index in torch.randperm(len(self.samples)).split(batch_size):
            masks = [self.masks[i] for i in index]
            tally.update(index.tolist(), self.scores[index] * scale, self.maps[index] * scale, masks)
        return tally.outcome()


def values(outcome: Outcome) -> dict[str, Any]:
    """Figures by category, their mean and the pooled ones, None where undefined."""
    categories = {name: plain(figures, "value") for name, figures in outcome.categories.items()}
    return {
        "categories": categories,
        "mean": mean_of(list(categories.values()), FIGURES),
        "pooled": plain(outcome.pooled, "value"),
    }


def samples(category: str, normal: int, anomalous: int, mask: Path | None = MASK) -> list[Sample]:
    return [Sample(Path("a.png"), category)] * normal + [Sample(Path("b.png"), category, True, "cut", mask)] * anomalous


def reference(labels: np.ndarray, scores: np.ndarray, kind: str) -> dict[str, float]:
    labels, scores = labels.reshape(-1), scores.reshape(-1)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return {
        f"{kind}_auroc": roc_auc_score(labels, scores),
        f"{kind}_ap": average_precision_score(labels, scores),
        f"{kind}_f1max": f1.max(),
    }


def test_the_figures_are_those_of_scikit_learn() -> None:
    drawn = Drawn(samples("bolt", 20, 15) + samples("nut", 7, 30))
    outcome = drawn.outcome()
    results = values(outcome)
    truth = np.array([sample.anomalous for sample in drawn.samples])
    of = {name: np.array([sample.category == name for sample in drawn.samples]) for name in ("bolt", "nut")}
    every = np.ones_like(truth)
    expected = {
        name: reference(truth[rows], drawn.scores.numpy()[rows], "image")
        | reference(drawn.masks.numpy()[rows], drawn.maps.numpy()[rows], "pixel")
        for name, rows in (*of.items(), ("pooled", every))
    }
    for figure in expected["bolt"]:
        assert results["categories"]["bolt"][figure] == pytest.approx(expected["bolt"][figure], abs=1e-12)
        assert results["categories"]["nut"][figure] == pytest.approx(expected["nut"][figure], abs=1e-12)
        assert results["pooled"][figure] == pytest.approx(expected["pooled"][figure], abs=1e-12)
        mean = (expected["bolt"][figure] + expected["nut"][figure]) / 2
        assert results["mean"][figure] == pytest.approx(mean, abs=1e-12)
    assert max(figure.error for figure in outcome.pooled.values()) < 1e-9


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("scale", [2.0**-30, 1.0, 2.0**40])
def test_batch_size_order_and_positive_rescaling_change_nothing(batch_size: int, scale: float) -> None:
    drawn = Drawn(samples("bolt", 9, 9) + samples("nut", 9, 9))
    otherwise, plainly = values(drawn.outcome(batch_size, scale)), values(drawn.outcome())
    for group in ("bolt", "nut"):
        assert otherwise["categories"][group] == pytest.approx(plainly["categories"][group], abs=1e-12)
    assert otherwise["pooled"] == pytest.approx(plainly["pooled"], abs=1e-12)


def test_a_category_without_masks_has_no_pixel_figures_and_is_left_out_of_mean_and_pooled() -> None:
    outcome = Drawn(samples("nut", 8, 8) + samples("bolt", 8, 8, mask=None)).outcome()
    results = values(outcome)
    assert results["categories"]["bolt"]["pixel_auroc"] is None
    assert results["categories"]["bolt"]["image_auroc"] is not None
    for figure in ("pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_aupro"):
        assert results["mean"][figure] == results["categories"]["nut"][figure]
        assert results["pooled"][figure] == pytest.approx(results["categories"]["nut"][figure], abs=1e-12)
    assert any("bolt: no masks" in note for note in outcome.notes)


@pytest.mark.parametrize(("normal", "anomalous", "word"), [(5, 0, "only normal"), (0, 5, "only anomalous")])
def test_one_kind_of_image_gives_no_image_figures(normal: int, anomalous: int, word: str) -> None:
    outcome = Drawn(samples("bolt", normal, anomalous) + samples("nut", 6, 6)).outcome()
    results = values(outcome)
    bolt = results["categories"]["bolt"]
    assert bolt["image_auroc"] is bolt["image_ap"] is bolt["image_f1max"] is None
    assert (bolt["pixel_auroc"] is None) == (anomalous == 0)
    assert results["mean"]["image_ap"] == results["categories"]["nut"]["image_ap"]
    assert results["pooled"]["image_ap"] is not None
    assert any(f"bolt: {word} test images" in note for note in outcome.notes)
    assert any("bolt: pixels of one kind" in note for note in outcome.notes) == (anomalous == 0)


def test_without_any_defined_figure_mean_and_pooled_are_undefined_too() -> None:
    results = values(Drawn(samples("bolt", 4, 0)).outcome())
    assert set(results["mean"].values()) == set(results["pooled"].values()) == {None}


def test_a_mask_that_is_lost_at_the_maps_size_is_told() -> None:
    drawn = Drawn(samples("bolt", 3, 3))
    drawn.masks[4] = False
    assert any("bolt: 1 of its masks" in note for note in drawn.outcome().notes)


def test_recall_and_false_alarms_are_those_of_the_threshold() -> None:
    drawn = Drawn(samples("bolt", 20, 15) + samples("nut", 7, 30))
    limits = {"bolt": 1.05, "nut": 0.5}
    judged = {
        i: Judged("anomalous" if score > limits[sample.category] else "normal", None, None, None)
        for i, (sample, score) in enumerate(zip(drawn.samples, drawn.scores.tolist(), strict=True))
    }
    points = operating_points(drawn.samples, judged, limits)
    totals = np.zeros(4)
    for name, threshold in (("bolt", 1.05), ("nut", 0.5)):
        of = [i for i, sample in enumerate(drawn.samples) if sample.category == name]
        above, bad = drawn.scores[of] > threshold, torch.tensor([drawn.samples[i].anomalous for i in of])
        true, false = int((above & bad).sum()), int((above & ~bad).sum())
        point = points["categories"][name]
        assert (point["normal_images"], point["anomalous_images"]) == (int((~bad).sum()), int(bad.sum()))
        assert point["threshold"] == threshold
        assert point["recall"] == true / int(bad.sum())
        assert point["false_alarm_rate"] == false / int((~bad).sum())
        assert point["f1"] == 2 * true / (int(bad.sum()) + true + false)
        totals += [true, int(bad.sum()), false, int((~bad).sum())]
    assert points["pooled"]["recall"] == totals[0] / totals[1]
    assert points["pooled"]["false_alarm_rate"] == totals[2] / totals[3]
    assert points["pooled"]["threshold"] is points["mean"]["threshold"] is None
    mean = (points["categories"]["bolt"]["recall"] + points["categories"]["nut"]["recall"]) / 2
    assert points["mean"]["recall"] == mean
    assert points["pooled"]["recognised"] is points["mean"]["unknown"] is None  # by a model that recognises none
    same = operating_points(drawn.samples, judged, {"bolt": 0.5, "nut": 0.5})
    assert same["pooled"]["threshold"] == 0.5
    without = operating_points(drawn.samples, {}, {"bolt": None, "nut": None})
    assert without["pooled"]["recall"] is without["categories"]["nut"]["f1"] is None
    assert without["pooled"]["anomalous_images"] == 45


def test_what_is_unknown_counts_as_called_anomalous_and_by_its_nearest_product_as_recognised() -> None:
    said = {
        0: Judged("normal", "bolt", "bolt", 0.1),
        1: Judged("unknown", None, "bolt", 0.2),
        2: Judged("unknown", None, "nut", 2.0),
        3: Judged("normal", "nut", "nut", 0.3),
    }
    points = operating_points(samples("bolt", 2, 2), said, {"bolt": 1.0})
    shares = {name: points["pooled"][name] for name in ("recall", "false_alarm_rate", "f1", "recognised", "unknown")}
    assert shares == {"recall": 0.5, "false_alarm_rate": 0.5, "f1": 0.5, "recognised": 0.5, "unknown": 0.5}
    told = {i: one._replace(nearest=None) for i, one in said.items()}  # so nothing was there to recognise
    pooled = operating_points(samples("bolt", 2, 2), told, {"bolt": 1.0})["pooled"]
    assert (pooled["recognised"], pooled["unknown"]) == (None, 0.5)


def results_of(names: dict[str, dict[str, float | None]]) -> Results:
    nothing: dict[str, Any] = dict.fromkeys(OPERATING)
    points = {"categories": dict.fromkeys(names, nothing | {"anomalous_images": 4}), "mean": nothing, "pooled": nothing}
    some = next(iter(names.values()))
    return {
        "categories": names,
        "mean": some,
        "pooled": some,
        "error_bounds": {},
        "operating_points": points,
        "settings": {},
    }


def test_names_are_data_in_every_table() -> None:
    figures = dict.fromkeys(FIGURES, 1.0) | {"image_auroc": 0.98765, "pixel_ap": None}
    name = "[red]a|b, <i>"
    results = results_of({name: figures})
    rows = list(csv.DictReader(io.StringIO(csv_table(results))))
    assert [row["category"] for row in rows] == [name, "mean", "pooled"]
    assert rows[0]["image_auroc"] == "0.9877"
    assert rows[0]["pixel_ap"] == ""
    assert rows[0]["anomalous_images"] == "4"
    lines = markdown_tables(results, ["a note"]).splitlines()
    assert lines[2].startswith(r"| \[red\]a\|b, \<i\> | 0.9877 | 1.0000 | 1.0000 | 1.0000 | - |")
    assert lines[-1] == "- a note"
    console = Console(file=io.StringIO(), width=140)
    for table in console_tables(results):
        console.print(table)
    assert name in console.file.getvalue()
    assert "oracle: uses test labels" in " ".join(console.file.getvalue().split())


def test_categories_may_be_called_mean_and_pooled() -> None:
    outcome = Drawn(samples("mean", 8, 8) + samples("pooled", 8, 8)).outcome()
    figures = values(outcome)
    assert figures["categories"]["pooled"] != figures["pooled"]
    results = results_of(figures["categories"])
    rows = list(csv.reader(io.StringIO(csv_table(results))))
    assert [row[0] for row in rows[1:]] == ["mean (category)", "pooled (category)", "mean", "pooled"]
    firsts = [line.split(" | ")[0] for line in markdown_tables(results).splitlines()]
    assert firsts.count("| mean") == firsts.count("| mean (category)") == firsts.count("| pooled (category)") == 2


def test_a_note_on_a_category_called_mean_is_none_on_the_mean() -> None:
    notes = Drawn(samples("mean", 8, 8, mask=None)).outcome().notes
    assert [note.split(":")[0] for note in notes] == ["mean", "mean (category)"]


# ------------------------------------------------------------ the whole callback


def paint(path: Path, seed: int, spot: bool = False) -> None:
    """Faint noise, and where asked a bright spot with its mask."""
    pixels = np.random.default_rng(seed).integers(0, 100, (SIZE, SIZE, 3), dtype=np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    if spot:
        mask[4:8, 4:8] = 255
        pixels[4:8, 4:8, 0] += 50
        truth = path.parents[2] / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        truth.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(truth)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for c, category in enumerate(("bolt", "nut")):
        for i in range(3):
            paint(tmp_path / "data" / category / "test" / "good" / f"{i}.png", 10 * c + i)
            paint(tmp_path / "data" / category / "test" / "cut" / f"{i}.png", 10 * c + i + 5, spot=True)
    return tmp_path / "data"


def run_test(root: Path, evaluation: Evaluation, model: LightningModule) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[evaluation])
    data = SIVTDataModule(str(root), image_size=SIZE, eval_batch_size=4, num_workers=0)
    trainer.test(model, data, verbose=False)


def test_the_files_hold_the_contract_and_the_console_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = root.parent / "out"
    evaluation = Evaluation(str(output))
    run_test(root, evaluation, Probe())
    stored = json.loads((output / "metrics.json").read_text())
    assert stored == evaluation.results
    assert list(stored)[:3] == ["categories", "mean", "pooled"]
    assert stored["error_bounds"]["categories"]["nut"].keys() == stored["mean"].keys()
    assert list(stored["categories"]) == ["bolt", "nut"]
    assert tuple(stored["mean"]) == tuple(stored["pooled"]) == tuple(stored["categories"]["nut"]) == FIGURES
    assert 0.5 < stored["mean"]["pixel_auroc"] <= 1
    assert sorted(path.name for path in output.iterdir()) == [
        "curves",
        "gallery.png",
        "metrics.csv",
        "metrics.json",
        "metrics.md",
    ]
    assert sorted(path.name for path in (output / "curves").iterdir()) == ["pr.png", "pro.png", "roc.png", "scores.png"]
    assert [line.split(",")[0] for line in (output / "metrics.csv").read_text().splitlines()[1:]] == [
        "bolt",
        "nut",
        "mean",
        "pooled",
    ]
    printed = capsys.readouterr().out
    assert f"{stored['mean']['pixel_auroc']:.4f}" in printed
    assert str(output / "metrics.json") in printed


def map_of(index: int) -> torch.Tensor:
    return torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(index))


def test_at_full_resolution_maps_are_compared_at_the_masks_own_size(root: Path) -> None:
    """Photos of 48 x 32 with masks of 24 x 16: the map of 16 x 16 is stretched to either."""

    class Fixed(Probe):
        def test_step(self, batch: Any, batch_idx: int) -> Detection:
            maps = torch.stack([map_of(i) for i in batch.index.tolist()])
            return Detection(maps.amax((1, 2)), maps)

    scores, labels = [], []
    for index, sample in enumerate(layouts.test_samples(root, None).samples):
        Image.open(sample.path).resize((48, 32)).save(sample.path)
        mask = np.zeros((32, 48), bool)
        if sample.mask_path is not None:
            Image.open(sample.mask_path).resize((24, 16), Image.Resampling.NEAREST).save(sample.mask_path)
            mask = np.asarray(Image.open(sample.mask_path)) > 0
        stretched = torch.nn.functional.interpolate(map_of(index)[None, None], size=mask.shape, mode="bilinear")
        scores.append(stretched.numpy().reshape(-1))
        labels.append(mask.reshape(-1))
    assert sum(len(part) for part in labels) == 6 * 32 * 48 + 6 * 16 * 24
    full, squeezed = (Evaluation(str(root.parent / name), full_resolution=name == "full") for name in ("full", "half"))
    for evaluation in (full, squeezed):
        run_test(root, evaluation, Fixed())
        assert evaluation.results is not None
    expected = roc_auc_score(np.concatenate(labels), np.concatenate(scores))
    assert full.results["pooled"]["pixel_auroc"] == pytest.approx(expected, abs=1e-12)  # type: ignore[index]
    assert squeezed.results["pooled"]["pixel_auroc"] != pytest.approx(expected, abs=1e-4)  # type: ignore[index]


def test_verdicts_follow_the_thresholds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    categories = {"bolt": Threshold(0.0, 0.0, 200), "nut": Threshold(0.9, 0.9, 3)}
    model = Probe(Thresholds(0.9, Threshold(0.45, 0.3, 200), categories))
    recall = {}
    for name, settings in {
        "pooled": {},
        "category": {"threshold_by": "category"},
        "given": {"threshold": 0.0, "threshold_by": "category"},
    }.items():
        evaluation = Evaluation(str(root.parent / name), curves=False, gallery=False, **settings)
        run_test(root, evaluation, model)
        assert evaluation.results is not None
        points = evaluation.results["operating_points"]["categories"]
        recall[name] = (points["bolt"]["false_alarm_rate"], points["nut"]["recall"])
        output = capsys.readouterr().out
        assert ("threshold of nut rests on fewer" in output) == (name == "category")
    assert recall == {"pooled": (0.0, 1.0), "category": (1.0, 0.0), "given": (1.0, 1.0)}
    model = Probe(Thresholds(0.9, Threshold(0.45, 0.3, 200), {}))
    with pytest.raises(SIVTError, match="no threshold for category 'bolt'"):
        run_test(root, Evaluation(str(root.parent / "none"), threshold_by="category"), model)


# Scores of bolts are four times those of nuts, whose pictures are greener.
KNOWN = calibration_of(photos=99, bolt=(0.4, 50, 50), nut=(0.1, 150, 50))


@pytest.fixture
def scaled(root: Path) -> Path:
    for path in root.glob("nut/test/*/*.png"):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[..., 0] //= 4
        pixels[..., 1] += 100
        Image.fromarray(pixels).save(path)
    return root


def outcome_of(root: Path, model: LightningModule, **settings: Any) -> Results:
    plainly = {"curves": False, "gallery": False, "report": False} | settings
    evaluation = Evaluation(str(root.parent / "out"), **plainly)
    run_test(root, evaluation, model)
    assert evaluation.results is not None
    return evaluation.results


def test_pooled_figures_of_images_are_of_calibrated_scores(scaled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = outcome_of(scaled, Probe())
    capsys.readouterr()
    results = outcome_of(scaled, Probe(KNOWN), curves=True)
    assert "pooled_raw" not in raw
    assert results["pooled_raw"] == raw["pooled"]
    assert raw["pooled"]["image_auroc"] == pytest.approx(0.75)  # each defective nut scores below each good bolt
    assert results["pooled"]["image_auroc"] == results["mean"]["image_auroc"] == 1.0
    for group in ("categories", "mean"):
        assert results[group] == raw[group]  # type: ignore[literal-required]
    for figure in ("pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_aupro"):
        assert results["pooled"][figure] == raw["pooled"][figure]
    points = results["operating_points"]
    for name, limit in (("bolt", 0.4), ("nut", 0.1)):
        point = points["categories"][name]
        assert point["threshold"] == pytest.approx(limit, rel=0.05)
        assert (point["recall"], point["false_alarm_rate"], point["recognised"], point["unknown"]) == (1, 0, 1, 0)
    assert points["pooled"]["threshold"] is None
    assert results["settings"]["test"]["false_alarms"] == 0.05
    assert results["settings"]["test"]["unknown"] is True
    said = "Products: of 12 images, 12 are nearest to their own, 0 were called unknown. pooled image figures are of "
    said += "calibrated scores, which compare between products (of raw scores, which do not: image AUROC 0.7500)."
    assert said in " ".join(capsys.readouterr().out.split())
    assert said in (scaled.parent / "out" / "metrics.md").read_text()


def test_a_test_counts_unknown_photos(scaled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (scaled / "bolt" / "test" / "good").iterdir():  # covered by something blue, and otherwise as good
        pixels = np.asarray(Image.open(path)).copy()
        pixels[..., 2] = 255
        Image.fromarray(pixels).save(path)
    point = outcome_of(scaled, Probe(KNOWN))["operating_points"]["categories"]["bolt"]
    assert (point["false_alarm_rate"], point["unknown"], point["recognised"]) == (1.0, 0.5, 1.0)
    assert "3 were called unknown" in capsys.readouterr().out
    point = outcome_of(scaled, Probe(KNOWN), unknown=False)["operating_points"]["categories"]["bolt"]
    assert (point["false_alarm_rate"], point["unknown"]) == (0.0, 0.0)


def test_a_category_that_the_model_does_not_know_is_held_against_what_it_is_most_like(
    scaled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scaled / "nut").rename(scaled / "pin")
    results = outcome_of(scaled, Probe(KNOWN))
    pin = results["operating_points"]["categories"]["pin"]
    assert (pin["threshold"], pin["recognised"], pin["recall"]) == (None, 0.0, 1.0)
    with pytest.raises(SIVTError, match="no threshold for category 'pin': the model knows bolt, nut"):
        outcome_of(scaled, Probe(KNOWN), threshold_by="category")
    with pytest.raises(SIVTError, match="this model has no threshold for all"):
        outcome_of(scaled, Probe(KNOWN), threshold_by="pooled")


def test_a_told_product_is_none_that_was_recognised(scaled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = outcome_of(scaled, Probe(KNOWN), threshold_by="category", false_alarms=0.01)
    pooled = results["operating_points"]["pooled"]
    assert (pooled["recognised"], pooled["unknown"], pooled["recall"]) == (None, 0.0, 1.0)
    assert results["settings"]["test"]["false_alarms"] == 0.01
    assert "Products: of 12 images, 0 were called unknown." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("settings", [{"false_alarms": 0.01}, {"threshold_by": "product"}])
def test_an_old_model_is_asked_in_vain_for_what_it_lacks(settings: dict[str, Any], root: Path) -> None:
    model = Probe(Thresholds(0.9, Threshold(0.45, 0.3, 200), {}))
    with pytest.raises(SIVTError, match=r"The model's file has no calibration.*sivt calibrate"):
        run_test(root, Evaluation(str(root.parent / "out"), **settings), model)


def test_without_thresholds_there_are_figures_but_no_verdicts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = Evaluation(str(root.parent / "out"))
    run_test(root, evaluation, Probe())
    assert evaluation.results is not None
    assert evaluation.results["operating_points"]["pooled"]["recall"] is None
    assert "holds no thresholds, so there are no verdicts: `sivt calibrate` adds them" in capsys.readouterr().out
    with pytest.raises(SIVTError, match=r"probe.ckpt holds no thresholds.*sivt calibrate --ckpt_path probe.ckpt"):
        run_test(root, Evaluation(str(root.parent / "out"), threshold=0.5), Probe())
    assert not (root.parent / "out" / "report.html").exists()


def report_data(folder: Path) -> dict[str, Any]:
    page = (folder / "report.html").read_text()
    return json.loads(page.split('<script id="data" type="application/json">')[1].split("</script>")[0])


def test_the_report_shows_every_image_with_its_truth(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, model = root.parent / "out", Probe(Thresholds(0.9, Threshold(0.45, 0.3, 200), {}))
    run_test(root, Evaluation(str(out), curves=False, gallery=False), model)
    images = report_data(out)["images"]
    kinds = [
        f"{category}/test/{kind}/{i}.png" for category in ("bolt", "nut") for kind in ("cut", "good") for i in range(3)
    ]
    assert [image["path"] for image in images] == kinds
    for image in images:
        cut = "/cut/" in image["path"]
        assert image["defect"] == ("cut" if cut else None)
        assert image["threshold"] == 0.45
        red = np.asarray(Image.open(root / image["path"]))[..., 0] / 255
        assert image["score"] == pytest.approx(red.max(), abs=1e-6)
        assert image["share"] == (pytest.approx((red > 0.3).mean()) if image["verdict"] == "anomalous" else 0)
        assert image["verdict"] == ("anomalous" if red.max() > 0.45 else "normal")
        heat = np.asarray(Image.open(out / image["heat"]))
        assert ((heat > 85) == (red.astype(np.float32) > 0.3)).all()
        assert Image.open(out / image["photo"]).size == (SIZE, SIZE)
        assert bool(image["truth"]) == cut
        if cut:
            assert set(np.unique(np.asarray(Image.open(out / image["truth"]))[4:8, 4:8])) == {255}
    assert "Figures, in fractions of 1" in (out / "report.html").read_text()
    assert str(out / "report.html") in capsys.readouterr().out
    run_test(root, Evaluation(str(root.parent / "bare"), curves=False, gallery=False, report=False), model)
    assert {path.name for path in (root.parent / "bare").iterdir()} == {f"metrics.{s}" for s in ("csv", "json", "md")}


def test_a_thin_defect_of_a_large_photo_is_in_the_report(root: Path) -> None:
    size = (1600, 800)
    Image.new("RGB", size).save(root / "bolt" / "test" / "cut" / "0.png")
    mask = Image.new("L", size)
    mask.putpixel((801, 401), 1)
    mask.save(root / "bolt" / "ground_truth" / "cut" / "0_mask.png")
    out, model = root.parent / "out", Probe(Thresholds(0.9, Threshold(0.45, 0.3, 200), {}))
    run_test(root, Evaluation(str(out), full_resolution=True, curves=False, gallery=False), model)
    shown = report_data(out)["images"][0]
    truth = np.asarray(Image.open(out / shown["truth"]))
    assert Image.open(out / shown["photo"]).size == (512, 256)
    assert truth.shape == (256, 512)
    assert np.argwhere(truth == 255).tolist() == [[128, 256]]


def test_every_category_is_in_the_legend_whatever_its_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    legends = []

    def keep(picture: Any, path: Path) -> Path:
        legends.extend([text.get_text() for text in axis.get_legend().get_texts()] for axis in picture.axes)
        return saved(picture, path)

    saved = curves._save
    monkeypatch.setattr(curves, "_save", keep)
    (root / "nut").rename(root / "_$\\frac{<b>")
    run_test(root, Evaluation(str(root.parent / "out")), Probe())
    assert len(legends) == 2 + 2 + 1 + 2
    for legend in legends[:5]:
        assert [text.split("  ")[0].strip() for text in legend] == [r"_\$\frac{<b>", "bolt", "pooled"]


def test_without_normal_images_there_is_a_pixel_curve_and_none_of_an_earlier_test(root: Path) -> None:
    for category in ("bolt", "nut"):
        for path in (root / category / "test" / "good").iterdir():
            path.unlink()
    folder = root.parent / "out" / "curves"
    folder.mkdir(parents=True)
    (folder / "pro.png").write_bytes(b"old")
    run_test(root, Evaluation(str(root.parent / "out")), Probe())
    assert (folder / "pro.png").stat().st_size > 1000
    for path in root.glob("*/ground_truth/*/*.png"):
        path.unlink()
    run_test(root, Evaluation(str(root.parent / "out")), Probe())
    assert [path.name for path in folder.iterdir()] == ["scores.png"]


def test_ctrl_c_says_that_there_are_no_figures(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted(Probe):
        def test_step(self, batch: Any, batch_idx: int) -> Detection:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        run_test(root, Evaluation(str(root.parent / "out")), Interrupted())
    signal.signal(signal.SIGINT, before)  # Lightning leaves it ignored
    assert "Stopped: there are no figures" in capsys.readouterr().out
    assert not list((root.parent / "out").iterdir())


def test_a_score_that_is_no_number_gives_no_figures(root: Path) -> None:
    class Diverged(Probe):
        def test_step(self, batch: Any, batch_idx: int) -> Detection:
            return Detection(batch.images[:, 0, 0, 0] / 0, batch.images[:, 0])

    output = root.parent / "out"
    with pytest.raises(SIVTError, match=r"bolt.*not a finite number"):
        run_test(root, Evaluation(str(output)), Diverged())
    assert not list(output.iterdir())


def test_a_score_that_is_no_number_on_one_process_ends_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = Evaluation(str(root.parent / "out"))
    monkeypatch.setattr("sivt_lightning.evaluation.callback.gather", lambda value: [value, "of another process"])
    with pytest.raises(Agreed, match="of another process"):
        run_test(root, evaluation, Probe())


def test_an_output_that_cannot_be_written_is_refused_before_the_work(root: Path) -> None:
    (root.parent / "file").touch()
    with pytest.raises(SIVTError, match="Cannot write into"):
        run_test(root, Evaluation(str(root.parent / "file")), Probe())


# ------------------------------------------------------------ several processes

SCRIPT = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
SCRIPT += """
import torch
from parts import Probe, about_of, calibration_of
from pathlib import Path
from lightning import LightningModule, Trainer
from sivt_lightning.evaluation.callback import Evaluation
from sivt_lightning.prediction_files.writer import PredictionWriter
from sivt_lightning.training.threshold_calibration import ThresholdCalibration
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.model.detection import Detection

class Trained(Probe):
    thresholds = None
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
    def training_step(self, batch, batch_idx):
        return self.weight * 0
    def validation_step(self, batch, batch_idx):
        maps = batch.images[:, 0] * self.weight
        return Detection(maps.amax((1, 2)), maps)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

devices, root, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
model = Trained()

def trainer(*callbacks):
    return Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=1, logger=False,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        use_distributed_sampler=False, callbacks=[*callbacks],
    )

def data(**settings):
    return SIVTDataModule(root, image_size=16, batch_size=2, eval_batch_size=2, num_workers=0, **settings)

trainer(ThresholdCalibration(0.9)).fit(model, data(val_share=0.3))
model.about = about_of(model.thresholds)
t = trainer(Evaluation(str(out / "test")))
t.test(model, data(), verbose=False)
t = trainer(PredictionWriter(str(out / "all")))
t.predict(model, data(predict_path=root), return_predictions=False)
t = trainer(PredictionWriter(str(out / "one")))  # fewer images than processes
t.predict(model, data(predict_path=root + "/bolt/test/cut/0.png"), return_predictions=False)
model.about = about_of(calibration_of(bolt=(0.4, 50, 50), nut=(0.4, 60, 50)))
t = trainer(Evaluation(str(out / "calibrated")))
t.test(model, data(), verbose=False)
if t.is_global_zero:
    (out / "thresholds.txt").write_text(repr(model.thresholds))
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()  # its threads, left running, can abort an interpreter that exits
"""


def test_two_processes_give_the_files_of_one(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        paint(root / "bolt" / "train" / "good" / f"{i}.png", 50 + i)
        paint(root / "nut" / "train" / "good" / f"{i}.png", 60 + i)
    paint(root / "pin" / "train" / "good" / "0.png", 70)
    paint(root / "pin" / "train" / "good" / "1.png", 71)
    paint(root / "pin" / "test" / "cut" / "0.png", 72, spot=True)  # one process meets no image of this category
    (root / "pin" / "test" / "broken.png").write_bytes(b"no image")  # seen by prediction alone
    (tmp_path / "script.py").write_text(SCRIPT)
    output = run_two("2", str(root), str(tmp_path / "2"), code=SCRIPT)
    assert output.count("test/metrics.json") == 1
    monkeypatch.setattr(sys, "argv", ["script.py", "1", str(root), str(tmp_path / "1")])
    runpy.run_path(str(tmp_path / "script.py"))
    files = {path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "2") for path in (tmp_path / "2").rglob("*") if path.is_file()}
    whole = {Path(file) for file in ("test/metrics.json", "calibrated/metrics.json", "all/predictions.csv")}
    assert whole | {Path("one/predictions.csv")} < files
    for file in files - {Path("test/metrics.json"), Path("calibrated/metrics.json")}:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file
    for folder in ("test", "calibrated"):
        one, two = (json.loads((tmp_path / number / folder / "metrics.json").read_text()) for number in "12")
        assert one["operating_points"] == two["operating_points"]
        groups = [(one[name], two[name]) for name in ("pooled", "pooled_raw") if name in one]
        groups += [(one["categories"][name], two["categories"][name]) for name in ("bolt", "nut", "pin")]
        for first, second in groups:
            assert first == pytest.approx(second, abs=1e-12)  # sums are rounded in another order
