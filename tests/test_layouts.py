"""Folders to samples. Layouts never open an image, so empty files do."""

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sivt_lightning.data import layouts
from sivt_lightning.data.layouts import IMAGE_SUFFIXES, Sample, hold_out, predict_samples, train_samples
from sivt_lightning.errors import SIVTError


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


@pytest.fixture
def quiet() -> Iterator[None]:
    """Every warning of the test's body is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("quiet")
def test_mvtec_categories_side_by_side(tmp_path: Path) -> None:
    for category in ("screw", "bottle"):
        mvtec(tmp_path / category)
    touch(tmp_path, "license.txt", ".DS_Store", "__MACOSX/bottle/._000.png", "bottle/train/good/._000.png")
    samples = train_samples(tmp_path, None)
    assert names(samples, tmp_path) == [f"{c}/train/good/00{i}.png" for c in ("bottle", "screw") for i in range(3)]
    assert samples[0] == Sample(tmp_path / "bottle/train/good/000.png", "bottle", False, "good", None)
    assert {sample.category for sample in train_samples(tmp_path, ["screw"])} == {"screw"}


@pytest.mark.usefixtures("quiet")
def test_test_samples_have_labels_and_masks(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw")
    samples = layouts.test_samples(tmp_path, None)
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


@pytest.mark.usefixtures("quiet")
def test_the_root_may_be_one_mvtec_category(tmp_path: Path) -> None:
    root = mvtec(tmp_path / "screw")
    assert {sample.category for sample in train_samples(root, ["screw"])} == {"screw"}
    assert len(layouts.test_samples(root, None)) == 4


@pytest.mark.usefixtures("quiet")
def test_a_mask_may_have_the_images_name_and_any_suffix(tmp_path: Path) -> None:
    touch(
        tmp_path / "c", "test/hole/a.jpg", "test/hole/b.jpg", "ground_truth/hole/a.PNG", "ground_truth/hole/b_mask.bmp"
    )
    samples = layouts.test_samples(tmp_path, None)
    assert [sample.mask_path.name for sample in samples if sample.mask_path] == ["a.PNG", "b_mask.bmp"]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("truth", [True, False])
def test_a_category_without_masks_has_none(tmp_path: Path, truth: bool) -> None:
    touch(tmp_path / "c", "test/hole/a.png", "test/good/a.png")
    if truth:
        (tmp_path / "c/ground_truth/hole").mkdir(parents=True)
    assert [sample.mask_path for sample in layouts.test_samples(tmp_path, None)] == [None, None]


@pytest.mark.parametrize("gone", ["scratch/001_mask.png", "hole/000_mask.png"])
def test_one_missing_mask_is_named_with_its_image(tmp_path: Path, gone: str) -> None:
    root = mvtec(tmp_path / "screw")
    (root / "ground_truth" / gone).unlink()
    image = root / "test" / gone.replace("_mask", "")
    with pytest.raises(SIVTError, match="has no mask") as error:
        layouts.test_samples(root, None)
    assert str(image) in str(error.value)
    assert str(root / "ground_truth" / gone) in str(error.value)


@pytest.mark.usefixtures("quiet")
def test_good_only_folders_side_by_side_in_any_suffix_and_case(tmp_path: Path) -> None:
    touch(tmp_path, *(f"nuts/{index}{suffix}" for index, suffix in enumerate(IMAGE_SUFFIXES)))
    touch(tmp_path, *(f"bolts/{index}{suffix.upper()}" for index, suffix in enumerate(IMAGE_SUFFIXES)))
    touch(tmp_path, "nuts/notes.txt")
    samples = train_samples(tmp_path, None)
    assert len(samples) == 2 * len(IMAGE_SUFFIXES)
    assert [sample.category for sample in samples] == ["bolts"] * 7 + ["nuts"] * 7


@pytest.mark.usefixtures("quiet")
def test_one_flat_folder_is_one_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "nuts", "b.jpg", "a.png")
    samples = train_samples(tmp_path / "nuts", None)
    assert [(sample.category, sample.path.name) for sample in samples] == [("nuts", "a.png"), ("nuts", "b.jpg")]
    monkeypatch.chdir(tmp_path / "nuts")
    assert train_samples(Path(), None)[0].category == "nuts"


@pytest.mark.usefixtures("quiet")
def test_both_layouts_side_by_side(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw")
    touch(tmp_path, "nuts/a.png", "nuts/b.png")
    assert {sample.category for sample in train_samples(tmp_path, None)} == {"nuts", "screw"}


def test_photos_beside_folders_of_photos_are_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "nuts/a.png", "nuts/b.png", "c.png")
    with pytest.raises(SIVTError, match=r"photos \(c.png\) beside folders of photos \(nuts\)"):
        train_samples(tmp_path, None)


@pytest.mark.parametrize(
    ("stray", "named"),
    [
        ("c.png", "Not part of any category.* c.png"),
        ("notes/plan.txt", "Not part of any category.* notes"),
        ("screw/train/rust/000.png", "not used for training: train/rust"),
        ("screw/train/000.png", "not used for training: train/000.png"),
        ("screw/000.png", "not used for training: 000.png"),
        ("screw/validation/good/000.png", "not used for training: validation"),
        ("screw/train/good/000.heic", "not used for training: train/good/000.heic"),
        ("nuts/more/000.png", "not used for training: more"),
    ],
)
def test_what_training_does_not_use_is_named(tmp_path: Path, stray: str, named: str) -> None:
    mvtec(tmp_path / "screw")
    touch(tmp_path, "nuts/a.png", "nuts/b.png")
    before = train_samples(tmp_path, None)
    touch(tmp_path, stray)
    with pytest.warns(UserWarning, match=named) as caught:
        assert train_samples(tmp_path, None) == before
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("stray", "named"),
    [
        ("test/000.png", "test/000.png"),
        ("test/empty/notes.txt", "test/empty"),
        ("test/hole/deeper/000.png", "test/hole/deeper"),
        ("test/hole/000.gif", "test/hole/000.gif"),
        ("ground_truth/hole/009_mask.png", "ground_truth/hole/009_mask.png"),
        ("ground_truth/hole/000.png", "ground_truth/hole/000.png"),  # 000_mask.png is the one that is used
        ("ground_truth/good/000_mask.png", "ground_truth/good/000_mask.png"),
        ("ground_truth/000_mask.png", "ground_truth/000_mask.png"),
        ("validation/good/000.png", "validation"),
    ],
)
def test_what_testing_does_not_use_is_named(tmp_path: Path, stray: str, named: str) -> None:
    root = mvtec(tmp_path / "screw")
    before = layouts.test_samples(root, None)
    touch(root, stray)
    with pytest.warns(UserWarning, match=f"not used for testing: {named}\\.$") as caught:
        assert layouts.test_samples(root, None) == before
    assert len(caught) == 1


def test_a_long_list_of_unused_files_is_cut(tmp_path: Path) -> None:
    root = mvtec(tmp_path / "screw")
    touch(root, *(f"train/good/{index}.gif" for index in range(9)))
    with pytest.warns(UserWarning, match=r"4.gif and 4 more\.$"):
        train_samples(root, None)


def test_categories_without_test_images_are_left_out_of_the_test(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw")
    mvtec(tmp_path / "cable")
    shutil.rmtree(tmp_path / "cable/test")
    touch(tmp_path, "nuts/a.png", "nuts/b.png")
    with pytest.warns(UserWarning, match="having no test images: cable, nuts"):
        samples = layouts.test_samples(tmp_path, None)
    assert {sample.category for sample in samples} == {"screw"}
    with pytest.raises(SIVTError, match=r"No test images in .* in cable, nuts\. Add them, or use `sivt predict`"):
        layouts.test_samples(tmp_path, ["cable", "nuts"])


def test_a_test_folder_alone_can_be_tested_but_not_trained_on(tmp_path: Path) -> None:
    mvtec(tmp_path / "screw", train=0)
    assert len(layouts.test_samples(tmp_path, None)) == 4
    with pytest.raises(SIVTError, match=r"Category 'screw' has 0 training image\(s\) in .*train/good"):
        train_samples(tmp_path, None)


@pytest.mark.parametrize("collect", [train_samples, layouts.test_samples])
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
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)  # not by chmod, which root may override
    with pytest.raises(SIVTError, match=f"{tmp_path} cannot be read: Permission denied"):
        train_samples(tmp_path, None)


@pytest.mark.parametrize("collect", [train_samples, layouts.test_samples])
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
        train_samples(tmp_path, None)
    assert len(train_samples(tmp_path, ["cable"])) == 3


@pytest.mark.usefixtures("quiet")
def test_predict_searches_sub_folders(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/z/1.JPG", "a/2.webp", ".cache/3.png", "a/._2.webp", "a/notes.txt")
    samples = predict_samples(tmp_path)
    assert [(s.category, s.path.name) for s in samples] == [("a", "2.webp"), ("a/z", "1.JPG"), ("", "b.png")]
    assert {(s.anomalous, s.defect, s.mask_path) for s in samples} == {(False, "good", None)}
    assert predict_samples(tmp_path / "b.png") == [Sample(tmp_path / "b.png", "")]


def test_predict_follows_links_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.png", "elsewhere/b.png")
    (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/loop").symlink_to(tmp_path / "photos")
    assert names(predict_samples(tmp_path / "photos"), tmp_path / "photos") == ["a.png", "more/b.png"]


def test_predict_names_what_it_leaves_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b/c.heic")
    with pytest.warns(UserWarning, match=r"left out of .*: b/c.heic\.$"):
        assert names(predict_samples(tmp_path), tmp_path) == ["a.png"]


def test_predict_with_nothing_to_predict(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "photo.gif")
    with pytest.raises(SIVTError, match=r"nowhere does not exist\. Set data.predict_path"):
        predict_samples(tmp_path / "nowhere")
    with pytest.raises(SIVTError, match=r"photo.gif is no image\. Accepted are .*\.png, \.jpg"):
        predict_samples(tmp_path / "photo.gif")
    with pytest.raises(SIVTError, match=r"No image in .* or its sub-folders\. Accepted are .*\.png, \.jpg"):
        predict_samples(tmp_path)


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
