"""Folders to samples. Layouts never open an image, so empty files do."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sivt_lightning.cli import main
from sivt_lightning.data import layouts
from sivt_lightning.data.asked import predict_samples
from sivt_lightning.data.folders import IMAGE_SUFFIXES
from sivt_lightning.data.samples import Sample, hold_out
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import SHOWN


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(samples: list[Sample], root: Path) -> list[str]:
    return [sample.path.relative_to(root).as_posix() for sample in samples]


def mvtec(root: Path, train: int = 3) -> Path:
    touch(root, *(f"train/good/{index:03}.png" for index in range(train)))
    touch(root, "test/good/000.png", "test/scratch/000.png", "test/scratch/001.png", "test/hole/000.png")
    touch(
        root, "ground_truth/scratch/000_mask.png", "ground_truth/scratch/001_mask.png", "ground_truth/hole/000_mask.png"
    )
    touch(root, "license.txt", "readme.txt")
    return root


def train_samples(root: Path, categories: list[str] | None = None) -> list[Sample]:
    """Where nothing is left out."""
    samples, left_out = layouts.train_samples(root, categories)
    assert left_out == []
    return samples


def labelled_samples(root: Path, categories: list[str] | None = None) -> list[Sample]:
    """Where nothing is left out."""
    samples, left_out = layouts.test_samples(root, categories)
    assert left_out == []
    return samples


def test_mvtec_categories_side_by_side(tmp_path: Path) -> None:
    for category in ("screw", "bottle"):
        mvtec(tmp_path / category)
    touch(tmp_path, "license.txt", ".DS_Store", "__MACOSX/bottle/._000.png", "bottle/train/good/._000.png")
    samples = train_samples(tmp_path)
    assert names(samples, tmp_path) == [f"{c}/train/good/00{i}.png" for c in ("bottle", "screw") for i in range(3)]
    assert samples[0] == Sample(tmp_path / "bottle/train/good/000.png", "bottle", False, "good", None)
    assert {sample.category for sample in train_samples(tmp_path, ["screw"])} == {"screw"}


def test_test_samples_have_labels_and_masks(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw")
    samples = labelled_samples(tmp_path)
    assert [(s.path.parent.name, s.path.stem, s.anomalous, s.defect) for s in samples] == [
        ("good", "000", False, "good"),
        ("hole", "000", True, "hole"),
        ("scratch", "000", True, "scratch"),
        ("scratch", "001", True, "scratch"),
    ]
    truth = tmp_path / "screw/ground_truth"
    assert [s.mask_path for s in samples] == [
        None,
        truth / "hole/000_mask.png",
        truth / "scratch/000_mask.png",
        truth / "scratch/001_mask.png",
    ]


def test_the_root_may_be_one_mvtec_category(tmp_path: Path) -> None:
    root = mvtec(tmp_path / "screw")
    assert {sample.category for sample in train_samples(root, ["screw"])} == {"screw"}
    assert len(labelled_samples(root)) == 4


def test_a_mask_may_have_the_images_name_and_any_suffix(tmp_path: Path) -> None:
    touch(
        tmp_path / "c", "test/hole/a.jpg", "test/hole/b.jpg", "ground_truth/hole/a.PNG", "ground_truth/hole/b_mask.bmp"
    )
    samples = labelled_samples(tmp_path)
    assert [sample.mask_path.name for sample in samples if sample.mask_path] == ["a.PNG", "b_mask.bmp"]


@pytest.mark.parametrize("truth", [True, False])
def test_a_category_without_masks_has_none(tmp_path: Path, truth: bool) -> None:
    touch(tmp_path / "c", "test/hole/a.png", "test/good/a.png")
    if truth:
        (tmp_path / "c/ground_truth/hole").mkdir(parents=True)
    assert [sample.mask_path for sample in labelled_samples(tmp_path)] == [None, None]


@pytest.mark.parametrize("gone", ["scratch/001_mask.png", "hole/000_mask.png"])
def test_one_missing_mask_is_named_with_its_image(tmp_path: Path, gone: str) -> None:
    root = mvtec(tmp_path / "screw")
    (root / "ground_truth" / gone).unlink()
    image = root / "test" / gone.replace("_mask", "")
    with pytest.raises(SIVTError, match="has no mask") as error:
        labelled_samples(root)
    assert str(image) in str(error.value)
    assert str(root / "ground_truth" / gone) in str(error.value)


def test_good_only_folders_side_by_side_in_any_suffix_and_case(tmp_path: Path) -> None:
    touch(tmp_path, *(f"nuts/{index}{suffix}" for index, suffix in enumerate(IMAGE_SUFFIXES)))
    touch(tmp_path, *(f"bolts/{index}{suffix.upper()}" for index, suffix in enumerate(IMAGE_SUFFIXES)))
    touch(tmp_path, "nuts/notes.txt")
    samples = train_samples(tmp_path)
    assert len(samples) == 2 * len(IMAGE_SUFFIXES)
    assert [sample.category for sample in samples] == ["bolts"] * 7 + ["nuts"] * 7


def test_one_flat_folder_is_one_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "nuts", "b.jpg", "a.png")
    samples = train_samples(tmp_path / "nuts")
    assert [(sample.category, sample.path.name) for sample in samples] == [("nuts", "a.png"), ("nuts", "b.jpg")]
    monkeypatch.chdir(tmp_path / "nuts")
    assert train_samples(Path(), None)[0].category == "nuts"


def test_both_layouts_side_by_side(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw")
    touch(tmp_path, "nuts/a.png", "nuts/b.png")
    assert {sample.category for sample in train_samples(tmp_path)} == {"nuts", "screw"}


def test_photos_beside_folders_of_photos_are_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "nuts/a.png", "nuts/b.png", "c.png")
    with pytest.raises(SIVTError, match=r"photos \(c.png\) beside folders of photos \(nuts\)"):
        train_samples(tmp_path)


@pytest.mark.parametrize(
    ("stray", "named"),
    [
        ("c.png", "not part of any category: c.png"),
        ("notes/plan.txt", "not part of any category: notes"),
        ("screw/train/rust/000.png", r"not used for training: train/rust \(1 image\)"),
        ("screw/train/000.png", "not used for training: train/000.png"),
        ("screw/000.png", "not used for training: 000.png"),
        ("screw/train/good/000.heic", "not used for training: train/good/000.heic"),
        ("nuts/runs/nuts/version_0/test/gallery.png", r"not used for training: runs \(1 image\)"),
        ("runs/small/version_0/test/gallery.png", r"not part of any category: runs \(1 image\)"),
    ],
)
def test_what_training_does_not_use_is_named(tmp_path: Path, stray: str, named: str) -> None:
    mvtec(tmp_path / "screw")
    touch(tmp_path, "nuts/a.png", "nuts/b.png")
    before = train_samples(tmp_path)
    touch(tmp_path, stray)
    samples, left_out = layouts.train_samples(tmp_path, None)
    assert samples == before
    assert [bool(re.search(named, sentence)) for sentence in left_out] == [True]


@pytest.mark.parametrize(
    ("stray", "named"),
    [
        ("test/000.png", "test/000.png"),
        ("test/empty/notes.txt", "test/empty"),
        ("test/hole/000.gif", "test/hole/000.gif"),
        ("ground_truth/hole/009_mask.png", "ground_truth/hole/009_mask.png"),
        ("ground_truth/hole/000.png", "ground_truth/hole/000.png"),  # 000_mask.png is the one that is used
        ("ground_truth/good/000_mask.png", "ground_truth/good/000_mask.png"),
        ("ground_truth/000_mask.png", "ground_truth/000_mask.png"),
    ],
)
def test_what_testing_does_not_use_is_named(tmp_path: Path, stray: str, named: str) -> None:
    root = mvtec(tmp_path / "screw")
    before = labelled_samples(root)
    touch(root, stray)
    samples, left_out = layouts.test_samples(root, None)
    assert samples == before
    assert [bool(re.search(f"not used for testing: {named}\\.$", sentence)) for sentence in left_out] == [True]


def test_a_long_list_of_unused_files_is_cut(tmp_path: Path) -> None:
    root = mvtec(tmp_path / "screw")
    touch(root, *(f"train/good/{index}.gif" for index in range(9)))
    (sentence,) = layouts.train_samples(root, None).left_out
    assert sentence.endswith("4.gif and 4 more.")


def test_categories_without_test_images_are_left_out_of_the_test(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw")
    mvtec(tmp_path / "cable")
    shutil.rmtree(tmp_path / "cable/test")
    touch(tmp_path, "nuts/a.png", "nuts/b.png")
    samples, left_out = layouts.test_samples(tmp_path, None)
    assert left_out == ["Left out of the test, having no test images: cable, nuts."]
    assert {sample.category for sample in samples} == {"screw"}
    with pytest.raises(SIVTError, match=r"No test images in .* in cable, nuts\. .*Add them, or use `sivt predict`"):
        layouts.test_samples(tmp_path, ["cable", "nuts"])


def test_a_test_folder_alone_can_be_tested_but_not_trained_on(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw", train=0)
    assert len(labelled_samples(tmp_path)) == 4
    with pytest.raises(SIVTError, match=r"Category 'screw' has 0 training image\(s\) in .*train/good"):
        train_samples(tmp_path)


@pytest.mark.parametrize("collect", [layouts.train_samples, layouts.test_samples])
def test_bad_roots(tmp_path: Path, collect: Callable) -> None:
    with pytest.raises(SIVTError, match=r"nowhere does not exist. Set data.root"):
        collect(tmp_path / "nowhere", None)
    touch(tmp_path, "file.png")
    with pytest.raises(SIVTError, match=r"file.png is a file. Set data.root"):
        collect(tmp_path / "file.png", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SIVTError, match=r"No category found in .*train/good.*\.webp.*; there is nothing\."):
        collect(tmp_path / "empty", None)
    mvtec(tmp_path / "outer/inner/screw")
    with pytest.raises(SIVTError, match=r"No category found in .*; there is inner\."):
        collect(tmp_path / "outer", None)


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)  # not by chmod, which root may override
    with pytest.raises(SIVTError, match=f"{tmp_path} cannot be read: Permission denied"):
        train_samples(tmp_path)


@pytest.mark.parametrize("collect", [layouts.train_samples, layouts.test_samples])
def test_unknown_categories_are_named_beside_the_known_ones(tmp_path: Path, collect: Callable) -> None:
    mvtec(tmp_path / "screw")
    mvtec(tmp_path / "cable")
    with pytest.raises(SIVTError, match=r"has no category bolt, nut\. Set data.categories to some of cable, screw"):
        collect(tmp_path, ["screw", "nut", "bolt"])
    with pytest.raises(
        SIVTError, match=r"data.categories is an empty list\. Set .* to some of cable, screw, or to null"
    ):
        collect(tmp_path, [])


@pytest.mark.parametrize("images", [0, 1])
def test_a_category_needs_two_training_images(tmp_path: Path, images: int) -> None:
    mvtec(tmp_path / "screw", train=images)
    mvtec(tmp_path / "cable")
    with pytest.raises(SIVTError, match=rf"'screw' has {images} training image\(s\) in .*, but at least 2 are needed"):
        train_samples(tmp_path)
    assert len(train_samples(tmp_path, ["cable"])) == 3


@pytest.mark.parametrize("part", ["", "caf\udce9"])
def test_a_category_that_is_no_utf_8_is_refused(tmp_path: Path, part: str) -> None:
    touch(tmp_path / "caf\udce9/train/good", "0.png", "1.png")
    for collect in (layouts.train_samples, layouts.test_samples):
        with pytest.raises(SIVTError, match="caf\udce9 is no UTF-8, which tables need: rename it"):
            collect(tmp_path / part, None)


def test_the_screen_shows_a_byte_of_a_name_as_tables_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path / "caf\udce9/train/good", "0.png", "1.png")
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--data.root", str(tmp_path), "--trainer.accelerator", "cpu"]) == 1
    assert r"caf\xe9 is no UTF-8" in capsys.readouterr().err


def test_what_no_screen_can_show_is_escaped() -> None:
    assert "caf\udce9 \udcff\ud800".encode("utf-8", SHOWN).decode() == r"caf\xe9 \xff\ud800"
    assert "\u30cd".encode("latin-1", SHOWN) == rb"\u30cd"


# --- what names say


GOOD_NAMES = ["good", "Good", "OK", "ok", "normal", "Normals", "pass", "0.normal", "OK_images", "defect_free", "iO"]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_goes_by_many_names(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "bolt", *(f"{part}/{name}/{index}.png" for part in ("train", "test") for index in (0, 1)))
    touch(tmp_path / "bolt", "test/NG/2.png")
    assert names(train_samples(tmp_path), tmp_path / "bolt/train") == [f"{name}/0.png", f"{name}/1.png"]
    assert sorted((s.path.stem, s.anomalous, s.defect) for s in labelled_samples(tmp_path)) == [
        ("0", False, "good"),
        ("1", False, "good"),
        ("2", True, "NG"),
    ]


def test_several_folders_of_good_parts_count_together(tmp_path: Path) -> None:
    touch(tmp_path / "bolt", *(f"{part}/{kind}/0.png" for part in ("train", "test") for kind in ("good", "OK", "Pass")))
    assert len(train_samples(tmp_path)) == 3
    assert [sample.anomalous for sample in labelled_samples(tmp_path)] == [False] * 3


@pytest.mark.parametrize("parts", ["train test ground_truth", "Train Test Ground_Truth", "TRAIN TEST GROUND_TRUTH"])
def test_the_layouts_folders_may_be_written_in_any_case(tmp_path: Path, parts: str) -> None:
    train, test, truth = parts.split()
    touch(tmp_path / "bolt", f"{train}/good/0.png", f"{train}/good/1.png", f"{test}/hole/0.png", f"{truth}/hole/0.png")
    assert len(train_samples(tmp_path)) == 2
    assert [sample.mask_path is not None for sample in labelled_samples(tmp_path)] == [True]


@pytest.mark.parametrize(
    ("layout", "bad", "good"),
    [
        ("good mask/crack", "mask", "good"),
        ("train_good test_bad", "test_bad", "train_good"),
        ("good bolt/train/good", "bolt", "good"),
        ("good test_bad", "test_bad", "good"),
        ("bolt_ok bolt_ng nut_ok nut_ng", "bolt_ng", "bolt_ok"),
        ("front_ok rear_ng", "rear_ng", "front_ok"),
        ("bolt_good bolt_label", "bolt_label", "bolt_good"),
        ("images masks", "masks", "images"),
        ("Images labels", "labels", "Images"),
        ("bolt bolt_mask", "bolt_mask", "bolt"),
        ("bolt ng", "ng", ""),
        ("bolt ground_truth", "ground_truth", ""),
        ("training testing", "testing", ""),
        ("ok_front def_front", "def_front", "ok_front"),
        ("ok_front burr_front nut", "burr_front", "ok_front"),
        ("bolt bolt_ok", "bolt", "bolt_ok"),
        ("Negative Positive", "Negative", "Positive"),
        ("clean dirty", "clean", "dirty"),
        ("bolt_clean bolt_dirty nut", "bolt_clean", "bolt_dirty"),
        ("perfect imperfect", "imperfect", "perfect"),
        ("conform nonconform_images", "conform", "nonconform_images"),
        ("bueno malo", "bueno", "malo"),
        ("bon mauvais", "bon", "mauvais"),
        ("healthy sick", "healthy", "sick"),
        ("inliers outliers", "inliers", "outliers"),
    ],
)
def test_defects_and_masks_are_never_trained_on(tmp_path: Path, layout: str, bad: str, good: str) -> None:
    for folder in layout.split():
        touch(tmp_path / folder, "0.png", "1.png")
    with pytest.raises(SIVTError, match=rf"holds the folder {bad}\b.* only good parts are trained on") as error:
        layouts.train_samples(tmp_path, None)
    assert f"folder {bad}{f' beside {good}' if good else ''}" in str(error.value)
    assert "sort the photos as PRODUCT/train/good, PRODUCT/test/good and PRODUCT/test/DEFECT" in str(error.value)


@pytest.mark.parametrize(
    "products",
    [
        *(
            "bolt label",
            "bottle bottle_label",
            "label",
            "01 02",
            "bolt_ok nut_ok",
            "metal_nut screw",
            "io_module label",
        ),
        *("bolt clean", "negative_lead positive_terminal", "inside side", "bolt imperfect"),
    ],
)
def test_products_may_be_called_like_that(tmp_path: Path, products: str) -> None:
    for product in products.split():
        touch(tmp_path / product, "0.png", "1.png")
    assert sorted({sample.category for sample in train_samples(tmp_path)}) == products.split()


def test_folders_chosen_by_hand_are_products_but_never_beside_their_good_ones(tmp_path: Path) -> None:
    for folder in ("mask", "bolt", "nut_ok", "nut_ng"):
        touch(tmp_path / folder, "0.png", "1.png")
    assert {sample.category for sample in train_samples(tmp_path, ["mask", "bolt"])} == {"mask", "bolt"}
    assert {sample.category for sample in train_samples(tmp_path, ["nut_ok", "bolt"])} == {"nut_ok", "bolt"}
    with pytest.raises(
        SIVTError, match=r"folder nut_ng beside nut_ok, .* --data.categories '\[\"bolt\", \"nut_ok\"\]'"
    ):
        layouts.train_samples(tmp_path, ["nut_ok", "nut_ng", "bolt"])
    with pytest.raises(SIVTError, match="holds the folder mask beside nut_ok, which is named like masks") as error:
        layouts.train_samples(tmp_path, None)
    assert "name them all" not in str(error.value)  # of which one is of defects


@pytest.mark.parametrize(
    "products",
    [
        "face_mask ok_button",
        "ok_button test_strip test_tube training_shoe",
        "dent_filler filler",
        "IO bolt nut",
        "bolt gut",
        "bolt gt nut",
        "negative_terminal positive_terminal",
        "button ok_button",
    ],
)
def test_products_with_such_names_are_taken_when_all_are_named(tmp_path: Path, products: str) -> None:
    for product in products.split():
        touch(tmp_path / product, "0.png", "1.png")
    with pytest.raises(SIVTError, match="name them all") as error:
        layouts.train_samples(tmp_path, None)
    offered = re.search(r"name them all: --data.root (\S+) --data.categories '(.*)'\.$", str(error.value))
    assert offered is not None
    assert offered[1] == str(tmp_path)
    samples = train_samples(tmp_path, json.loads(offered[2]))
    assert sorted({sample.category for sample in samples}) == products.split()


@pytest.mark.parametrize("folders", ["good bad", "good mask", "ok ng bolt", "nut_ok nut_ng", "good test_bad"])
def test_defects_beside_good_are_refused_by_hand_too(tmp_path: Path, folders: str) -> None:
    for folder in folders.split():
        touch(tmp_path / folder, "0.png", "1.png")
    for chosen in [folders.split()] if folders == "good bad" else [None, folders.split()]:
        with pytest.raises(SIVTError, match="only good parts are trained on") as error:
            layouts.train_samples(tmp_path, chosen)
        assert "name them all" not in str(error.value)


def test_of_two_opposites_none_is_recommended(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}/{index}.png" for folder in ("Positive", "Negative", "bolt") for index in (0, 1)))
    with pytest.raises(SIVTError, match=r"choose the products, --data.categories '\[\"bolt\"\]'"):
        layouts.train_samples(tmp_path, None)
    shutil.rmtree(tmp_path / "bolt")
    with pytest.raises(SIVTError, match=r"the same part in another state, and only good parts are trained on: sort"):
        layouts.train_samples(tmp_path, None)


@pytest.mark.parametrize("root", ["bolt", "bolt/good", "bolt/train", "bolt/train/good"])
def test_good_alone_is_of_the_product_whose_folder_it_lies_in(tmp_path: Path, root: str) -> None:
    touch(tmp_path / ("bolt/train/good" if "train" in root else "bolt/good"), "0.png", "1.png", "lot/2.png")
    if root.endswith("good"):
        shutil.rmtree(tmp_path / root / "lot")
    samples = train_samples(tmp_path / root)
    assert {sample.category for sample in samples} == {"bolt"}
    assert len(samples) == (2 if root.endswith("good") else 3)


def test_of_good_and_bad_the_good_one_may_be_chosen_by_hand(tmp_path: Path) -> None:
    touch(tmp_path, "good/0.png", "good/1.png", "bad/0.png")
    assert names(train_samples(tmp_path, ["good"]), tmp_path) == ["good/0.png", "good/1.png"]


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("Part0.jpg", "Part0_label.bmp"),
        ("x.jpg", "x_mask.png"),
        ("x 1.png", "x 1-GT.png"),
        ("x.png", "mask_x.png"),
        ("x.v2.png", "x.v2.ground_truth.png"),
        ("exp1.jpg", "exp1.png"),
    ],
)
@pytest.mark.parametrize("folder", ["bolt", "bolt/train/good", "bolt/good", "bolt/test/hole"])
def test_a_mask_among_the_photos_is_named_with_its_photo(tmp_path: Path, folder: str, photo: str, mask: str) -> None:
    touch(tmp_path / folder, photo, mask)
    collect = layouts.test_samples if "test" in folder else layouts.train_samples
    with pytest.raises(SIVTError, match=r"lies among the photos.* move masks elsewhere.* rename it\.") as error:
        collect(tmp_path, None)
    assert f"{tmp_path / folder / mask} " in str(error.value)
    assert f" {photo}" in str(error.value)


@pytest.mark.parametrize(
    ("defect", "good"),
    [
        ("ng_1.png", "ok_1.png"),
        ("defect_1.png", "good_1.png"),
        ("cast_def_0_1059.jpeg", "cast_ok_0_1018.jpeg"),
        ("0001-NG.png", "0001-OK.png"),
        ("3 not ok.png", "4 ok.png"),
        ("negative (1).png", "positive (1).png"),
        ("cam1_imperfect_2.png", "cam1_perfect_2.png"),
    ],
)
@pytest.mark.parametrize("folder", ["bolt", "bolt/train/good/lot", "bolt/good", "bolt/test/good"])
def test_photos_that_are_called_defects_beside_good_ones_are_refused(
    tmp_path: Path, folder: str, defect: str, good: str
) -> None:
    touch(tmp_path / folder, defect, good, "0.png", "1.png")
    collect = layouts.test_samples if "test" in folder else layouts.train_samples
    with pytest.raises(SIVTError, match=r"would count as good parts.* rename them") as error:
        collect(tmp_path, None)
    assert f"the names of {defect} and {good} tell two kinds" in str(error.value)


@pytest.mark.parametrize("word", ["ng", "crack_test", "ok", "good", "positive", "perfect"])
def test_a_word_that_all_photos_share_says_nothing(tmp_path: Path, word: str) -> None:
    touch(tmp_path / "bolt", f"{word}_1.png", f"{word}_2.png", "3.png", "a7ok3.png", "b4ng1.png")
    assert len(train_samples(tmp_path)) == 5


def test_a_few_photos_in_two_formats_are_no_masks(tmp_path: Path) -> None:
    touch(tmp_path / "bolt", "a.png", "a.jpg", "b.png", "c.png", "label_x.png", "gt.png", "mask.png")
    assert len(train_samples(tmp_path)) == 7


# --- sub-folders


def test_good_and_defect_may_have_sub_folders(tmp_path: Path) -> None:
    bolt = tmp_path / "bolt"
    touch(bolt, "train/good/lot1/0.png", "train/good/lot1/cam 2/0.png", "train/good/1.png", "test/good/lot1/0.png")
    touch(bolt, "test/hole/lot1/0.png", "test/hole/0.png")
    touch(bolt, "ground_truth/hole/lot1/0_mask.png", "ground_truth/hole/0_mask.png")
    assert names(train_samples(tmp_path), bolt / "train/good") == ["1.png", "lot1/0.png", "lot1/cam 2/0.png"]
    known = {s.path.relative_to(bolt).as_posix(): (s.defect, s.mask_path) for s in labelled_samples(tmp_path)}
    assert known == {
        "test/good/lot1/0.png": ("good", None),
        "test/hole/0.png": ("hole", bolt / "ground_truth/hole/0_mask.png"),
        "test/hole/lot1/0.png": ("hole", bolt / "ground_truth/hole/lot1/0_mask.png"),
    }
    (bolt / "ground_truth/hole/lot1/0_mask.png").unlink()
    with pytest.raises(SIVTError, match=r"lot1/0.png has no mask: .*ground_truth/hole/lot1/0_mask.png"):
        labelled_samples(tmp_path)


@pytest.mark.parametrize(
    ("stray", "sentence"),
    [
        ("train/good/scratch/0.png", "train/good/scratch would count as good parts, but scratch is a name for defects"),
        ("train/good/lot/masks/0.png", "would count as good parts, but masks is a name for masks"),
        ("test/good/NG/0.png", "would count as good parts, but NG is a name for defects"),
        ("test/hole/ok/0.png", "would count as the defect hole, but ok is a name for good parts"),
        ("test/hole/mask/0.png", "would count as the defect hole, but mask is a name for masks"),
        (
            "test/ground_truth/hole/0.png",
            "would count as the defect ground_truth, but ground_truth is a name for masks",
        ),
        (
            "test/good_front/0.png",
            r"says good and something beside it \(front\), and there is .*/good, so what its photos show stays",
        ),
        (
            "train/good_front/0.png",
            r"says good and something beside it \(front\), and there is .*/good, so what its photos show stays",
        ),
    ],
)
def test_a_name_that_says_otherwise_is_refused(tmp_path: Path, stray: str, sentence: str) -> None:
    mvtec(tmp_path / "screw")
    touch(tmp_path / "screw", stray)
    collect = layouts.train_samples if stray.startswith("train") else layouts.test_samples
    with pytest.raises(SIVTError, match=sentence):
        collect(tmp_path, None)


def test_good_with_something_beside_it_is_good_where_nothing_else_says_so(tmp_path: Path) -> None:
    parts = ("train/ok_front", "train/def_front", "test/ok_front", "test/def_front")
    touch(tmp_path / "casting", *(f"{part}/{index}.png" for part in parts for index in (0, 1)))
    samples, left_out = layouts.train_samples(tmp_path, None)
    assert {sample.path.parent.name for sample in samples} == {"ok_front"}
    assert left_out == [f"In {tmp_path / 'casting'}, not used for training: train/def_front (2 images)."]
    labels = {(sample.path.parent.name, sample.anomalous, sample.defect) for sample in labelled_samples(tmp_path)}
    assert labels == {("ok_front", False, "good"), ("def_front", True, "def_front")}


@pytest.mark.parametrize("other", ["train/ok_rear", "train/good", "test/normal_wear"])
def test_it_is_unclear_beside_another_that_says_good(tmp_path: Path, other: str) -> None:
    touch(tmp_path / "casting", "train/ok_front/0.png", "train/ok_front/1.png", "test/ok_front/0.png", f"{other}/0.png")
    unclear = r"something beside it \((front|wear)\), and there is .* If they show good parts, move"
    with pytest.raises(SIVTError, match=unclear):
        layouts.test_samples(tmp_path, None)
    if "train" in other:
        with pytest.raises(SIVTError, match=unclear):
            layouts.train_samples(tmp_path, None)


def test_photos_one_folder_deeper_are_not_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "nuts/a.png", "nuts/b.png", "bolt/left/a.png", "bolt/right/a.png", "bolt/right/b.png")
    with pytest.raises(
        SIVTError, match=r"sub-folders only.* bolt/left has 1 image, bolt/right has 2 images\. .*train/good"
    ):
        layouts.train_samples(tmp_path, None)
    assert len(train_samples(tmp_path, ["nuts"])) == 2
    touch(tmp_path, "nuts/more/c.png")
    with pytest.raises(SIVTError, match=r"nuts holds photos \(a.png, b.png\) beside folders of photos \(more\)"):
        layouts.train_samples(tmp_path, ["nuts"])


@pytest.mark.parametrize("folder", ["train", "train/front", "Train/shots/monday"])
def test_an_error_lists_what_is_there(tmp_path: Path, folder: str) -> None:
    touch(tmp_path / "screw" / folder, *(f"{index}.png" for index in range(40)))
    with pytest.raises(SIVTError, match=rf"'screw' has 0 training image.* screw/{folder} has 40 images\."):
        layouts.train_samples(tmp_path, None)
    for image in (tmp_path / "screw" / folder).iterdir():
        image.unlink()
    with pytest.raises(SIVTError, match=r"'screw' has 0 training image.* In screw there is [Tt]rain\."):
        layouts.train_samples(tmp_path, None)


def test_nothing_to_test_lists_what_is_there(tmp_path: Path) -> None:
    mvtec(tmp_path / "data/screw")
    shutil.rmtree(tmp_path / "data/screw/test")
    touch(tmp_path / "data/screw", "test/a.png")
    with pytest.raises(
        SIVTError, match=r"No test images.* data/screw/test has 1 image, data/screw/train/good has 3 images"
    ):
        layouts.test_samples(tmp_path / "data", None)


# --- predict


def test_predict_searches_sub_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/z/1.JPG", "a/2.webp", ".cache/3.png", "a/._2.webp", "a/notes.txt")
    samples, base, name, left_out = predict_samples([tmp_path])
    assert (base, name, left_out) == (tmp_path, tmp_path.name, [])
    assert [(s.category, s.path.name) for s in samples] == [("a", "2.webp"), ("a/z", "1.JPG"), ("", "b.png")]
    assert {(s.anomalous, s.defect, s.mask_path) for s in samples} == {(False, "good", None)}
    assert predict_samples([tmp_path / "b.png"]).samples == [Sample(tmp_path / "b.png", "")]


def test_predict_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.png", "elsewhere/b.png")
    (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/loop").symlink_to(tmp_path / "photos")
    assert names(predict_samples([tmp_path / "photos"]).samples, tmp_path / "photos") == ["a.png", "more/b.png"]


def test_predict_names_what_it_leaves_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b/c.heic")
    samples, _, _, left_out = predict_samples([tmp_path])
    assert names(samples, tmp_path) == ["a.png"]
    assert left_out == [f"Not images, so left out of {tmp_path}: b/c.heic."]


def test_predict_with_nothing_to_predict(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "photo.gif")
    with pytest.raises(SIVTError, match=r"nowhere does not exist\. Set data.predict_path"):
        predict_samples([tmp_path / "nowhere"])
    with pytest.raises(SIVTError, match=r"photo.gif is no image\. Accepted are .*\.png, \.jpg"):
        predict_samples([tmp_path / "photo.gif"])
    with pytest.raises(SIVTError, match=r"No image in .* or its sub-folders\. Accepted are .*\.png, \.jpg"):
        predict_samples([tmp_path])


def test_predict_takes_several_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "line 1/photos/a.png", "line 2/photos/a.png", "line 1/b.png", "line 1/photos/notes.txt")
    first, second = tmp_path / "line 1", tmp_path / "line 2"
    samples, base, name, left_out = predict_samples([second / "photos", first / "photos"])
    assert (names(samples, base), base, name) == (
        ["line 1/photos/a.png", "line 2/photos/a.png"],
        tmp_path,
        tmp_path.name,
    )
    assert [sample.category for sample in samples] == ["line 1/photos", "line 2/photos"]
    assert left_out == []
    monkeypatch.chdir(first)
    samples, base, name, _ = predict_samples(
        [Path("b.png"), Path("photos/a.png"), Path(), first / "b.png", Path("photos")]
    )
    assert (names(samples, base), base, name) == (["b.png", "photos/a.png"], first, "line 1")
    samples, base, name, _ = predict_samples([Path("b.png"), first / "b.png"])
    assert (names(samples, base), base, name) == (["b.png"], first, "b")


def test_what_a_star_names_beside_the_photos_is_no_photo(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "notes.txt", "c.heic", "predictions.json", "masks/a.png", "overlays/a.jpg")
    samples, _, _, left_out = predict_samples(sorted(tmp_path.iterdir()))
    assert names(samples, tmp_path) == ["a.png", "b.png"]
    assert left_out == [
        f"2 pictures in {tmp_path} are results of earlier predictions, so they are left out.",
        f"Not images, so left out of {tmp_path}: c.heic.",
    ]
    with pytest.raises(SIVTError, match=r"\*.png does not exist"):
        predict_samples([tmp_path / "a.png", tmp_path / "*.png"])
    with pytest.raises(SIVTError, match=r"No image in .*c.heic, .*notes.txt"):
        predict_samples([tmp_path / "c.heic", tmp_path / "notes.txt"])


def category(name: str, count: int) -> list[Sample]:
    return [Sample(Path(f"/data/{name}/{index:03}.png"), name) for index in range(count)]


@pytest.mark.parametrize(
    ("count", "share", "held"),
    [(20, 0.1, 2), (2, 0.1, 1), (2, 0.9, 1), (14, 0.1, 1), (16, 0.1, 2), (100, 0.25, 25), (3, 0.99, 2)],
)
def test_hold_out_takes_its_share_of_each_category(count: int, share: float, held: int) -> None:
    samples = category("a", count) + category("b", count)
    train, validation = hold_out(samples, share, seed=0)
    assert sorted(names(train + validation, Path("/"))) == names(samples, Path("/"))
    assert [sample.category for sample in validation] == ["a"] * held + ["b"] * held


def test_hold_out_depends_on_seed_and_category_alone() -> None:
    a, b = category("a", 30), category("b", 30)
    alone = hold_out(a, 0.2, seed=1)
    assert hold_out(a, 0.2, seed=1) == alone
    assert hold_out(a[::-1], 0.2, seed=1) == alone
    together = hold_out(b + a, 0.2, seed=1)
    assert [sample for sample in together[1] if sample.category == "a"] == alone[1]
    assert [s.path.name for s in together[1] if s.category == "b"] != [s.path.name for s in alone[1]]
    assert hold_out(a, 0.2, seed=2) != alone
    moved = [Sample(Path("/elsewhere") / sample.path.relative_to("/data"), "a") for sample in a]
    assert [s.path.name for s in hold_out(moved, 0.2, seed=1)[1]] == [s.path.name for s in alone[1]]


def test_hold_out_is_the_same_on_every_machine() -> None:
    assert [s.path.stem for s in hold_out(category("screw", 20), 0.2, seed=0)[1]] == ["005", "006", "014", "015"]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_hold_out_refuses_other_shares(share: float) -> None:
    with pytest.raises(SIVTError, match=r"must lie between 0 and 1\. Set data.val_share"):
        hold_out(category("a", 5), share, seed=0)
