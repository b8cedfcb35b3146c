"""Lists on the command line: categories, and paths as a shell writes out a star."""

import shutil
from pathlib import Path

import pytest
from conftest import rows_of

from sivt_lightning.cli import main


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "taken"),
    [("[01, 010]", ["01", "010"]), ('["01","010"]', ["01", "010"]), ("bolt", ["bolt"]), ("010", ["010"])],
)
def test_categories_are_taken_as_written(given: str, taken: list[str], two_images: Path, checkpoint: Path) -> None:
    """YAML would take 01 for the number 1, and 010 for 8."""
    for name in ("01", "010", "bolt"):
        shutil.copytree(two_images / "across", Path("data", name))
    options = ["--data.root", "data", "--data.categories", given, "--output", "out", "--eval.curves", "false"]
    assert main(["test", "--ckpt_path", str(checkpoint), *options]) == 0
    assert [row["category"] for row in rows_of(Path("out/metrics.csv"))] == [*taken, "mean", "pooled"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["fit", "--config", "numbers.yaml"],
            "data.categories is [1, 8], but must be a list of names: put those that look",
        ),
        (["fit", "--config", "numbers.yaml"], """as an option --data.categories '["01", "02"]'"""),
        (["compare", "a", "--figures", "image_ap"], "figures is image_ap, but must be a list: --figures [image_ap]."),
        (["benchmark", "--batch_sizes", "8"], "batch_sizes is 8, but must be a list: --batch_sizes [8]."),
        (["fit", "--model.strides", "2"], "model.strides is 2, but must be a list: --model.strides [2]."),
        (["fit", "--model.blocks", "2"], "model.blocks is 2, but must be a list: --model.blocks [2]."),
        (["fit", "--model.blocks", "[1,a]"], "model.blocks is [1, 'a'], but must be a list of whole numbers, as in"),
        (["fit", "--data.root", "data", "--data.categories", "nut"], """--data.categories '["bolt", "label"]'"""),
    ],
)
def test_a_sentence_shows_how_to_write_a_list(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("numbers.yaml").write_text("data: {categories: [01, 010]}\n")
    for name in ("bolt", "label"):
        Path("data", name).mkdir(parents=True)
        Path("data", name, "0.png").touch()
    assert main(arguments) != 0
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_predict_takes_what_a_star_stands_for(
    tiny_data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    star = sorted(str(path) for path in (tiny_data / "down/test/good").glob("*.png"))
    assert main(["predict", "--data.predict_path", *star, "--ckpt_path", str(checkpoint)]) == 0
    assert [row["path"] for row in rows_of(Path("predictions/good/predictions.csv"))] == [
        "000.png",
        "001.png",
        "002.png",
    ]
    folders = [str(tiny_data / "down/test/good"), f"--data.predict_path={tiny_data / 'across/test/good'}"]
    options = ["--threshold_by", "category", "--writer.overlays", "false"]
    assert main(["predict", "--ckpt_path", str(checkpoint), "--data.predict_path", *folders, *options]) == 0
    rows = rows_of(Path("predictions", tiny_data.name, "predictions.csv"))
    names = [f"{category}/test/good/00{number}.png" for category in ("across", "down") for number in range(3)]
    assert [row["path"] for row in rows] == names
    assert len({row["mask"] for row in rows}) == 6
    assert len({row["threshold"] for row in rows}) == 2
    assert main(["predict", "--ckpt_path", str(checkpoint), "--data.predict_path", star[0], "nowhere.png"]) == 1
    assert "nowhere.png does not exist" in capsys.readouterr().err


def test_a_folder_whose_name_looks_like_a_list(tiny_data: Path, checkpoint: Path) -> None:
    shutil.copytree(tiny_data / "down/test/good", "[old]")
    assert main(["predict", "--ckpt_path", str(checkpoint), "--data.predict_path", "[old]"]) == 0
    assert len(rows_of(Path("predictions/[old]/predictions.csv"))) == 3
