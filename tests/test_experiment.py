"""Experiment files: each shipped row trains, what is done stays done, and the tables say what was measured."""

import json
import math
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import rows_of

from sivt_lightning.cli import main
from sivt_lightning.errors import SIVTError, Stopped
from sivt_lightning.experiment import laboratory as verb
from sivt_lightning.experiment.plan import Experiment, Run, read_experiment, runs_of
from sivt_lightning.experiment.table import PASSES, Outcome, csv_table, markdown_table
from sivt_lightning.inference.checkpoint import CONTENTS, MAPPINGS
from sivt_lightning.model.settings import ModelSettings

SHIPPED = sorted((Path(__file__).parents[1] / "configs" / "experiments").glob("*.yaml"))
ONLY_DATA = ("--data.", "--trainer.max_epochs", "--trainer.precision", "--seed_everything", "--synthetic.per_image")


def shipped_runs() -> list[Any]:
    """One of each model that the files ask for: rows that differ in data, length or seed train the same step."""
    runs: dict[tuple[str, ...], Any] = {}
    for file in SHIPPED:
        one = read_experiment(file)
        for row, settings in one.rows.items():
            merged = {**one.settings, **settings}
            arguments = ["--config", str(one.config)]
            arguments += [f"--{k}={json.dumps(v).strip(chr(34))}" for k, v in merged.items()]
            key = tuple(a for a in arguments if not a.startswith(ONLY_DATA))
            runs.setdefault(key, pytest.param(arguments, id=f"{file.stem}: {row}"))
    return list(runs.values())


@pytest.mark.parametrize("arguments", shipped_runs())
def test_every_shipped_row_takes_a_step(
    arguments: list[str], tmp_path: Path, two_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--data.root", str(two_images), "--data.categories", "[down]", "--data.batch_size", "1"]
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    short += ["--trainer.check_val_every_n_epoch=1", "--synthetic.per_image=1", "--trainer.precision=32-true"]
    plain = ["--model.weights=random", "--data.num_workers=0", "--data.cache=off"]
    if any(argument.startswith("--model.backbone") for argument in arguments):
        plain.append("--model.image_size=64")
    else:
        # That of the config, which takes its step in test_cli.py; here a small one with outputs of the same strides.
        plain.append("--model.backbone=test_efficientnet")
    assert main(["fit", *arguments, *small, *short, *plain]) == 0


@pytest.fixture
def file(tmp_path: Path, tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    content = {
        "title": "Groups | of *any* number",
        "config": str(tiny_config),
        "seeds": [0, 1],
        "settings": {"trainer.max_epochs": 1},
        "individual": ["alone"],
        "rows": {"N = 4": None, "alone": {"model.groups": 2}, "broken": {"model.width": 7}},
        "paper": {"N = 4": {"image_auroc": 0.964}},
    }
    path = tmp_path / "tried.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_the_runs_of_a_file(file: Path, tiny_data: Path) -> None:
    runs = list(runs_of(read_experiment(file), tiny_data))
    whole = [("N = 4", seed, None) for seed in (0, 1)]
    alone = [("alone", seed, category) for seed in (0, 1) for category in ("across", "down")]
    assert [run[:3] for run in runs] == [*whole, *alone, ("broken", 0, None), ("broken", 1, None)]
    assert runs[0].arguments[2:] == ["--seed_everything=0", "--trainer.max_epochs=1"]
    assert runs[3].arguments[2:] == [
        "--seed_everything=0", "--trainer.max_epochs=1", "--model.groups=2", '--data.categories=["down"]',
    ]  # fmt: skip
    assert len({run.folder for run in runs}) == len(runs)


def test_trains_tests_and_lays_side_by_side(
    file: Path, tiny_data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(folder: Path, arguments: list[str]) -> str:  # in this process, which saves the start of another
        monkeypatch.chdir(folder)
        code = main(arguments)
        monkeypatch.chdir(file.parent)
        return f"exit code {code}: {capfd.readouterr().err.splitlines()[-1]}" if code else ""

    monkeypatch.setattr(verb, "_call", call)
    arguments = ["experiment", str(file), "--root", str(tiny_data), "--output", "out", "--seeds", "3"]
    assert main(arguments) == 1  # a row is broken, the others are not
    folder = Path("out", "tried")
    metrics = [
        json.loads(f.read_text()) for f in sorted(folder.glob("alone/seed_3/*/runs/run/version_0/test/metrics.json"))
    ]
    assert [list(m["categories"]) for m in metrics] == [["across"], ["down"]]
    rows = rows_of(Path("out", "tried.csv"))
    assert [(row["row"], row["category"]) for row in rows] == [
        ("N = 4", ""), ("alone", "across"), ("alone", "down"), ("broken", ""),
    ]  # fmt: skip
    assert float(rows[1]["pixel_ap"]) == metrics[0]["mean"]["pixel_ap"]
    assert "multiple of heads" in rows[3]["error"]
    table = Path("out", "tried.md").read_text()
    mean = sum(m["mean"]["image_auroc"] for m in metrics) / 2
    assert table.startswith(r"### Groups \| of \*any\* number")
    assert f"| alone | {mean:.4f} |" in table
    assert "| N = 4 (paper) | 0.9640 |" in table
    assert "broken: not run with seed 3. exit code 1: sivt: error: width 7" in table

    done = {path: path.stat().st_mtime_ns for path in folder.rglob("*.ckpt")}
    assert main([*arguments, "--rows", "N = 4", "alone"]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.ckpt")} == done
    assert Path("out", "tried.md").read_text() == table


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    assert verb._call(tmp_path, ["compare", "nowhere"]).startswith("exit code 1: nowhere: no metrics.json there")
    assert "nowhere" in (tmp_path / verb.LOG).read_text()


def test_a_stopped_training_goes_on(file: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(verb, "_call", lambda folder, arguments: calls.append(arguments) or "")  # type: ignore[func-returns-value]
    laboratory = verb.Laboratory(Path("out").resolve(), tiny_data, {})
    one = read_experiment(file)
    run = next(runs_of(one, tiny_data))
    last = laboratory.output / one.name / run.folder / verb.RUN / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    assert laboratory.carry_out(one, run)
    assert calls[0] == ["fit", "--ckpt_path", "runs/run/version_0/checkpoints/last.ckpt"]
    assert calls[1][0] == "test"
    with pytest.raises(SIVTError, match="begun with other settings"):
        laboratory.carry_out(one, run._replace(arguments=[*run.arguments, "--model.groups=8"]))


def test_a_start_that_came_to_nothing_is_cleared_away(
    file: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter(["exit code 1: no", "", "", "", ""])
    monkeypatch.setattr(verb, "_call", lambda folder, arguments: next(errors))
    laboratory = verb.Laboratory(Path("out").resolve(), tiny_data, {})
    one = read_experiment(file)
    run = next(runs_of(one, tiny_data))
    logs = laboratory.output / one.name / run.folder / verb.RUN / "metrics.csv"
    logs.parent.mkdir(parents=True)
    logs.touch()
    assert not laboratory.carry_out(one, run)
    assert not logs.exists()  # or the next start would be version_1
    other = run._replace(arguments=[*run.arguments, "--model.groups=8"])
    assert laboratory.carry_out(one, other)  # nothing came of it, so its settings may change
    with pytest.raises(SIVTError, match="begun with other settings"):
        laboratory.carry_out(one, run)


def test_the_networks_of_rows(file: Path, tiny_data: Path) -> None:
    runs = list(runs_of(read_experiment(file), tiny_data))
    assert {(run.backbone, run.has_weights) for run in runs} == {("test_resnet", True)}  # as the config says


def test_weights_go_to_their_backbones(file: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(verb, "_call", lambda folder, arguments: calls.append(arguments) or "")  # type: ignore[func-returns-value]
    Path("b4.pth").touch()
    Path("r34.pth").touch()
    weights = verb.weights_of(["b4.pth", "resnet34=r34.pth", "tf_efficientnet_lite0=package"])
    laboratory = verb.Laboratory(Path("out").resolve(), tiny_data, weights)
    one = read_experiment(file)
    for number, own in enumerate(
        (
            (None, False),
            ("tf_efficientnet_b4.aa_in1k", False),
            ("resnet34", False),
            ("tf_efficientnet_lite0", False),
            ("vgg19", False),
            (None, True),
        )
    ):
        laboratory.carry_out(one, Run(f"row {number}", 0, None, ["--config", str(one.config)], *own))
    given = [[a for a in call if "--model.weights=" in a] for call in calls if call[0] == "fit"]
    here = Path.cwd()
    assert given == [
        [f"--model.weights={here}/b4.pth"],
        [f"--model.weights={here}/b4.pth"],
        [f"--model.weights={here}/r34.pth"],
        ["--model.weights=package"],
        [],
        [],
    ]
    with pytest.raises(SIVTError, match="there is no file"):
        verb.weights_of(["resnet34=nowhere.pth"])


@pytest.mark.parametrize("deaf", [False, True])
def test_a_kill_stops_the_training_too_which_saves(deaf: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""
import os, pathlib, signal, time
# A command that a script has started in the background is deaf to it; so may be the tests themselves.
signal.signal(signal.SIGINT, signal.SIG_IGN if {deaf} else signal.default_int_handler)
try:
    pathlib.Path("pid").write_text(str(os.getpid()))
    pathlib.Path("ready").touch()
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path("saved").touch()
"""
    monkeypatch.setattr(verb, "COMMAND", [sys.executable, "-c", script])
    monkeypatch.setattr(verb, "GRACE", 0.1 if deaf else 60)

    def kill() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=kill).start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="goes on from here"), verb._ending_on_sigterm():
        verb._call(tmp_path, [])
    assert (tmp_path / "saved").exists() != deaf
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_seed_counts_when_all_its_models_are_there(tmp_path: Path) -> None:
    record = {"error": "", "seconds": 60, "commit": "", "date": "2026-01-01", "machine": "m", "arguments": []}
    runs = [Run("a", seed, category, []) for seed in (0, 1) for category in ("x", "y")]
    outcomes = [Outcome(run, record, {"pixel_ap": 0.5}) for run in runs[:3]]
    one = Experiment("e", "Title", tmp_path, {"a": {}}, individual=["a"])
    assert "| a | 0.5000 | 2.0 | 1 |" in markdown_table(one, outcomes, 2)


def test_the_passes_it_took_and_the_spread_over_seeds(tmp_path: Path) -> None:
    log = "step,val/loss,val/synthetic_auroc,train/images\n3,,,\n3,9.0,0.6,10\n7,8.0,0.8,20\n11,7.0,0.75,30\n"
    (tmp_path / "metrics.csv").write_text(log)
    (tmp_path / "checkpoints").mkdir()
    contents = dict.fromkeys(CONTENTS) | {name: {} for name in MAPPINGS}
    contents |= {"hyper_parameters": asdict(ModelSettings()), "global_step": 12}
    torch.save(contents, tmp_path / "checkpoints" / "best.ckpt")
    record = {"error": "", "seconds": 60, "commit": "abc", "date": "2026-01-01", "machine": "m", "arguments": []}
    outcomes = [
        Outcome.read(Run("a", 0, None, []), record, tmp_path, reach=0.7),
        Outcome.read(Run("a", 1, None, []), record | {"seconds": 180}, tmp_path, reach=0.9),
    ]
    assert outcomes[0].figures == {"val/loss": 7.0, "val/synthetic_auroc": 0.75, PASSES: 20.0}
    assert math.isnan(outcomes[1].figures[PASSES])
    one = Experiment("e", "Title", tmp_path, {"a": {}})
    assert "| a | 7.00 ± 0.00 | 0.7500 ± 0.0000 | 20 (1 of 2) | 2.0 | 2 |" in markdown_table(one, outcomes)
    assert csv_table(outcomes).splitlines()[2].startswith("a,1,,7.0,0.75,nan,180,abc")


@pytest.mark.parametrize("often", ["--trainer.val_check_interval=1.0", "--trainer.val_check_interval=2"])
def test_the_figures_are_those_of_the_checkpoint_that_is_tested(
    often: str, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ["--monitor=val/synthetic_auroc", "--model.learning_rate=1e-2", "--trainer.max_epochs=4", often]
    assert main(["fit", "--config", str(tiny_config), "--name=run", *chosen]) == 0
    record = {"error": "", "seconds": 60, "commit": "", "date": "2026-01-01", "machine": "m", "arguments": []}
    figures = Outcome.read(Run("a", 0, None, []), record, Path("runs/run/version_0"), reach=None).figures
    validations = [row for row in rows_of(Path("runs/run/version_0/metrics.csv")) if row["val/loss"]]
    first = max(validations, key=lambda row: float(row["val/synthetic_auroc"]))  # among equal ones
    assert figures["val/loss"] == float(first["val/loss"]) > min(float(row["val/loss"]) for row in validations)
    assert figures["val/synthetic_auroc"] == float(first["val/synthetic_auroc"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": "nowhere.yaml"}, "there is no config"),
        ({"config": None}, "not an experiment"),
        ({"colour": "red"}, "not an experiment .*colour"),
        ({"rows": None}, "not an experiment"),
        ({"individual": ["gone"]}, "there is no row 'gone'"),
        ({"rows": {"N=4": None, "N = 4": None}, "paper": {}, "individual": []}, "names of two rows"),
    ],
)
def test_a_file_that_is_none(file: Path, change: dict[str, Any], said: str) -> None:
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    with pytest.raises(SIVTError, match=said):
        read_experiment(file)


def test_what_is_not_there(file: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "nowhere.yaml", "--root", str(tiny_data)]) == 1
    assert "experiment nowhere.yaml: there is no such file. By their names there are" in capsys.readouterr().err
    assert main(["experiment", str(file), "--root", str(tiny_data), "--rows", "N = 5"]) == 1
    assert "there is no row 'N = 5'" in capsys.readouterr().err
