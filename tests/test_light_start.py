"""What needs no torch starts without it: help, wrong usage, and the commands that compute nothing."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripts import script

from sivt_lightning.cli import command, main
from sivt_lightning.cli.ending import ending
from sivt_lightning.cli.help import HELP
from sivt_lightning.cli.options import FILE, LISTED
from sivt_lightning.errors import SIVTError

REPOSITORY = Path(__file__).parents[1]
HEAVY = ("torch", "lightning", "timm", "torchmetrics", "kornia", "scipy.stats", "matplotlib", "tensorboard")
RUN = f"""
import functools, sys
from sivt_lightning.cli import main
if sys.argv[1:2] == ["demo-data"]:
    import sivt_lightning.data.demo as demo
    demo.write_demo_data = functools.partial(demo.write_demo_data, good=1, defective=1)  # no test takes so long
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print("loaded:", *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""
WRONG = [
    ([], "Give a command"),
    (["tset"], "did you mean test?"),
    (["--data.root", "x"], "There is no command --data.root"),
    (["fit", "--data.rot", "photos"], "did you mean --data.root or"),
    (["fit", "--config", "utf16.yaml"], "no text in UTF-8"),
    (["fit", "--model.width", "wide"], "model.width is wide, but must be of type int."),
    (["fit", "--model.resize=cubic"], "cubic"),
    (["fit", "--data.depth", "9"], "9"),
    (["test"], "needs a trained model: add --ckpt_path"),
    (["predict", "--data.predict_path", "a.png", "b.png"], "needs a trained model: add --ckpt_path"),
    (["test", "--ckpt_path", "a", "--treshold", "1"], "did you mean --threshold or"),
    (["benchmark", "--bath_sizes", "[1]"], "did you mean --batch_sizes or"),
    (["benchmark", "--model.groups", "four"], "model.groups is four"),
    (["compare"], "tests"),
    (["check", "--model", "a", "--goldn", "b"], "did you mean --golden or"),
    (["watch", "--model", "a", "--folder", "b"], "log"),
    (["demo-data", "there", "--difficulty", "none"], "none"),
    (["experiment", "a.yaml"], "root"),
    (["export", "--ckpt_path", "a", "--format", "tflite"], "tflite"),
    (["serve", "--model", "a", "--port", "many"], "port is many"),
]


def started(*args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def loaded(done: subprocess.CompletedProcess[str]) -> list[str]:
    return done.stderr.rpartition("loaded:")[2].split()


@pytest.mark.parametrize("verb", ["", *HELP])
def test_help_loads_nothing_heavy(verb: str, tmp_path: Path) -> None:
    done = started(*filter(None, [verb, "--help"]), folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: sivt")
    assert loaded(done) == []


@pytest.mark.parametrize(
    ("args", "sentence"), WRONG, ids=lambda given: " ".join(given) if isinstance(given, list) else ""
)
def test_wrong_usage_is_answered_before_anything_heavy_is_loaded(
    args: list[str], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "utf16.yaml").write_text("model: {}", encoding="utf-16")
    done = started(*args, folder=tmp_path)
    assert done.returncode == (1 if "trained model" in sentence else 2)
    assert sentence in done.stderr
    assert loaded(done) == []


def test_commands_that_compute_nothing_load_nothing_heavy(tmp_path: Path) -> None:
    done = started("demo-data", "made", folder=tmp_path)
    assert (done.returncode, loaded(done)) == (0, [])
    figures = {"image_auroc": 0.5}
    (tmp_path / "metrics.json").write_text(json.dumps({"categories": {}, "mean": figures, "pooled": figures}))
    done = started("compare", ".", folder=tmp_path)
    assert (done.returncode, loaded(done)) == (0, [])


@pytest.mark.parametrize("module", ["inference.predictor", "serve.app", "serve.server"])
def test_a_model_in_use_loads_no_lightning_and_nothing_for_pictures_or_statistics(module: str) -> None:
    code = f"import sys, sivt_lightning.{module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "torch\n"


def test_pictures_logs_and_statistics_are_loaded_when_they_are_used() -> None:
    """Lightning itself loads two of them, but no file of ours does when it is loaded."""
    for file in (REPOSITORY / "sivt_lightning").rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith(("scipy.stats", "matplotlib", "tensorboard"))], file


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_what_needs_no_logs_loads_no_tensorboard(verb: str) -> None:
    code = f"import sys; from sivt_lightning.cli import command; command({verb!r}); print('tensorboard' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def said(run: Any, args: list[str]) -> tuple[str, int]:
    try:
        run(args)
    except SIVTError as error:
        return ending(error, True) or ("", 0)
    raise AssertionError("it was taken")


@pytest.mark.parametrize(
    "args",
    [
        args
        for args, _ in WRONG
        if args and args[0] in ("fit", "benchmark") and "utf16.yaml" not in args and "a" not in args
    ],
    ids=" ".join,
)
def test_the_parser_itself_would_say_the_same(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("utf16.yaml").write_text("model: {}", encoding="utf-16")
    main(args)
    sentence, code = said(command(args[0]), args[1:])
    assert capsys.readouterr().err == f"{sentence}\n"
    assert code == (1 if "trained model" in sentence else 2)


def test_the_list_of_options_is_that_of_the_parsers() -> None:
    lister = script("docs/list_options.py")
    real, shipped = json.loads(lister.lines(lister.listing())), json.loads(FILE.read_text(encoding="utf-8"))
    same = real["lightning"] == shipped["lightning"]
    for verb in LISTED:
        # Another release of Lightning may have other options, of which the parser itself speaks.
        ours = [
            [option for option in one["commands"][verb] if same or not option["names"][0].startswith("--trainer.")]
            for one in (real, shipped)
        ]
        assert ours[0] == ours[1], "python docs/list_options.py"
    assert lister.text(int | None) == "int | null"
