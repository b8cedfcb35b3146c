"""Small trees of photos in the structure that data sets are published in."""

import json
from collections.abc import Sequence
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


def visa(folder: Path) -> Path:
    """VisA as it is downloaded: its split is a list beside the products; masks have small values."""
    normal, anomaly = "Data/Images/Normal", "Data/Images/Anomaly"
    photos(folder, *numbered(normal, 6, ".JPG"), *numbered(anomaly, 2, ".JPG"))
    masks(folder, "Data/Masks/Anomaly/000.png", "Data/Masks/Anomaly/001.png", value=3)
    name = folder.name
    lines = [f"{name},train,normal,{name}/{photo}," for photo in numbered(normal, 4, ".JPG")]
    lines += [f"{name},test,normal,{name}/{photo}," for photo in numbered(normal, 2, ".JPG", 4)]
    lines += [f"{name},test,anomaly,{name}/{anomaly}/00{i}.JPG,{name}/Data/Masks/Anomaly/00{i}.png" for i in (0, 1)]
    file = folder.parent / "split_csv/1cls.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_text("\r\n".join(["object,split,label,image,mask", *lines, "other,train,normal,other/gone.JPG,"]))
    return folder


def real_iad(folder: Path, lists: bool = True) -> Path:
    """Real-IAD: five views of each part, a defect is not seen in all of them."""
    good = [f"OK/S{part:04}/{folder.name}_{part:04}_OK_C{view}_1.jpg" for part in range(1, 6) for view in range(1, 6)]
    bad = [f"NG/HS/S0006/{folder.name}_0006_NG_HS_C{view}_1.jpg" for view in range(1, 6)]
    photos(folder, *good, *bad)
    shown = {photo: photo.replace(".jpg", ".png") for photo in bad[:3]}
    masks(folder, *shown.values())
    if lists:
        entries = [(photo, "OK", None) for photo in good] + [(photo, "HS", shown[photo]) for photo in shown]
        entries += [(photo, "OK", None) for photo in bad[3:]]
        listed = [
            {"category": folder.name, "anomaly_class": kind, "image_path": photo, "mask_path": mask}
            for photo, kind, mask in entries
        ]
        content = {
            "meta": {"prefix": f"{folder.name}/", "normal_class": "OK"},
            "train": listed[:20],
            "test": listed[20:],
        }
        file = folder.parent / f"realiad_jsons/realiad_jsons/{folder.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    return folder


def kolektor(folder: Path) -> Path:
    """KolektorSDD: eight photos of each commutator, of which few have a defect; empty masks of the others."""
    for strip in range(1, 6):
        names = [f"kos{strip:02}/Part{part}" for part in range(8)]
        photos(folder, *(f"{name}.jpg" for name in names))
        masks(folder, *(f"{name}_label.bmp" for name in names[1:]), value=0)
        masks(folder, f"{names[0]}_label.bmp", value=255 if strip < 3 else 0)
    return folder


def kolektor_2(folder: Path) -> Path:
    """KolektorSDD2: masks beside the photos, empty ones of good parts; defects in the training, too."""
    for part, shown in (("train", (0, 0, 0, 255)), ("test", (0, 255))):
        for number, value in enumerate(shown):
            photos(folder, f"{part}/2{number:04}.png")
            masks(folder, f"{part}/2{number:04}_GT.png", value=value)
    return folder


def dagm(folder: Path) -> Path:
    """DAGM 2007: masks of the defects in a folder beside the photos; defects in the training, too."""
    for part, defects in (("Train", [2]), ("Test", [1, 3])):
        photos(folder, *(f"{part}/{number:04}.PNG" for number in range(1, 5)))
        masks(folder, *(f"{part}/Label/{number:04}_label.PNG" for number in defects))
        lines = [f"{n}\t{int(n in defects)}\t{n:04}.PNG\t{int(n in defects)}\t{n:04}_label.PNG" for n in range(1, 5)]
        (folder / part / "Label/Labels.txt").write_text("\n".join(["1", *lines]))
    return folder


def write_list(file: Path, rows: Sequence[Sequence[str]], separator: str = ",") -> Path:
    """A list as people write it."""
    file.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")
    return file
