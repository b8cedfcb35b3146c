"""Small trees of photos in the structure that data sets are published in."""

from pathlib import Path

from PIL import Image

SIZE = (12, 8)


def photos(folder: Path, *names: str) -> None:
    """Grey pictures."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (90, 100, 110)).save(folder / name)


def masks(folder: Path, *names: str, value: int = 255, left: int = 2) -> None:
    """Masks with a spot of this value, `left` pixels from their side; of value 0 they are empty."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        mask = Image.new("L", SIZE)
        mask.paste(value, (left, 2, left + 2, 4))
        mask.save(folder / name)


def numbered(folder: str, count: int, suffix: str = ".png", first: int = 0) -> list[str]:
    """Names of photos in a folder."""
    return [f"{folder}/{number:03}{suffix}" for number in range(first, first + count)]


def mvtec(folder: Path, train: int = 5) -> Path:
    """MVTec AD, MPDD, and VisA as its authors' script prepares it."""
    photos(folder, *numbered("train/good", train), *numbered("test/good", 2), *numbered("test/scratch", 2))
    masks(folder, "ground_truth/scratch/000_mask.png", "ground_truth/scratch/001_mask.png")
    return folder


def loco(folder: Path) -> Path:
    """MVTec LOCO AD: a photo's masks are the files of a folder, whose values are kinds of defect."""
    photos(folder, *numbered("train/good", 5), *numbered("validation/good", 2), *numbered("test/good", 2))
    photos(folder, *numbered("test/logical_anomalies", 2), *numbered("test/structural_anomalies", 1))
    masks(folder, "ground_truth/logical_anomalies/000/000.png", value=250)
    masks(folder, "ground_truth/logical_anomalies/000/001.png", value=3, left=8)
    masks(
        folder, "ground_truth/logical_anomalies/001/000.png", "ground_truth/structural_anomalies/000/000.png", value=1
    )
    return folder


def mvtec_3d(folder: Path) -> Path:
    """MVTec 3D-AD: photos in rgb, points in xyz, masks in gt, of good ones, too."""
    for part, count in (("train/good", 4), ("validation/good", 2), ("test/good", 2), ("test/hole", 2)):
        photos(folder, *numbered(f"{part}/rgb", count))
        for name in numbered(f"{part}/xyz", count, ".tiff"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    masks(folder, *numbered("test/good/gt", 2), value=0)
    masks(folder, *numbered("test/hole/gt", 2))
    (folder / "calibration").mkdir()
    (folder / "calibration/camera_parameters.json").touch()
    return folder


def mvtec_ad_2(folder: Path) -> Path:
    """MVTec AD 2: the labels of some photos for tests are kept secret."""
    names = [f"{part}/{number:03}_regular.png" for part in ("train/good", "validation/good") for number in range(3)]
    photos(folder, *names, "test_public/good/000_regular.png", "test_public/bad/000_overexposed.png")
    masks(folder, "test_public/ground_truth/bad/000_overexposed_mask.png")
    photos(
        folder, "test_private/000_regular.png", "test_private_mixed/000_mixed.png", "test_private_mixed/001_mixed.png"
    )
    return folder


def btad(folder: Path) -> Path:
    """BTAD: good is ok, and photos are bmp or png."""
    photos(folder, *numbered("train/ok", 5, ".bmp"), *numbered("test/ok", 2, ".bmp"), *numbered("test/ko", 2, ".bmp"))
    masks(folder, "ground_truth/ko/000.png", "ground_truth/ko/001.bmp")
    return folder


def good_bad(folder: Path) -> Path:
    """Good parts beside those of defects."""
    photos(folder, *numbered("good", 10), *numbered("bad", 2))
    masks(folder, *numbered("masks", 2))
    return folder
