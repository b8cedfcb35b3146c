"""What a training and a test say of their photos before they start."""

import os
import re
from pathlib import Path

import pytest
from lightning import LightningModule, Trainer
from PIL import Image
from test_hostile_folder import png_of

from sivt_lightning.cli import main
from sivt_lightning.cli.photo_table import Survey
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.survey import Header, read_headers, sizes


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def photo(path: str, width: int, height: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


def rows_of(text: str) -> list[list[str]]:
    """Cells of the first table."""
    lines = [line.rstrip() for line in text.splitlines()]
    first = next(number for number, line in enumerate(lines) if line.strip().startswith("category"))
    end = lines.index("", first + 1)
    return [re.split(" {2,}", line.strip()) for line in lines[first + 2 : end]]


def surveyed(stage: str, first: bool = True) -> None:
    data = SIVTDataModule("data", num_workers=0)
    data.setup(stage)
    place = {"is_global_zero": first, "datamodule": data}
    Survey().setup(object.__new__(type("Placed", (Trainer,), place)), LightningModule(), stage)


@pytest.fixture
def data() -> None:
    for number in range(10):
        photo(f"data/bolt/train/good/{number}.png", 70, 70)
        photo(f"data/label/{number}.jpg", 50, 124 + 4 * (number > 7))
    photo("data/bolt/train/rust/0.png", 70, 70)
    photo("data/bolt/test/ok/0.png", 80, 90)
    for number in range(2):
        photo(f"data/bolt/test/hole/{number}.png", 70, 70)
        photo(f"data/bolt/ground_truth/hole/{number}.png", 70, 70)


@pytest.mark.usefixtures("data")
def test_of_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    surveyed("fit")
    output = capsys.readouterr().out
    assert rows_of(output) == [
        ["bolt", "9", "1", "70 x 70", "MVTec AD"],
        ["label", "9", "1", "50 x 124 to 50 x 128", "photos"],
    ]
    assert f"In {Path('data/bolt').absolute()}, not used for training: train/rust (1 image).\n" in output


@pytest.mark.usefixtures("data")
def test_of_a_test(capsys: pytest.CaptureFixture[str]) -> None:
    surveyed("test")
    output = capsys.readouterr().out
    assert rows_of(output) == [["bolt", "1", "2", "2", "70 x 70 to 80 x 90", "MVTec AD"]]
    assert "Left out of the test, having no test images: label." in output


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("stage", ["fit", "test"])
def test_one_process_tells(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    surveyed(stage, first=False)
    assert capsys.readouterr().out == ""


def test_fit_and_test_start_with_it(
    tiny_config: Path, tiny_data: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1"]) == 0
    output = capsys.readouterr().out
    assert rows_of(output) == [[name, "9", "1", "40 x 40", "MVTec AD"] for name in ("across", "down")]
    assert output.index("held out") < output.index("Training ")
    assert main(["test", "--ckpt_path", str(checkpoint), "--data.root", str(tiny_data)]) == 0
    names = ("across", "down")
    assert rows_of(capsys.readouterr().out) == [[name, "3", "3", "3", "40 x 40", "MVTec AD"] for name in names]


def test_an_unreadable_photo_is_left_to_its_own_error() -> None:
    Path("cut.png").write_bytes(png_of(30, 20, pixels=b"")[:45])  # a header and no pixels: nothing is decoded
    Path("empty.png").touch()
    Path("text.jpg").write_text("no photo")
    os.mkfifo("pipe.png")
    Path("nowhere.png").symlink_to("nothing")
    Path("folder.png").mkdir()
    Path("huge.png").write_bytes(png_of(100_000, 100_000))
    names = ["cut.png", "empty.png", "text.jpg", "pipe.png", "nowhere.png", "folder.png", "huge.png"]
    headers = read_headers([Path(name) for name in names])
    assert headers == [Header(30, 20), None, None, None, None, None, None]
    assert sizes(headers[1:]) == "-"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_size_is_that_of_the_upright_photo(suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(f"turned.{suffix}", exif=exif)
    Image.new("RGB", (30, 20)).save(f"plain.{suffix}")
    assert read_headers([Path(f"turned.{suffix}"), Path(f"plain.{suffix}")]) == [Header(20, 30), Header(30, 20)]


@pytest.mark.usefixtures("data")
def test_files_of_several_pages_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    page = Image.new("L", (70, 70))
    page.save("data/bolt/train/good/pages.tif", save_all=True, append_images=[page])
    surveyed("fit")
    path = Path("data/bolt/train/good/pages.tif").absolute()
    assert f"Of files with several pages only the first is read: {path}.\n" in capsys.readouterr().out
