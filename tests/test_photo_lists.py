"""Lists of photos in the place of folders: what they say, what is refused, and that nothing else changes."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import trees
from conftest import rows_of
from trees import write_list

from sivt_lightning.cli import main
from sivt_lightning.data import layouts
from sivt_lightning.data.asked import predict_samples
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.layouts import train_samples
from sivt_lightning.data.samples import Sample, hold_out
from sivt_lightning.errors import SIVTError

HEADING = ("path", "category", "split", "label", "defect", "mask")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos 0 to 9, and masks m0 to m9."""
    trees.photos(tmp_path, *(f"{number}.png" for number in range(10)))
    trees.masks(tmp_path, *(f"m{number}.png" for number in range(10)))
    return tmp_path


def listed(
    *rows: Sequence[str], heading: Sequence[str] = HEADING, separator: str = ",", name: str = "list.csv"
) -> Path:
    return write_list(Path(name).absolute(), [heading, *rows], separator)


TRAIN = [(f"{number}.png", "bolt", "train", "good", "", "") for number in range(3)]


def known(samples: list[Sample]) -> list[tuple[str, str, str, str, str]]:
    masks = [sample.mask_path.name if sample.mask_path else "" for sample in samples]
    return [(s.path.name, s.category, s.split, s.defect, mask) for s, mask in zip(samples, masks, strict=True)]


# --- what a list says


def test_a_list_says_what_each_photo_is_for(photos: Path) -> None:
    file = listed(
        *TRAIN,
        ("3.png", "bolt", "validation", "good", "", ""),
        ("4.png", "bolt", "test", "good", "", ""),
        ("5.png", "bolt", "test", "defect", "dent", "m5.png"),
        (str(photos / "6.png"), "bolt", "predict", "", "", ""),
    )
    samples, left_out = train_samples(file, None)
    assert known(samples) == [
        *((f"{i}.png", "bolt", "train", "good", "") for i in range(3)),
        ("3.png", "bolt", "validation", "good", ""),
    ]
    assert [s.path.name for s in hold_out(samples, 0.1, 0)[1]] == ["3.png"]
    assert known(layouts.test_samples(file, None).samples) == [
        ("4.png", "bolt", "test", "good", ""),
        ("5.png", "bolt", "test", "dent", "m5.png"),
    ]
    assert known(predict_samples([file]).samples) == [("6.png", "bolt", "predict", "good", "")]
    assert left_out == []
    assert predict_samples([file]).name == "list"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    "heading",
    [
        HEADING,
        ("Image", "Product", "Split", "LABEL", "Defect Type", "mask path"),
        (" filename", "object", "set", "Anomaly", "kind", "gt"),
    ],
)
def test_a_heading_is_forgiving(heading: Sequence[str], separator: str, photos: Path) -> None:
    rows = [("0.png", "bolt", "Train", "OK", "", ""), ("1.png", "bolt", "training", "0", "", "")]
    rows += [("2.png", "bolt", "TEST", "normal", "", ""), ("3.png", "bolt", "testing", "NG", "", "m3.png")]
    file = listed(*rows, heading=heading, separator=separator)
    assert [sample.path.name for sample in train_samples(file, None).samples] == ["0.png", "1.png"]
    assert [sample.anomalous for sample in layouts.test_samples(file, None).samples] == [False, True]


def test_columns_may_stand_in_any_order_or_be_missing(photos: Path) -> None:
    file = listed(("good", "0.png"), ("good", "1.png"), ("defect", "2.png"), ("", "3.png"), heading=("label", "path"))
    samples, left_out = train_samples(file, None)
    assert known(samples) == [("0.png", "list", "train", "good", ""), ("1.png", "list", "train", "good", "")]
    assert left_out == [
        f"1 image for training in {file} left out, being of defects: 1 of list (defect).",
        f"1 image for training in {file} left out, having no label.",
    ]
    file = listed(("train", "0.png", "x"), ("train", "1.png", "y"), heading=("split", "path", "note"))
    samples, left_out = train_samples(file, None)
    assert len(samples) == 2
    assert left_out == [f"In {file}, columns that mean nothing here: note."]


def test_json_lines_say_the_same(photos: Path) -> None:
    rows = [{"path": f"{number}.png", "category": "bolt", "split": "train"} for number in range(2)]
    labelled = {"category": "bolt", "split": "test"}
    rows += [{"path": "2.png", "label": True, "mask": "m2.png", "note": 7} | labelled]
    rows += [{"path": "3.png", "label": "good", "mask": None} | labelled]
    file = Path("list.jsonl").absolute()
    file.write_text("\n".join(json.dumps(row) for row in rows[:2]) + "\n\n")
    assert len(train_samples(file, None).samples) == 2
    file.write_text(
        "\n".join(json.dumps(row | {"path": row.pop("image", row.get("path"))}) for row in rows).replace(
            "anomalous", "label"
        )
    )
    assert [sample.anomalous for sample in layouts.test_samples(file, None).samples] == [True, False]


def test_names_may_be_made_of_anything(tmp_path: Path) -> None:
    names = [
        "a,b.png",
        'say "a".png',
        "two\nlines.png",
        "=1+1.png",
        "caf\udce9.png",
        r"back\x5c.png",
        " spaced .png",
        "umläut;x.png",
    ]
    trees.photos(tmp_path, *(f"bolt, large/train/good/{name}" for name in names))
    assert main(["data", "list", str(tmp_path), "--output", "list.csv"]) == 0
    found = train_samples(Path("list.csv").absolute(), None).samples
    assert found == train_samples(tmp_path, None).samples
    assert {sample.path.name for sample in found} == set(names)
    assert {sample.category for sample in found} == {"bolt, large"}


def test_quoted_cells_and_lines_of_other_systems(photos: Path) -> None:
    Path("list.csv").write_bytes(b'\xef\xbb\xbfpath,label\r\n"0.png",good\r\n\r\n1.png,"good"\r\n')
    assert len(train_samples(Path("list.csv").absolute(), None).samples) == 2


# --- bad input: one sentence, with the line, and nothing half done


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (("gone.png", "bolt", "train", "good"), r"line 5: .*gone\.png is not there"),
        (("", "bolt", "train", "good"), r"line 5: it names no photo"),
        (("list.csv", "bolt", "train", "good"), r"line 5: .*list.csv is no image"),
        (("0.png", "bolt", "train", "good"), r"line 5: .*0\.png stands in an earlier line, too .2."),
        (("./sub/../0.png", "bolt", "train", "good"), r"line 5: .*0\.png stands in an earlier line, too .2."),
        (("4.png", "bolt", "trian", "good"), r"line 5: its split is 'trian'; give train, validation, test, predict"),
        (("4.png", "bolt", "train", "fine"), r"line 5: its label is 'fine'; give good or defect"),
        (("4.png", "", "train", "good"), r"line 5: its category is not said"),
        (("4.png", "bolt", "train", "good", "dent"), r"line 5: its label is 'good', but its defect 'dent'"),
        (("4.png", "bolt", "test", "good", "", "m4.png"), r"line 5: it has a mask, but its photo is good"),
        (("4.png", "bolt", "test", "defect", "", "none.png"), r"line 5: .*none.png is not there"),
        (
            ("4.png", "nut", "test", "good"),
            r"line 5: category 'nut' has 0 images of good parts for training, only others",
        ),
        (
            ("4.png", "nut", "train", "good"),
            r"line 5: category 'nut' has 1 image of good parts for training, but at least 2",
        ),
        (("4.png", "nut", "validation", "good"), r"line 5: category 'nut' has 0 images of good parts for training"),
        (("4.png", "bolt", "train", "good", "", "", "x"), r"line 5: it has 7 cells, but the first line names 6"),
    ],
)
def test_a_line_at_fault_is_named(row: Sequence[str], sentence: str, photos: Path) -> None:
    file = listed(*TRAIN, row)
    with pytest.raises(SIVTError, match=sentence):
        train_samples(file, None)


def test_a_fault_ends_fit_in_one_sentence(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = listed(*TRAIN, ("gone.png", "bolt", "train", "good"))
    assert main(["fit", "--config", "small", "--data.root", str(file), "--trainer.accelerator", "cpu"]) == 1
    said = capsys.readouterr().err
    assert "line 5" in said
    assert said.count("\n") == 1
    assert not any(Path("runs").glob("*"))


def test_a_line_after_one_of_several_lines_has_its_own_number(photos: Path) -> None:
    trees.photos(photos, "two\nlines.png")
    file = listed(('"two\nlines.png"', "bolt", "train", "good"), ("1.png", "bolt", "train", "fine"))
    with pytest.raises(SIVTError, match="line 4: its label"):
        train_samples(file, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "its first line has to name its columns, such as path,category,split,label,defect,mask"),
        ("name,label\n0.png,good\n", "its first line has to name its columns"),
        ("path\n0.png\n1.png\n", "does not say which photos are good: add a column label"),
        ("path,image,label\n", "two columns for the same thing, path, image"),
        ("path,path,label\n", "two columns called path"),
        ("path,label\n0.png,defect\n", "line 2: category 'list' has 0 images of good parts"),
        ("path,label\n", "has no photos of good parts for training"),
        ("path,label\ncaf\xe9.png,good\n", "cannot be read as a list of photos .* Save it as CSV in UTF-8"),
    ],
)
def test_a_list_at_fault_is_told(text: str, sentence: str, photos: Path) -> None:
    Path("list.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(SIVTError, match=sentence):
        train_samples(Path("list.csv").absolute(), None)


@pytest.mark.parametrize(("line", "sentence"), [("{", "line 2: it is no JSON"), ("[1]", "line 2: it is no object")])
def test_a_line_of_json_at_fault_is_told(line: str, sentence: str, photos: Path) -> None:
    Path("list.jsonl").write_text(f'{{"path": "0.png", "label": "good"}}\n{line}\n')
    with pytest.raises(SIVTError, match=sentence):
        train_samples(Path("list.jsonl").absolute(), None)


def test_what_a_test_lacks_is_told(photos: Path) -> None:
    with pytest.raises(SIVTError, match=r"has no photos for the test\. Give some the split test"):
        layouts.test_samples(listed(*TRAIN), None)
    with pytest.raises(SIVTError, match="line 5: its photo is for the test, but has no label"):
        layouts.test_samples(listed(*TRAIN, ("3.png", "bolt", "test", "")), None)
    masked = ("3.png", "bolt", "test", "defect", "", "m3.png")
    with pytest.raises(SIVTError, match="line 6: it has no mask, though others of category 'bolt' have"):
        layouts.test_samples(listed(*TRAIN, masked, ("4.png", "bolt", "test", "defect")), None)
    with pytest.raises(SIVTError, match=r"no photos to predict\. Give some the split predict"):
        predict_samples([listed(*TRAIN)])


def test_categories_of_a_list_are_chosen_by_name(photos: Path) -> None:
    file = listed(*TRAIN, ("4.png", "nut", "test", "good"))
    assert len(train_samples(file, ["bolt"]).samples) == 3
    with pytest.raises(SIVTError, match=r"has no category screw\. Set data.categories to some of bolt, nut"):
        train_samples(file, ["screw"])
    with pytest.raises(SIVTError, match=r"data.layout is mvtec, but .*list.csv is a list"):
        SIVTDataModule(str(file), layout="mvtec").setup("fit")


# --- sivt data list


PUBLISHED = "mvtec loco mvtec_3d mvtec_ad_2 btad visa real_iad kolektor kolektor_2 dagm good_bad"


@pytest.mark.parametrize("layout", PUBLISHED.split())
def test_a_list_of_any_layout_gives_the_same_photos(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    getattr(trees, layout)(tmp_path / "data/part")
    assert main(["data", "list", "data"]) == 0
    file = tmp_path / "data.csv"
    assert "Wrote data.csv: " in capsys.readouterr().out
    folder = [SIVTDataModule(str(root), num_workers=0) for root in (tmp_path / "data", file)]
    for stage in ("fit", "test"):
        for data in folder:
            data.setup(stage)
    by_folder, by_list = folder
    for part in ("train_set", "val_set", "test_set"):
        assert getattr(by_folder, part).samples == getattr(by_list, part).samples
    assert by_folder.training_images == by_list.training_images
    assert by_list.folder_of(by_list.test_set.samples) == tmp_path


def test_photos_without_labels_are_listed_to_predict(tmp_path: Path) -> None:
    trees.mvtec_ad_2(tmp_path / "can")
    assert main(["data", "list", str(tmp_path), "--output", "list.csv"]) == 0
    assert [s.path.parent.name for s in predict_samples([Path("list.csv")]).samples] == [
        "test_private",
        *["test_private_mixed"] * 2,
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["photos"], "list.csv exists. Add --overwrite"),
        (["photos", "--output", "a.txt"], "a list is a CSV file"),
        (["photos", "--output", "nowhere/a.csv"], "there is no folder"),
        (["nowhere", "--output", "a.csv"], "does not exist"),
        (["list.csv", "--output", "a.csv"], "is a list already"),
        (
            ["photos", "--output", "a.csv", "--layout", "best"],
            "layout best: there is none of this name, but",
        ),
    ],
)
def test_what_cannot_be_listed_is_told(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("list.csv").touch()
    Path("photos.csv").touch()
    trees.photos(Path("photos"), "0.png")
    arguments = ["photos", "--output", "list.csv"] if arguments == ["photos"] else arguments
    assert main(["data", "list", *arguments]) == 1
    assert sentence in capsys.readouterr().err
    assert not Path("a.csv").exists()


def test_a_list_is_replaced_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("list.csv").touch()
    trees.photos(Path("photos"), "0.png")
    assert main(["data", "list", "photos", "--output", "list.csv", "--overwrite"]) == 0
    assert Path("list.csv").read_text() == "path,category,split,label,defect,mask\nphotos/0.png,photos,train,good,,\n"
    assert main(["data", "lists", "photos"]) == 2
    assert "lists" in capsys.readouterr().err


# --- the same figures


def test_a_training_through_a_list_gives_the_same_figures(tiny_config: Path, tiny_data: Path, tmp_path: Path) -> None:
    assert main(["data", "list", str(tiny_data), "--output", "list.csv"]) == 0
    figures, weights = [], []
    for name, root in (("folders", tiny_data), ("list", Path("list.csv"))):
        options = ["--data.root", str(root), "--name", name, "--trainer.max_epochs", "2"]
        assert main(["fit", "--config", str(tiny_config), *options]) == 0
        run = Path("runs", name, "version_0")
        assert main(["test", "--ckpt_path", str(run / "checkpoints/best.ckpt"), "--eval.curves", "false"]) == 0
        results = json.loads((run / "test/metrics.json").read_text())
        figures.append({part: results[part] for part in ("categories", "mean", "pooled", "operating_points")})
        weights.append(results["settings"]["test"]["images"])
    assert figures[0] == figures[1]
    assert weights[0] == weights[1]


def test_the_photos_of_a_list_are_predicted(tiny_data: Path, checkpoint: Path, tmp_path: Path) -> None:
    rows = [("path", "split"), (str(tiny_data / "down/test/good/000.png"), "predict")]
    rows += [
        (str(tiny_data / "across/test/good/001.png"), "predict"),
        (str(tiny_data / "down/test/good/001.png"), "test"),
    ]
    file = write_list(tmp_path / "asked.csv", rows)
    assert main(["predict", "--ckpt_path", str(checkpoint), "--data.predict_path", file.name]) == 0
    found = [row["path"] for row in rows_of(Path("predictions/asked/predictions.csv"))]
    assert found == ["across/test/good/001.png", "down/test/good/000.png"]
