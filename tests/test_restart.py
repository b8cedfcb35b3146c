"""Trainings that are repeated, killed, interrupted or run out of disk end where an undisturbed one does."""

import csv
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Watched
from forked import Forked

from sivt_lightning.cli import main

DISTURBED = """
import os, resource, signal, sys
import torch.utils.data._utils.worker as worker
from sivt_lightning.cli import main
from sivt_lightning.features.store import DiskStore
from sivt_lightning.training.module import SIVT

def at(call, act, function):
    calls = [0]
    def wrapped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call:
            act()
        return function(*args, **kwargs)
    return wrapped

worker.MP_STATUS_CHECK_INTERVAL = 0.2  # s, not 5, until a loader's worker sees that nobody is left to load for
what, call = sys.argv[1].split(":")
me = os.getpid()
if what == "kill_in_step":
    SIVT.training_step = at(int(call), lambda: os.kill(me, signal.SIGKILL), SIVT.training_step)
elif what == "kill_in_features":
    DiskStore.put = at(int(call), lambda: os.kill(me, signal.SIGKILL), DiskStore.put)
elif what == "kill_in_save":  # what is written has no name yet
    os.fsync = at(int(call), lambda: os.kill(me, signal.SIGKILL), os.fsync)
elif what == "interrupt":  # as a terminal does: all processes of the group
    SIVT.training_step = at(int(call), lambda: os.killpg(0, signal.SIGINT), SIVT.training_step)
elif what == "terminate":
    SIVT.training_step = at(int(call), lambda: os.kill(me, signal.SIGTERM), SIVT.training_step)
elif what == "terminate_twice":
    both = lambda: [os.kill(me, signal.SIGTERM) for _ in range(2)]
    SIVT.training_step = at(int(call), both, SIVT.training_step)
elif what in ("SIGINT_in_validation", "SIGTERM_in_validation"):
    number = getattr(signal, what.partition("_")[0])
    SIVT.validation_step = at(int(call), lambda: os.kill(me, number), SIVT.validation_step)
elif what == "interrupt_twice":
    both = lambda: [os.kill(me, signal.SIGINT) for _ in range(2)]
    SIVT.training_step = at(int(call), both, SIVT.training_step)
elif what == "small_files":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(call), int(call)))
sys.exit(main(sys.argv[2:]))
"""
LAST = Path("runs/tiny/version_0/checkpoints/last.ckpt")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arguments(config: Path) -> list[str]:
    steady = ["--patience", "50", "--model.schedule", "constant", "--data.rotation", "5", "--data.num_workers", "1"]
    return ["fit", "--config", str(config), "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1", *steady]


def disturbed(what: str, *args: str) -> subprocess.CompletedProcess[str]:
    return Forked(what, *args, code=DISTURBED).wait()


@pytest.fixture(scope="module")
def undisturbed(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a training of three epochs of five steps."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("undisturbed"))
    try:
        assert main(arguments(tiny_config)) == 0
        return Path("runs/tiny/version_0").absolute()
    finally:
        os.chdir(before)


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Bit for bit; the place of a run may differ."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif not (isinstance(one, str) and "/" in one):
        assert one == other, where


def log_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name != "images_per_s"} for row in rows]


def assert_same_end(run: Path, undisturbed: Path, whole_log: bool = True) -> None:
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (torch.load(r / "checkpoints" / name, weights_only=True) for r in (run, undisturbed))
        for part in ("state_dict", "thresholds", "epoch", "global_step"):
            assert_same(ours[part], theirs[part], f"{name}.{part}")
        if name == "last.ckpt":
            assert_same(ours["optimizer_states"], theirs["optimizer_states"], "optimizer")
            assert_same(ours["lr_schedulers"], theirs["lr_schedulers"], "schedule")
            stopping = next(key for key in theirs["callbacks"] if key.startswith("EarlyStopping"))
            assert_same(ours["callbacks"][stopping], theirs["callbacks"][stopping], "early stopping")
            best = next(key for key in theirs["callbacks"] if key.startswith("BestCheckpoint"))
            for figure in ("best_model_score", "current_score"):
                assert_same(ours["callbacks"][best][figure], theirs["callbacks"][best][figure], figure)
    if whole_log:
        assert log_of(run) == log_of(undisturbed)


def test_two_runs_with_one_seed_end_alike(tiny_config: Path, undisturbed: Path) -> None:
    torch.rand(5)  # whatever ran before in this process
    assert main(arguments(tiny_config)) == 0
    assert_same_end(LAST.parents[1], undisturbed)


@pytest.mark.parametrize(
    ("what", "steps"),
    [
        ("kill_in_step:8", 5),
        ("kill_in_save:2", None),  # best.ckpt is there, last.ckpt not yet
        ("kill_in_save:4", 5),  # the second last.ckpt is written but not in place
        ("kill_in_step:2", None),
    ],
)
def test_a_killed_run_goes_on_to_the_same_end(
    what: str, steps: int | None, tiny_config: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert disturbed(what, *arguments(tiny_config)).returncode == -signal.SIGKILL
    assert LAST.is_file() == (steps is not None)
    if steps is not None:
        assert torch.load(LAST, weights_only=True)["global_step"] == steps
    assert main(["fit", "--ckpt_path", str(LAST)]) == 0
    assert ("It starts anew" in capsys.readouterr().out) == (steps is None)
    assert_same_end(LAST.parents[1], undisturbed)


def test_ctrl_c_saves_between_two_steps(tiny_config: Path, undisturbed: Path) -> None:
    stopped = disturbed("interrupt:8", *arguments(tiny_config))
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    assert "Ctrl-C once more" in stopped.stderr
    assert f"Stopped in epoch 2. Go on with:\n  sivt fit --ckpt_path {LAST}" in stopped.stderr
    assert torch.load(LAST, weights_only=True)["global_step"] == 8
    assert main(["fit", "--ckpt_path", str(LAST)]) == 0
    assert_same_end(LAST.parents[1], undisturbed, whole_log=False)  # the row of the step that was stopped at is missing
    assert {row["step"] for row in log_of(undisturbed)} - {row["step"] for row in log_of(LAST.parents[1])} <= {"7"}


def test_sigterm_ends_a_training_as_ctrl_c_does(tiny_config: Path, undisturbed: Path) -> None:
    stopped = disturbed("terminate:8", *arguments(tiny_config))
    assert stopped.returncode == 1
    assert f"Stopped in epoch 2. Go on with:\n  sivt fit --ckpt_path {LAST}" in stopped.stderr
    assert torch.load(LAST, weights_only=True)["global_step"] == 8
    assert main(["fit", "--ckpt_path", str(LAST)]) == 0
    assert_same_end(LAST.parents[1], undisturbed, whole_log=False)


def test_a_second_sigterm_ends_it_at_once(tiny_config: Path) -> None:
    assert disturbed("terminate_twice:8", *arguments(tiny_config)).returncode == -signal.SIGTERM


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ctrl_c_and_sigterm_in_validation_end_the_epoch(name: str, tiny_config: Path, undisturbed: Path) -> None:
    stopped = disturbed(f"{name}_in_validation:2", *arguments(tiny_config))
    assert stopped.returncode == 1
    assert f"Stopped in epoch 3. Go on with:\n  sivt fit --ckpt_path {LAST}" in stopped.stderr
    assert torch.load(LAST, weights_only=True)["global_step"] == 10
    assert main(["fit", "--ckpt_path", str(LAST)]) == 0
    assert_same_end(LAST.parents[1], undisturbed)


@pytest.mark.parametrize(("step", "sentence"), [(8, f"sivt fit --ckpt_path {LAST}"), (2, "Nothing was saved yet")])
def test_a_second_ctrl_c_stops_at_once(step: int, sentence: str, tiny_config: Path) -> None:
    stopped = disturbed(f"interrupt_twice:{step}", *arguments(tiny_config))
    assert stopped.returncode == 1
    assert "Stopped at once" in stopped.stdout
    assert sentence in stopped.stdout
    assert "Traceback" not in stopped.stderr


def test_ctrl_c_in_the_last_step_of_an_epoch_leaves_its_validation_in(
    tiny_config: Path, undisturbed: Path, watched: Watched
) -> None:
    watched.stop = 10
    assert main(arguments(tiny_config)) == 1
    assert torch.load(LAST, weights_only=True)["global_step"] == 10
    assert main(["fit", "--ckpt_path", str(LAST)]) == 0
    assert_same_end(LAST.parents[1], undisturbed)


def test_a_full_disk_leaves_the_checkpoint_before(tiny_config: Path, undisturbed: Path) -> None:
    assert disturbed("kill_in_step:8", *arguments(tiny_config)).returncode == -signal.SIGKILL
    shutil.copy(LAST, "kept.ckpt")
    stopped = disturbed(f"small_files:{LAST.stat().st_size // 2}", "fit", "--ckpt_path", str(LAST))
    assert stopped.returncode == 1
    assert "Cannot write the checkpoint" in stopped.stderr
    assert "is whole" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert LAST.read_bytes() == Path("kept.ckpt").read_bytes()
    assert not list(LAST.parent.glob("*.part"))
    assert main(["fit", "--ckpt_path", str(LAST)]) == 0
    assert_same_end(LAST.parents[1], undisturbed)


def test_a_moved_run_keeps_its_best_score(tiny_config: Path) -> None:
    assert main(["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1"]) == 0
    first = torch.load(LAST, weights_only=True)
    for value in first["state_dict"].values():  # what goes on is worse, so the best of before must stay the best
        if value.is_floating_point():
            value += 1
    torch.save(first, LAST)
    best = LAST.with_name("best.ckpt").read_bytes()
    shutil.move("runs", "elsewhere")
    last = Path("elsewhere") / LAST.relative_to("runs")
    assert main(["fit", "--ckpt_path", str(last), "--trainer.max_epochs", "2"]) == 0
    assert torch.load(last, weights_only=True)["epoch"] == 1
    assert last.with_name("best.ckpt").read_bytes() == best


def test_patience_ends_a_training_that_learns_nothing_more(
    tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck = ["--patience", "2", "--model.learning_rate", "1e-12", "--model.schedule", "constant"]
    frozen = [*stuck, "--model.warmup", "0", "--model.weight_decay", "0", "--trainer.max_epochs", "20"]
    assert main(["fit", "--config", str(tiny_config), *frozen]) == 0
    epochs = torch.load(LAST, weights_only=True)["epoch"] + 1
    assert epochs < 20
    assert f"after {epochs} epochs" in capsys.readouterr().out


def test_kept_features_are_found_after_a_kill(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["fit", "--config", str(tiny_config), "--data.cache", "disk", "--patience", "50"]
    assert main(given) == 0
    whole = Path("runs/tiny/version_0").absolute()
    (tmp_path / "disturbed").mkdir()
    monkeypatch.chdir(tmp_path / "disturbed")
    assert disturbed("kill_in_features:8", *given).returncode == -signal.SIGKILL
    assert len(list(Path("runs/features").glob("*/*"))) == 7
    capsys.readouterr()
    again = ["fit", "--ckpt_path", str(LAST)]  # which is not there yet
    assert disturbed("kill_in_step:7", *again).returncode == -signal.SIGKILL
    assert main(again) == 0
    assert "all there" in capsys.readouterr().out
    assert_same_end(LAST.parents[1], whole)
