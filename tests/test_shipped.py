"""Shipped configs by their names, from a checkout and from a wheel."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from sivt_lightning.cli import main
from sivt_lightning.cli.shipped import CONFIGS, named, with_shipped_configs

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_shipped_config_has_a_name() -> None:
    assert CONFIGS == REPOSITORY / "configs"
    for file in CONFIGS.glob("*.yaml"):
        for option in ("--config", "-c"):
            assert with_shipped_configs([option, file.stem, "--name", file.stem])[1::2] == [str(file), file.stem]
        assert with_shipped_configs([f"--config={file.stem}"]) == [f"--config={file}"]
    for file in CONFIGS.glob("experiments/*.yaml"):
        assert named(file.stem, "experiment", CONFIGS / "experiments") == str(file)


def test_a_file_of_that_name_wins() -> None:
    Path("small").write_text("model: {}")
    assert with_shipped_configs(["--config", "small", "--config", "sivt"]) == [
        "--config", "small", "--config", str(CONFIGS / "sivt.yaml"),
    ]  # fmt: skip
    Path("demo").mkdir()
    assert named("demo", "config") == str(CONFIGS / "demo.yaml")
    assert named("model: {width: 8}", "config") == "model: {width: 8}"  # YAML itself


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["fit", "--config", "smal"], "config smal: there is no such file. By their names there are demo, "),
        (["benchmark", "--config=configs/small.yaml"], "config configs/small.yaml: there is no such file. By their"),
        (["experiment", "group", "--root", "x"], "experiment group: there is no such file. By their names there are "),
    ],
)
def test_an_unknown_name_says_which_there_are(
    args: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == (1 if args[0] == "experiment" else 2)  # whose files are no options
    assert capsys.readouterr().err.startswith(f"sivt: error: {sentence}")


def test_a_run_has_the_name_of_its_config(two_images: Path) -> None:
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    small = ["--model.backbone=test_efficientnet", "--model.weights=random", "--data.num_workers=0"]
    data = ["--data.root", str(two_images), "--data.categories=[down]", "--data.batch_size=1", "--data.cache=off"]
    assert main(["fit", "--config", "small", *few, *small, *data, "--synthetic.per_image=1"]) == 0
    assert Path("runs/small/version_0/checkpoints/best.ckpt").is_file()
    given = yaml.safe_load((REPOSITORY / "configs/small.yaml").read_text())
    kept = yaml.safe_load(Path("runs/small/version_0/config.yaml").read_text())
    assert kept["model"]["width"] == given["model"]["width"]


def test_a_wheel_has_them_where_they_are_looked_for(tmp_path: Path) -> None:
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert {*build["targets"]["wheel"]["packages"], *build["targets"]["wheel"]["force-include"]} <= {
        *build["targets"]["sdist"]["include"]
    }
    for source in build["targets"]["wheel"]["packages"]:
        shutil.copytree(REPOSITORY / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    for source, place in build["targets"]["wheel"]["force-include"].items():
        shutil.copytree(REPOSITORY / source, tmp_path / place)
    code = "import sys; sys.path.insert(0, '.'); from sivt_lightning.cli import shipped; print(shipped.CONFIGS)"
    done = subprocess.run([sys.executable, "-Ic", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path / "sivt_lightning/configs")
