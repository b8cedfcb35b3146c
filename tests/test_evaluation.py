"""The figures of a test: right, independent of batches, scale and processes, and undefined where they mean nothing."""

import csv
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from PIL import Image
from rich.console import Console
from sklearn.metrics import average_precision_score, roc_auc_score

from sivt_lightning.callbacks import Evaluation
from sivt_lightning.callbacks.evaluation import Tally
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.layouts import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.model.detector import Detection
from sivt_lightning.report.tables import FIGURES, Results, console_table, csv_table, markdown_table

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

    def results(self, batch_size: int = 5, scale: float = 1.0) -> tuple[Results, Tally]:
        tally = Tally(self.samples)
        for index in torch.randperm(len(self.samples)).split(batch_size):
            tally.update(index.tolist(), self.scores[index] * scale, self.maps[index] * scale, self.masks[index])
        return tally.results(), tally


def samples(category: str, normal: int, anomalous: int, mask: Path | None = MASK) -> list[Sample]:
    return [Sample(Path("a.png"), category)] * normal + [Sample(Path("b.png"), category, True, "cut", mask)] * anomalous


def approx(figures: dict[str, float]) -> Any:
    return pytest.approx(figures, abs=2e-6)


def reference(labels: np.ndarray, scores: np.ndarray, kind: str) -> dict[str, float]:
    labels, scores = labels.reshape(-1), scores.reshape(-1)
    return {f"{kind}_auroc": roc_auc_score(labels, scores), f"{kind}_ap": average_precision_score(labels, scores)}


def test_the_figures_are_those_of_scikit_learn() -> None:
    drawn = Drawn(samples("bolt", 20, 15) + samples("nut", 7, 30))
    results, _ = drawn.results()
    truth = np.array([sample.anomalous for sample in drawn.samples])
    of = {name: np.array([sample.category == name for sample in drawn.samples]) for name in ("bolt", "nut")}
    every = np.ones_like(truth)
    expected = {
        name: reference(truth[rows], drawn.scores.numpy()[rows], "image")
        | reference(drawn.masks.numpy()[rows], drawn.maps.numpy()[rows], "pixel")
        for name, rows in (*of.items(), ("pooled", every))
    }
    assert results["categories"]["bolt"] == approx(expected["bolt"])
    assert results["categories"]["nut"] == approx(expected["nut"])
    assert results["pooled"] == approx(expected["pooled"])
    assert results["mean"] == approx({f: (expected["bolt"][f] + expected["nut"][f]) / 2 for f in FIGURES})


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_batch_size_order_and_positive_rescaling_change_nothing(batch_size: int, scale: float) -> None:
    drawn = Drawn(samples("bolt", 9, 9) + samples("nut", 9, 9))
    assert drawn.results(batch_size, scale)[0] == drawn.results()[0]


def test_a_category_without_masks_has_no_pixel_figures_and_is_left_out_of_mean_and_pooled() -> None:
    both = Drawn(samples("nut", 8, 8) + samples("bolt", 8, 8, mask=None))
    results, tally = both.results()
    alone, _ = Drawn(samples("nut", 8, 8)).results()
    assert results["categories"]["bolt"]["pixel_auroc"] is None
    assert results["categories"]["bolt"]["image_auroc"] is not None
    for figure in ("pixel_auroc", "pixel_ap"):
        assert results["mean"][figure] == results["categories"]["nut"][figure]
        assert results["pooled"][figure] == results["categories"]["nut"][figure]
    assert alone["categories"]["nut"].keys() == results["mean"].keys()
    assert any("bolt: no masks" in note for note in tally.notes())


@pytest.mark.parametrize(("normal", "anomalous", "word"), [(5, 0, "only normal"), (0, 5, "only anomalous")])
def test_one_kind_of_image_gives_no_image_figures(normal: int, anomalous: int, word: str) -> None:
    results, tally = Drawn(samples("bolt", normal, anomalous) + samples("nut", 6, 6)).results()
    bolt = results["categories"]["bolt"]
    assert bolt["image_auroc"] is bolt["image_ap"] is None
    assert (bolt["pixel_auroc"] is None) == (anomalous == 0)
    assert results["mean"]["image_ap"] == results["categories"]["nut"]["image_ap"]
    assert results["pooled"]["image_ap"] is not None
    assert any(f"bolt: {word} test images" in note for note in tally.notes())


def test_without_any_defined_figure_mean_and_pooled_are_undefined_too() -> None:
    results, _ = Drawn(samples("bolt", 4, 0)).results()
    assert set(results["mean"].values()) == set(results["pooled"].values()) == {None}


def test_names_are_data_in_every_table() -> None:
    figures = {"image_auroc": 0.98765, "image_ap": 1.0, "pixel_auroc": None, "pixel_ap": None}
    name = "[red]a|b, <i>"
    results: Results = {"categories": {name: figures}, "mean": figures, "pooled": figures}
    rows = list(csv.DictReader(io.StringIO(csv_table(results, {name: (3, 4)}))))
    assert [row["category"] for row in rows] == [name, "mean", "pooled"]
    assert rows[0]["image_auroc"] == "0.9877"
    assert rows[0]["pixel_ap"] == ""
    assert rows[0]["anomalous_images"] == "4"
    lines = markdown_table(results, {name: (3, 4)}, ["a note"]).splitlines()
    assert lines[2].startswith(r"| \[red\]a\|b, \<i\> | 0.9877 | 1.0000 | n/a |")
    assert lines[-1] == "- a note"
    console = Console(file=io.StringIO(), width=120)
    console.print(console_table(results, {name: (3, 4)}, "title"))
    assert name in console.file.getvalue()


# ------------------------------------------------------------ the whole callback


class Probe(LightningModule):
    """Red is the anomaly map, its maximum the score: what a test paints is what the model says."""

    def test_step(self, batch: Any, batch_idx: int) -> Detection:
        maps = batch.images[:, 0]
        return Detection(maps.amax((1, 2)), maps)


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
    assert list(stored) == ["categories", "mean", "pooled"]
    assert list(stored["categories"]) == ["bolt", "nut"]
    assert tuple(stored["mean"]) == tuple(stored["pooled"]) == tuple(stored["categories"]["nut"]) == FIGURES
    assert 0.5 < stored["mean"]["pixel_auroc"] <= 1
    assert sorted(path.name for path in output.iterdir()) == ["metrics.csv", "metrics.json", "metrics.md"]
    assert [line.split(",")[0] for line in (output / "metrics.csv").read_text().splitlines()[1:]] == [
        "bolt",
        "nut",
        "mean",
        "pooled",
    ]
    printed = capsys.readouterr().out
    assert f"{stored['mean']['pixel_auroc']:.4f}" in printed
    assert str(output / "metrics.json") in printed


def test_a_score_that_is_no_number_gives_no_figures(root: Path) -> None:
    class Diverged(Probe):
        def test_step(self, batch: Any, batch_idx: int) -> Detection:
            return Detection(batch.images[:, 0, 0, 0] / 0, batch.images[:, 0])

    output = root.parent / "out"
    with pytest.raises(SIVTError, match=r"bolt.*not a finite number"):
        run_test(root, Evaluation(str(output)), Diverged())
    assert not list(output.iterdir())


def test_an_output_that_cannot_be_written_is_refused_before_the_work(root: Path) -> None:
    (root.parent / "file").touch()
    with pytest.raises(SIVTError, match="Cannot write into"):
        run_test(root, Evaluation(str(root.parent / "file")), Probe())


# ------------------------------------------------------------ several processes

SCRIPT = """
import sys, torch
from pathlib import Path
from lightning import LightningModule, Trainer
from sivt_lightning.callbacks import Evaluation, PredictionWriter, ThresholdCalibration, Thresholds
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.model.detector import Detection

class Probe(LightningModule):
    thresholds = None
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
    def training_step(self, batch, batch_idx):
        return self.weight * 0
    def validation_step(self, batch, batch_idx):
        maps = batch.images[:, 0] * self.weight
        return Detection(maps.amax((1, 2)), maps)
    test_step = predict_step = validation_step
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

devices, root, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
model = Probe()

def trainer(*callbacks):
    return Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=1, logger=False,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        use_distributed_sampler=False, callbacks=[*callbacks],
    )

def data(**settings):
    return SIVTDataModule(root, image_size=16, batch_size=2, eval_batch_size=2, num_workers=0, **settings)

trainer(ThresholdCalibration(0.9)).fit(model, data(val_share=0.3))
t = trainer(Evaluation(str(out / "test")))
t.test(model, data(), verbose=False)
t = trainer(PredictionWriter(str(out / "all")))
t.predict(model, data(predict_path=root), return_predictions=False)
t = trainer(PredictionWriter(str(out / "one")))  # fewer images than processes
t.predict(model, data(predict_path=root + "/bolt/test/cut/0.png"), return_predictions=False)
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
    two = [sys.executable, "script.py", "2", str(root), str(tmp_path / "2")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(two, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("test/metrics.json") == 1
    monkeypatch.setattr(sys, "argv", ["script.py", "1", str(root), str(tmp_path / "1")])
    runpy.run_path(str(tmp_path / "script.py"))
    files = {path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "2") for path in (tmp_path / "2").rglob("*") if path.is_file()}
    assert {Path("test/metrics.json"), Path("all/predictions.csv"), Path("one/predictions.csv")} < files
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file
