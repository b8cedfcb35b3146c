"""Each layout on a small tree in its published structure, through the data module: counts, labels and masks."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import trees

from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.layouts import LayoutName
from sivt_lightning.data.layouts.categories import LAYOUTS, PUBLISHED, find_categories
from sivt_lightning.data.layouts.published import COUNTS
from sivt_lightning.data.masks import read_mask
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError


def setup(root: Path, stage: str, **settings: object) -> SIVTDataModule:
    data = SIVTDataModule(str(root), image_size=12, num_workers=0, **settings)  # type: ignore[arg-type]
    data.setup(stage)
    return data


def counts(samples: list[Sample]) -> dict[str, int]:
    return dict(Counter(sample.category for sample in samples))


def fitted(root: Path, **settings: object) -> tuple[dict[str, int], dict[str, int]]:
    """Photos of each category to train on, and held out; all of them can be read."""
    data = setup(root, "fit", **settings)
    for images in (data.train_set, data.val_set):
        assert [images[i].error for i in range(len(images))] == [""] * len(images)
        assert not any(sample.anomalous for sample in images.samples)
    return counts(data.train_set.samples), counts(data.val_set.samples)


def labelled(root: Path, **settings: object) -> list[tuple[str, str, bool]]:
    """(category, defect, whether its mask shows something) of the test photos, all of which can be read."""
    data = setup(root, "test", **settings)
    items = [data.test_set[i] for i in range(len(data.test_set))]
    assert [item.error for item in items] == [""] * len(items)
    samples = data.test_set.samples
    assert [sample.anomalous for sample in samples] == [sample.defect != "good" for sample in samples]
    return [(s.category, s.defect, bool(item.mask.any())) for s, item in zip(samples, items, strict=True)]


MADE: dict[str, tuple[Callable[[Path], Path], tuple[int, int], dict[str, int]]] = {
    # layout: (tree, (trained on, held out), defects of the test)
    "mvtec": (trees.mvtec, (4, 1), {"good": 2, "scratch": 2}),
    "mvtec-loco": (trees.loco, (5, 2), {"good": 2, "logical_anomalies": 2, "structural_anomalies": 1}),
    "mvtec-3d": (trees.mvtec_3d, (4, 2), {"good": 2, "hole": 2}),
    "mvtec-ad-2": (trees.mvtec_ad_2, (3, 3), {"good": 1, "bad": 1}),
    "btad": (trees.btad, (4, 1), {"good": 2, "ko": 2}),
    "visa": (trees.visa, (3, 1), {"good": 2, "defect": 2}),
    "real-iad": (trees.real_iad, (18, 2), {"good": 7, "HS": 3}),
    "kolektor": (trees.kolektor, (27, 3), {"good": 8, "defect": 2}),
    "kolektor-2": (trees.kolektor_2, (2, 1), {"good": 1, "defect": 1}),
    "dagm": (trees.dagm, (2, 1), {"good": 2, "defect": 2}),
    "good-bad": (trees.good_bad, (7, 1), {"good": 2, "bad": 2}),
}


@pytest.mark.parametrize("layout", MADE)
@pytest.mark.parametrize("asked", [False, True])
def test_a_published_layout_is_found_trained_on_and_tested(layout: str, asked: bool, tmp_path: Path) -> None:
    make, (train, held_out), defects = MADE[layout]
    make(tmp_path / "part")
    settings = {"layout": layout} if asked else {}
    for root in (tmp_path, tmp_path / "part"):
        assert [category.layout.name for category in find_categories(root, None)[0]] == [layout]
        assert fitted(root, **settings) == ({"part": train}, {"part": held_out})
        kinds = labelled(root, **settings)
        assert Counter(defect for _, defect, _ in kinds) == defects
        assert all(shown == (defect != "good") for _, defect, shown in kinds)


def test_one_product_in_each_layout_is_one_training(tmp_path: Path) -> None:
    for layout, (make, _, _) in MADE.items():
        make(tmp_path / layout)
    found = find_categories(tmp_path, None)[0]
    assert {category.name: category.layout.name for category in found} == {layout: layout for layout in MADE}
    train, held_out = fitted(tmp_path)
    assert {layout: (train[layout], held_out[layout]) for layout in MADE} == {name: of[1] for name, of in MADE.items()}
    assert len(labelled(tmp_path)) == sum(sum(defects.values()) for *_, defects in MADE.values())


def test_the_masks_of_a_folder_are_united(tmp_path: Path) -> None:
    truth = trees.loco(tmp_path / "box") / "ground_truth/logical_anomalies"
    sample = next(s for s in setup(tmp_path, "test").test_set.samples if s.mask_path == truth / "000")
    mask = read_mask(sample.mask_path)  # type: ignore[arg-type]
    assert mask.pixels.sum() == 8
    assert mask.pixels[2:4, 2:4].all()
    assert mask.pixels[2:4, 8:10].all()
    trees.photos(truth, "000/002.png")
    (truth / "000/002.png").write_bytes((truth / "000/002.png").read_bytes()[:40])
    with pytest.raises(SIVTError, match=r"002.png cannot be read"):
        read_mask(truth / "000")


def test_photos_for_validation_are_held_out_and_no_others(tmp_path: Path) -> None:
    trees.mvtec(tmp_path / "bolt")
    trees.photos(tmp_path, "bolt/validation/good/7.png", "bolt/validation/bad/8.png")
    data = setup(tmp_path, "fit")
    assert [sample.path.name for sample in data.val_set.samples] == ["7.png"]
    assert data.remarks == [f"In {tmp_path / 'bolt'}, not used for training: validation/bad (1 image)."]
    assert setup(tmp_path, "test").remarks == []


def test_photos_whose_labels_are_secret_are_told_of(tmp_path: Path) -> None:
    folder = trees.mvtec_ad_2(tmp_path / "can/can")  # as its archive is unpacked
    (said,) = setup(tmp_path, "test").remarks
    assert "3 images of can have no labels" in said
    assert f"--data.predict_path {folder / 'test_private'} {folder / 'test_private_mixed'} looks at them" in said


def test_what_could_be_two_layouts_is_asked_for(tmp_path: Path) -> None:
    trees.btad(trees.mvtec_ad_2(tmp_path / "part"))
    with pytest.raises(SIVTError, match=r"MVTec AD 2 or as BTAD: say which, with --data.layout mvtec-ad-2 or btad"):
        setup(tmp_path, "fit")
    assert fitted(tmp_path, layout="mvtec-ad-2") == ({"part": 8}, {"part": 3})
    assert len(labelled(tmp_path, layout="btad")) == 4


def test_the_setting_knows_every_layout() -> None:
    assert sorted(get_args(LayoutName)) == sorted(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_that_is_not_there_is_told(layout: str, tmp_path: Path) -> None:
    trees.photos(tmp_path, "a/b/c/d/0.png")
    with pytest.raises(SIVTError, match=r"No category in .* is laid out as .* Set data.layout to null"):
        setup(tmp_path, "fit", layout=layout)


def test_no_layout_takes_what_another_one_is_published_in(tmp_path: Path) -> None:
    for layout, (make, _, _) in MADE.items():
        folder = make(tmp_path / layout)
        inside = {inner.name.casefold(): inner for inner in folder.iterdir() if inner.is_dir()}
        assert [of.name for of in PUBLISHED if of.holds(folder, inside)] == [layout] * (LAYOUTS[layout] in PUBLISHED)


def test_masks_that_are_empty_or_small_in_value_are_understood(tmp_path: Path) -> None:
    trees.visa(tmp_path / "candle")
    assert [shown for _, defect, shown in labelled(tmp_path) if defect != "good"] == [True, True]
    assert setup(tmp_path, "fit").remarks == []
    trees.kolektor(tmp_path / "KolektorSDD")
    (said,) = setup(tmp_path, "fit", categories=["KolektorSDD"]).remarks
    assert "of every fifth folder the good photos (8), and all 2 with a defect are for the test" in said
    kept = setup(tmp_path, "test", categories=["KolektorSDD"]).test_set.samples
    assert {sample.path.parent.name for sample in kept if not sample.anomalous} == {"kos05"}
    (tmp_path / "KolektorSDD/kos03/Part2_label.bmp").unlink()
    with pytest.raises(SIVTError, match=r"kos03/Part2.jpg has no mask Part2_label, which is what tells whether"):
        setup(tmp_path, "fit")


@pytest.mark.parametrize("make", [trees.kolektor_2, trees.dagm])
def test_defects_among_photos_for_training_are_left_out_and_told(make: Callable, tmp_path: Path) -> None:
    folder = make(tmp_path / "part")
    (said,) = setup(tmp_path, "fit").remarks
    assert said == f"1 image of defects for training in {folder} left out: only good parts are trained on."


def test_a_mask_of_no_photo_is_told(tmp_path: Path) -> None:
    trees.masks(trees.dagm(tmp_path / "Class1"), "Train/Label/0009_label.PNG")
    with pytest.raises(SIVTError, match=r"0009_label.PNG is a mask of no photo in .*Train"):
        setup(tmp_path, "fit")


def test_visa_without_its_split_is_told(tmp_path: Path) -> None:
    trees.visa(tmp_path / "candle")
    split = tmp_path / "split_csv/1cls.csv"
    (tmp_path / "candle/Data/Images/Normal/001.JPG").unlink()
    with pytest.raises(SIVTError, match=r"1cls.csv, line 3: .*001.JPG is not there"):
        setup(tmp_path, "fit")
    split.unlink()
    with pytest.raises(SIVTError, match=r"candle is laid out as VisA, but which .* stands in .*1cls.csv, which is not"):
        setup(tmp_path, "fit")


def test_real_iad_is_found_in_the_folder_of_its_size(tmp_path: Path) -> None:
    trees.real_iad(tmp_path / "realiad_1024/toy")
    (tmp_path / "realiad_1024/realiad_jsons").rename(tmp_path / "realiad_jsons")
    for root in (tmp_path, tmp_path / "realiad_1024", tmp_path / "realiad_1024/toy"):
        assert fitted(root) == ({"toy": 18}, {"toy": 2})
        assert setup(root, "fit").remarks == []
    (tmp_path / "realiad_1024/toy/OK/S0001/toy_0001_OK_C2_1.jpg").unlink()
    with pytest.raises(SIVTError, match=r"toy.json names 1 files that are not there, such as .*toy_0001_OK_C2_1.jpg"):
        setup(tmp_path, "fit")
    (tmp_path / "realiad_256").mkdir()
    with pytest.raises(SIVTError, match=r"in several sizes, realiad_1024, realiad_256: name one, --data.root .*_1024"):
        setup(tmp_path, "fit")
    (tmp_path / "realiad_256").rmdir()
    (tmp_path / "realiad_jsons/realiad_jsons/toy.json").write_text("{}")
    with pytest.raises(SIVTError, match=r"toy.json is no list of Real-IAD \(KeyError: 'meta'\)"):
        setup(tmp_path, "fit")


def test_real_iad_without_lists_is_split_by_parts(tmp_path: Path) -> None:
    trees.real_iad(tmp_path / "toy", lists=False)
    assert fitted(tmp_path) == ({"toy": 18}, {"toy": 2})
    (said,) = setup(tmp_path, "fit").remarks
    assert said == "toy has no list of its split: 1 good parts, every fifth, and all others are for the test."
    assert Counter(defect for _, defect, _ in labelled(tmp_path)) == {"good": 5, "HS": 3}
    (said,) = setup(tmp_path, "test").remarks
    assert "2 images without a mask" in said


# --- people's own folders


@pytest.mark.parametrize(
    ("folders", "good", "bad"),
    [
        ("good bad", "good", "bad"),
        ("OK NG", "OK", "NG"),
        ("pass fail", "pass", "fail"),
        ("good crack masks/crack", "good", "crack"),
        ("normal_dir abnormal_dir mask_dir", "normal_dir", "abnormal_dir"),
        ("gut schlecht", "gut", "schlecht"),
    ],
)
def test_good_beside_bad_is_trained_and_tested_apart(folders: str, good: str, bad: str, tmp_path: Path) -> None:
    for folder in folders.split():
        trees.photos(tmp_path / "bolt", *trees.numbered(folder, 10))
    data = setup(tmp_path, "fit")
    assert {s.path.parent.name for s in (*data.train_set.samples, *data.val_set.samples)} == {good}
    assert (
        "bolt names no split: 2 images of good parts, every fifth, and all of defects are for the test." in data.remarks
    )
    samples = setup(tmp_path, "test").test_set.samples
    assert {s.path.name for s in samples if not s.anomalous} == {"004.png", "009.png"}
    assert {s.path.parent.name for s in samples if s.anomalous} == {bad}
    assert {s.mask_path is not None for s in samples if s.anomalous} == {"mask" in folders}


def test_kinds_of_bad_may_have_folders_of_their_own(tmp_path: Path) -> None:
    trees.photos(tmp_path, *trees.numbered("good", 5), "NG/dent/0.png", "NG/hole/0.png")
    trees.masks(tmp_path, "mask/dent/0.png", "mask/hole/0_mask.png")
    assert labelled(tmp_path) == [
        (tmp_path.name, "good", False),
        (tmp_path.name, "dent", True),
        (tmp_path.name, "hole", True),
    ]


def test_good_and_bad_beside_masks_of_their_own_folder_stay_unclear(tmp_path: Path) -> None:
    trees.photos(tmp_path, "Images/Normal/0.png", "Images/Normal/1.png", "Images/Anomaly/2.png", "Masks/Anomaly/2.png")
    with pytest.raises(SIVTError, match=r"Masks has photos in its sub-folders only"):
        setup(tmp_path, "fit")


@pytest.mark.parametrize("names", ["lot1 lot2", "Charge_12 Charge_13", "2024-05-01 2024-05-02", "cam_a cam_b"])
def test_lots_of_a_product_count_together(names: str, tmp_path: Path) -> None:
    first, second = names.split()
    trees.photos(
        tmp_path, f"bolt/{first}/0.png", f"bolt/{second}/0.png", f"bolt/{second}/1.png", "nut/0.png", "nut/1.png"
    )
    assert [category.layout.title for category in find_categories(tmp_path, None)[0]] == ["lots", "photos"]
    assert fitted(tmp_path) == ({"bolt": 2, "nut": 1}, {"bolt": 1, "nut": 1})


def test_what_may_be_lots_or_products_are_lots_when_asked(tmp_path: Path) -> None:
    trees.photos(tmp_path, "bolt/left/0.png", "bolt/right/0.png", "bolt/1.png")
    with pytest.raises(SIVTError, match=r"beside folders of photos"):
        setup(tmp_path, "fit")
    assert fitted(tmp_path / "bolt", layout="lots") == ({"bolt": 2}, {"bolt": 1})
    (tmp_path / "bolt/1.png").unlink()
    with pytest.raises(
        SIVTError, match=rf"If {tmp_path}/bolt is one product, say --data.root {tmp_path}/bolt --data.layout lots"
    ):
        setup(tmp_path, "fit")
    trees.photos(tmp_path, "bolt/NG/2.png")
    with pytest.raises(SIVTError, match="NG is a name for defects"):
        setup(tmp_path, "fit", layout="lots")


# --- official numbers


@pytest.mark.parametrize(
    ("title", "train", "test"),
    [
        ("MVTec AD", 3629, 1725),
        ("MPDD", 888, 458),
        ("VisA", 8659, 2162),  # of 9,621 normal and 1,200 anomalous ones
        ("BTAD", 1799, 741),
        ("MVTec 3D-AD", 2656, None),
    ],
)
def test_the_published_numbers_add_up(title: str, train: int, test: int | None) -> None:
    counts = COUNTS[title].values()
    assert sum(count for count, _ in counts) == train
    assert test is None or sum(count or 0 for _, count in counts) == test


def test_other_numbers_than_the_published_ones_are_told(tmp_path: Path) -> None:
    for name in ("01", "02"):
        trees.btad(tmp_path / name)
    assert setup(tmp_path, "fit").remarks == []
    trees.photos(tmp_path, *trees.numbered("03/train/ok", 1000, ".bmp"), *trees.numbered("03/test/ok", 2, ".bmp"))
    trees.photos(tmp_path, *trees.numbered("03/test/ko", 1, ".bmp"))
    brackets = "than those of BTAD (in brackets)"
    assert setup(tmp_path, "fit").remarks == [
        f"Other numbers of photos for training {brackets}: 01 has 5 (400), 02 has 5 (399)."
    ]
    (said,) = setup(tmp_path, "test").remarks
    assert said == f"Other numbers of photos for the test {brackets}: 01 has 4 (70), 02 has 4 (230), 03 has 3 (441)."
