from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from sivt_lightning.data.demo import CIRCUIT, CONDITIONS, SMALLEST, VISIBLE, defective_picture, write_demo_data
from sivt_lightning.data.demo.circuit import FAULTS, LARGE
from sivt_lightning.data.demo.defects import DEFECTS
from sivt_lightning.data.demo.products import PAINTERS
from sivt_lightning.errors import SIVTError


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.png")}


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def auroc(good: np.ndarray, bad: np.ndarray) -> float:
    higher, equal = bad[:, None] > good, bad[:, None] == good
    return float((higher + 0.5 * equal).mean())


def pixel_statistics_auroc(category: Path) -> tuple[float, float]:
    """Image AUROC of the largest and of the mean |z|, by each pixel's mean and deviation over the training images."""
    train = pixels(category / "train" / "good").astype(np.float64)
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    z = {kind.name: np.abs(pixels(kind) - mean) / deviation for kind in (category / "test").iterdir()}
    good, bad = z.pop("good"), np.concatenate(list(z.values()))
    return auroc(good.max((1, 2, 3)), bad.max((1, 2, 3))), auroc(good.mean((1, 2, 3)), bad.mean((1, 2, 3)))


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "made" / "here"
    write_demo_data(root)
    return root


def test_writes_the_mvtec_layout(demo):
    assert (len(PAINTERS), len(DEFECTS)) == (6, 5)
    assert sorted(path.name for path in demo.iterdir()) == sorted(PAINTERS)
    for category in PAINTERS:
        names = {path.relative_to(demo / category).as_posix() for path in (demo / category).rglob("*.png")}
        expected = {f"train/good/{i:03}.png" for i in range(48)} | {f"test/good/{i:03}.png" for i in range(12)}
        for defect in DEFECTS:
            expected |= {f"test/{defect}/{i:03}.png" for i in range(4)}
            expected |= {f"ground_truth/{defect}/{i:03}_mask.png" for i in range(4)}
        assert names == expected
    for path in demo.rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == (128, 128)
            assert image.mode == ("L" if path.stem.endswith("_mask") else "RGB")


def test_a_picture_depends_on_the_seed_and_not_on_the_counts(demo, tmp_path):
    for seed in (0, 1):
        write_demo_data(tmp_path / str(seed), seed=seed, train=2, good=1, defective=1)
    few, other, whole = contents(tmp_path / "0"), contents(tmp_path / "1"), contents(demo)
    assert few == {name: whole[name] for name in few}
    assert few.keys() == other.keys()
    assert all(other[name] != few[name] for name in few)
    assert len(set(whole.values())) == len(whole)


def test_the_same_call_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_demo_data(tmp_path / name, seed=7, size=50, train=1, good=1, defective=1)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("category", PAINTERS)
def test_the_mask_is_where_the_image_differs_from_its_clean_twin(demo, category, defect):
    for index in range(4):
        image, twin, mask = defective_picture(category, defect, 0, f"{category}/test/{defect}/{index:03}", 128)
        difference = np.abs(image.astype(int) - twin).max(-1)
        assert set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(mask == 255, difference > 0)
        assert difference[mask == 255].min() >= VISIBLE
        assert 0.002 < (mask == 255).mean() < 0.25
        np.testing.assert_array_equal(np.asarray(Image.open(demo / f"{category}/test/{defect}/{index:03}.png")), image)
        stored = demo / category / "ground_truth" / defect / f"{index:03}_mask.png"
        np.testing.assert_array_equal(np.asarray(Image.open(stored)), mask)


def test_defects_show_in_the_smallest_image_at_any_seed():
    for seed in range(20):
        for category in PAINTERS:
            for defect in DEFECTS:
                mask = defective_picture(category, defect, seed, "any", SMALLEST)[2]
                assert 0.002 < (mask == 255).mean() < 0.25, (seed, category, defect)


def test_harder_data_have_fainter_defects_and_vary_more():
    faintness, variation = {}, {}
    for difficulty in CONDITIONS:
        depths, spreads = [], []
        for category in PAINTERS:
            for defect in (name for name, blemish in DEFECTS.items() if blemish):
                image, twin, mask = defective_picture(category, defect, 0, category, 64, difficulty)
                depths.append(np.abs(image.astype(float) - twin)[mask == 255].mean())
            twins = [defective_picture(category, "stain", 0, str(key), 64, difficulty)[1] for key in range(8)]
            spreads.append(np.std([twin.mean() for twin in twins]))
        faintness[difficulty], variation[difficulty] = np.mean(depths), np.mean(spreads)
    assert faintness["easy"] > 1.1 * faintness["normal"] > 1.5 * faintness["hard"]
    assert 1.2 * variation["easy"] < variation["normal"] < variation["hard"] / 1.2


@pytest.mark.parametrize("fault", FAULTS)
def test_the_faults_of_a_large_photo_are_small(fault):
    image, twin, mask = defective_picture(CIRCUIT, fault, 0, fault, 1024, "hard")
    np.testing.assert_array_equal(mask == 255, np.abs(image.astype(int) - twin).max(-1) >= VISIBLE)
    ((rows, columns),) = ndimage.find_objects(ndimage.label(mask, np.ones((3, 3)))[0])  # all in one place
    assert 6 <= max(rows.stop - rows.start, columns.stop - columns.start) <= 12


def test_hard_adds_large_photos_with_masks_of_their_size(tmp_path):
    write_demo_data(tmp_path, difficulty="hard", size=SMALLEST, train=1, good=1, defective=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([CIRCUIT, *PAINTERS])
    photos = {path.relative_to(tmp_path / CIRCUIT).as_posix() for path in (tmp_path / CIRCUIT).rglob("*.*")}
    assert photos == {"train/good/000.jpg", "test/good/000.jpg"}.union(
        *({f"test/{fault}/000.jpg", f"ground_truth/{fault}/000_mask.png"} for fault in FAULTS)
    )
    for path in tmp_path.rglob("*.*"):
        with Image.open(path) as image:
            assert image.size == (SMALLEST * (LARGE if CIRCUIT in path.parts else 1),) * 2


def test_pixel_statistics_do_not_solve_it(demo):
    largest, average = np.array([pixel_statistics_auroc(demo / category) for category in PAINTERS]).T
    assert 0.4 < max(largest.mean(), average.mean()) < 0.75
    assert 0.4 < np.maximum(largest, average).mean() < 0.75  # the better of the two in each category


def test_refuses_a_directory_in_use(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(SIVTError, match=r"not an empty directory.*name a new one"):
            write_demo_data(taken)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"size": 31}, {"train": 0}, {"good": 0}, {"defective": 0}])
def test_refuses_numbers_that_make_no_data_set(tmp_path, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(SIVTError, match=f"{name} {value} is too small"):
        write_demo_data(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()
