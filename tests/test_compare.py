"""Several tests side by side: the best marked, seeds put together, nothing compared that does not compare unsaid."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sivt_lightning.cli import main
from sivt_lightning.report.tables import FIGURES


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def write(name: str, value: float | None, seed: int = 0, width: int = 16, category: str = "bolt", **test: Any) -> str:
    """A run's metrics.json in which every figure is `value`."""
    figures = dict.fromkeys(FIGURES, value)
    counts = {"normal_images": test.pop("normal", 5), "anomalous_images": 5}
    model = {name: test.pop(name) for name in ("weights", "init_from") if name in test}
    training = {name: test.pop(f"training_{name}") for name in ("images", "backbone") if f"training_{name}" in test}
    settings = {
        "model": {"width": width, "seed": seed} | model,
        "data": {"root": test.pop("root", "data"), "seed": seed, "num_workers": seed},
        "training": training,
        "test": {"full_resolution": False} | test,
    }
    results = {
        "categories": {category: figures},
        "mean": figures,
        "pooled": figures | {"pixel_ap": None},
        "operating_points": {"categories": {category: counts}},
        "settings": settings,
    }
    folder = Path("runs", name, "test")
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(results))
    return str(folder.parent)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["compare", *arguments]) == 0
    return capsys.readouterr().out


def test_the_best_of_each_row_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write("a", 0.5), write("b", 0.75, width=32), write("c", 0.75, width=64)]
    lines = shown(capsys, *runs, "--figures", "[image_auroc,pixel_ap]").splitlines()
    assert lines[1 + 1].split() == ["a", "b", "c"]
    rows = {
        " ".join(line.split()[:3]): line.split()[3:] for line in lines if line.strip().startswith(("image", "pixel"))
    }
    assert rows["image AUROC, mean"] == ["0.5000", "0.7500", "*", "0.7500", "*"]
    assert rows["pixel AP, pooled"] == ["-", "-", "-"]
    assert len(rows) == 4


def test_runs_that_differ_in_seed_only_share_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write("a", 0.5, seed=0), write("b", 0.7, seed=1), write("c", 0.9, seed=2), write("d", 0.6, width=32)]
    output = shown(capsys, *runs)
    assert "a (3 seeds)" in output
    assert "0.7000 ± 0.2000 *" in output
    assert "a (3 seeds): a, b, c." in output
    assert " 0.6000 " in output


def test_a_test_of_an_earlier_version_is_another_seed_of_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write("a", 0.5), write("b", 0.75, seed=1, kind="checkpoint")]
    assert "(2 seeds)" in shown(capsys, *runs)


def test_thresholds_by_pooled_are_those_of_an_old_models_default(capsys: pytest.CaptureFixture[str]) -> None:
    now = {"threshold_by": None, "false_alarms": None, "unknown": True}
    runs = [write("a", 0.5, threshold_by="pooled"), write("b", 0.75, seed=1, **now)]
    assert "(2 seeds)" in shown(capsys, *runs)


def calibrated(name: str, value: float, raw: float, **test: Any) -> str:
    """A run whose pooled figures are of calibrated scores; those of raw ones beside them."""
    folder = write(name, value, **test)
    file = Path(folder, "test", "metrics.json")
    results = json.loads(file.read_text())
    file.write_text(json.dumps(results | {"pooled_raw": dict.fromkeys(FIGURES, raw)}))
    return folder


def rows_of_table(*runs: str, figures: str = "[image_auroc,pixel_auroc]") -> dict[str, list[str]]:
    assert main(["compare", *runs, "--figures", figures, "--output", "table.md"]) == 0
    lines = [line.strip("| ").split(" | ") for line in Path("table.md").read_text().splitlines() if "AUROC" in line]
    return {name: [cell.replace("\\", "") for cell in cells] for name, *cells in lines}


def test_pooled_figures_of_raw_scores_are_not_laid_beside_those_of_calibrated_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = write("old", 0.8), calibrated("new", 0.9, 0.7, width=32)
    assert rows_of_table(old, new) == {
        "image AUROC, mean": ["0.8000", "0.9000 *"],
        "image AUROC, pooled, calibrated scores": ["-", "0.9000"],
        "image AUROC, pooled, raw scores": ["0.8000 *", "0.7000"],
        "pixel AUROC, mean": ["0.8000", "0.9000 *"],
        "pixel AUROC, pooled": ["0.8000", "0.9000 *"],
    }
    assert "Of old there are raw scores only, which do not compare between products." in capsys.readouterr().out
    assert list(rows_of_table(new)) == [f"{of} AUROC, {row}" for of in ("image", "pixel") for row in ("mean", "pooled")]
    assert "raw scores" not in capsys.readouterr().out


def test_a_calibrated_test_is_no_other_seed_of_one_that_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert "seeds)" not in shown(capsys, write("a", 0.5), calibrated("b", 0.6, 0.5, seed=1))
    assert "(2 seeds)" in shown(capsys, calibrated("c", 0.5, 0.4), calibrated("d", 0.6, 0.5, seed=1))


def test_an_export_is_no_other_seed(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write("a", 0.5), write("b", 0.75, seed=1, kind="onnx")]
    assert "seeds)" not in shown(capsys, *runs)


def test_one_test_given_twice_is_no_seed(capsys: pytest.CaptureFixture[str]) -> None:
    run = write("a", 0.5)
    output = shown(capsys, run, run + "/test/metrics.json")
    assert "seeds)" not in output
    assert "± 0" not in output


def test_what_was_trained_otherwise_is_no_other_seed(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write("a", 0.5, seed=0), write("b", 0.7, seed=1), write("c", 0.9, seed=1)]
    file = Path(runs[1], "test", "metrics.json")
    results = json.loads(file.read_text())
    results["settings"]["training"] = {"max_epochs": 400}
    file.write_text(json.dumps(results))
    assert "seeds)" not in shown(capsys, *runs[:2])
    assert "a (2 seeds)" in shown(capsys, *runs)  # a and c


HERE = {"root": "/here", "weights": "/here/b4.pth", "images": "a", "training_images": "b", "training_backbone": "c"}
THERE = HERE | {"root": "/there", "weights": "/there/b4.pth"}


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (HERE, THERE, True),
        (HERE, THERE | {"weights": "imagenet"}, True),
        (HERE, THERE | {"images": "x"}, False),
        (HERE, THERE | {"training_images": "x"}, False),
        (HERE, THERE | {"training_backbone": "x"}, False),
        (HERE | {"weights": "random"}, THERE | {"weights": "random", "training_backbone": "x"}, True),
        (HERE, THERE | {"weights": "random"}, False),
        (HERE | {"images": None}, THERE | {"images": None}, False),  # of an earlier version: who knows
        (HERE | {"training_backbone": None}, THERE | {"training_backbone": None}, False),
        (HERE | {"init_from": "/here/a.ckpt"}, THERE | {"init_from": "/here/b.ckpt"}, False),
    ],
)
def test_the_data_and_not_its_place_make_an_experiment(
    one: dict[str, Any], other: dict[str, Any], together: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shown(capsys, write("a", 0.5, **one), write("b", 0.7, seed=1, **other))
    assert ("a (2 seeds)" in output) == together


def test_seeds_trained_on_a_copy_of_the_data_share_a_column(
    tiny_config: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And one whose copy differs in a photo does not."""
    shutil.copytree(tiny_data, "copy")
    shutil.copytree(tiny_data, "other")
    shutil.copy("other/down/train/good/000.png", "other/down/train/good/001.png")
    common = ["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1", "--synthetic.per_image", "0"]
    for seed, root in enumerate((str(tiny_data), "copy", "other")):
        run = ["--data.root", root, "--seed_everything", str(seed), "--name", f"run{seed}"]
        assert main([*common, *run, "--trainer.logger", "false"]) == 0
        best = f"runs/run{seed}/version_0/checkpoints/best.ckpt"
        assert main(["test", "--ckpt_path", best, "--eval.curves", "false", "--eval.gallery", "false"]) == 0
    output = shown(capsys, *(f"runs/run{seed}/version_0" for seed in range(3)))
    assert "run0/version_0 (2 seeds): run0/version_0, run1/version_0." in output
    assert "different images" not in output  # the tests are of the same ones


def test_a_repeat_of_a_seed_is_none_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write("a", 0.5, seed=0), write("b", 0.7, seed=1), write("c", 0.9, seed=1)]
    assert "seeds)" not in shown(capsys, *runs)
    assert "a (2 seeds)" in shown(capsys, runs[0], runs[0], runs[1])  # one file given twice is one test


def test_files_of_one_folder_have_names_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(write("a", 0.5), "test")
    (folder / "other.json").write_text((folder / "metrics.json").read_text().replace("0.5", "0.7"))
    shown(capsys, str(folder / "metrics.json"), str(folder / "other.json"), "--output", "table.csv")
    lines = Path("table.csv").read_text().splitlines()
    assert lines[0] == ",a/metrics,a/other"
    assert lines[1] == '"image AUROC, mean",0.5000,0.7000 *'


def test_rows_for_categories_and_files(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write("a", 0.5, category="x|y"), write("b", None, width=32, category="x|y")]
    printed = shown(capsys, *runs, "--categories", "true", "--output", "out/table.md")
    assert "image AUROC, x|y" in printed
    lines = Path("out/table.md").read_text().splitlines()
    assert lines[0] == "|  | a | b |"
    assert r"| image AUROC, x\|y | 0.5000 | - |" in lines
    shown(capsys, *runs, "--output", "out/table.csv")
    assert Path("out/table.csv").read_text().splitlines()[1] == '"image AUROC, mean",0.5000,-'


def test_a_category_called_mean_has_a_row_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, write("a", 0.5, category="mean"), "--categories", "true", "--figures", "[image_ap]").split(
        "\n"
    )
    rows = [line.split(",")[1].split("  ")[0].strip() for line in lines if "image AP," in line]
    assert rows == ["mean (category)", "mean", "pooled"]


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ({"category": "nut"}, "different categories"),
        ({"normal": 6}, "different numbers of images"),
        ({"images": "other"}, "of different images"),
        ({"full_resolution": True}, "at full resolution"),
    ],
)
def test_what_does_not_compare_is_told(
    other: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in shown(capsys, write("a", 0.5, images="some"), write("b", 0.6, **{"images": "some"} | other))


def test_a_table_without_settings_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write("a", 0.5), write("b", 0.6)]
    for run in runs:
        file = Path(run, "test", "metrics.json")
        results = json.loads(file.read_text())
        file.write_text(json.dumps({group: results[group] for group in ("categories", "mean", "pooled")}))
    assert "seeds)" not in shown(capsys, *runs)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "not a metrics.json"),
        ("no json", "not a metrics.json"),
        ('{"categories": [], "mean": 1, "pooled": 2}', "not"),
    ],
)
def test_a_foreign_file_gets_one_sentence(text: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("metrics.json").write_text(text)
    assert main(["compare", "metrics.json"]) == 1
    assert sentence in capsys.readouterr().err


def test_mistakes_get_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    run = write("a", 0.5)
    for arguments, sentence in (
        (["nowhere"], "no metrics.json there"),
        ([run, "--figures", "[beauty]"], "beauty is none of"),
        ([run, "--output", "table.pdf"], ".md or .csv"),
    ):
        assert main(["compare", *arguments]) == 1
        assert sentence in capsys.readouterr().err
