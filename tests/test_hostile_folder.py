"""A folder of whatever cameras and colleagues left there: every image has its row, and nothing stops the run."""

import errno
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_prediction_writer import SIZE, paint, predict, rows_of

from sivt_lightning.cli.photo_table import Survey
from sivt_lightning.data.asked import predict_samples
from sivt_lightning.data.layouts import train_samples
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import read_csv
from sivt_lightning.prediction_files import pictures as pictures_module
from sivt_lightning.prediction_files import writer as prediction_writer
from sivt_lightning.prediction_files.writer import PredictionWriter

GREY = Image.fromarray(np.full((20, 30), 90, np.uint8))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, depth: int = 8, pixels: bytes = b"\0" * 100) -> bytes:
    """A colour image that claims to be so large."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def transparent_palette(path: Path) -> None:
    image = GREY.convert("P")
    image.save(path, transparency=0)


def animated(path: Path) -> None:
    frames = [GREY.convert("RGB"), Image.new("RGB", GREY.size, "red")]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    GREY.convert("RGB").save(path, exif=exif)


def cut_off(path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:-400])


DEEP = (b"\0" + b"\xff\xff" * 3 * 9) * 9  # white rows, each after its filter's number; Pillow writes no such file
# name -> how it is made, and what its row says: "" for a result
FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "good.png": (lambda path: paint(path, 255), ""),
    "truncated.png": (cut_off, "it is cut off or damaged"),
    "truncated.jpg": (cut_off, "it is cut off or damaged"),
    "header only.png": (lambda path: path.write_bytes(png_of(9, 9)[:8]), "not a valid PNG"),
    "empty.png": (lambda path: path.write_bytes(b""), "the file is empty"),
    "one pixel.png": (lambda path: Image.new("RGB", (1, 1)).save(path), ""),
    "one row.png": (lambda path: Image.new("RGB", (3000, 1)).save(path), ""),
    "bomb.png": (lambda path: path.write_bytes(png_of(20_000, 20_000)), "it has too many pixels"),
    "16 bit.png": (lambda path: Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(path), ""),
    "1 bit.png": (lambda path: GREY.convert("1").save(path), ""),
    "16 bit colour.png": (lambda path: path.write_bytes(png_of(9, 9, 16, DEEP)), ""),
    "pages.tif": (animated, ""),
    "cmyk.jpg": (lambda path: GREY.convert("CMYK").save(path), ""),
    "palette.png": (transparent_palette, ""),
    "animated.webp": (animated, ""),
    "animated.png": (animated, ""),
    "turned.jpg": (turned, ""),
    "really a jpeg.png": (lambda path: GREY.save(path, format="JPEG"), ""),
    "really a gif.png": (lambda path: GREY.save(path, format="GIF"), "not a valid PNG, JPEG, BMP, TIFF or WebP"),
    "pdf.png": (lambda path: path.write_bytes(b"%PDF-1.7\n%binary"), "not a valid PNG, JPEG, BMP, TIFF or WebP"),
    "text.png": (lambda path: path.write_text("hello"), "not a valid PNG, JPEG, BMP, TIFF or WebP"),
    "page.png": (lambda path: path.write_text("<script>alert(1)</script>"), "not a valid PNG"),
    "nowhere.png": (lambda path: path.symlink_to("no such file"), "it does not exist"),
    "pipe.png": (lambda path: os.mkfifo(path), "it is a pipe or a device"),
    "device.png": (lambda path: path.symlink_to("/dev/zero"), "it is a pipe or a device"),
    " spaces .png": (lambda path: paint(path, 10), ""),
    "two\nlines.png": (lambda path: paint(path, 10), ""),
    "ネジ 🔩.png": (lambda path: paint(path, 10), ""),
    "--output.png": (lambda path: paint(path, 10), ""),
    "-rf": (lambda path: path.mkdir(), ""),
    "-rf/x.png": (lambda path: paint(path, 10), ""),
    "=cmd|' /C calc'!A0.png": (lambda path: paint(path, 10), ""),
    "x" * 246 + ".png": (lambda path: paint(path, 10), ""),
    "UPPER.JPG": (lambda path: GREY.save(path), ""),
    "folder.png/inside.png": (lambda path: paint(path, 10), ""),
}
IMAGES = [name for name in FILES if name != "-rf"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PredictionWriter]:
    """Of all of them at once, in a folder that a link leads back into."""
    folder = tmp_path_factory.mktemp("hostile")
    photos = folder / "photos"
    photos.mkdir()
    for name, (make, _) in FILES.items():
        make(photos / name)
    (photos / "loop").symlink_to(photos, target_is_directory=True)
    (photos / "-rf" / "loop").symlink_to(photos, target_is_directory=True)
    (photos / "itself.png").symlink_to(photos / "itself.png")
    writer = PredictionWriter(str(folder / "out"))
    predict(photos, writer, None, 8)
    return folder / "out", writer


def test_every_image_has_one_row(results: tuple[Path, PredictionWriter]) -> None:
    rows = read_csv(results[0] / "predictions.csv")
    assert sorted(row["path"] for row in rows) == sorted([*IMAGES, "itself.png"])
    assert results[1].failed == sum(bool(told) for _, told in FILES.values()) + 1


@pytest.mark.parametrize("name", IMAGES, ids=lambda name: name[:20].encode("ascii", "replace").decode())
def test_an_image_is_read_or_its_row_says_why_not(name: str, results: tuple[Path, PredictionWriter]) -> None:
    out, told = results[0], FILES[name][1]
    (row,) = [row for row in read_csv(out / "predictions.csv") if row["path"] == name]
    if told:
        assert told in row["error"]
        assert "\n" not in row["error"]
        assert {row[column] for column in ("score", "is_anomalous", "mask", "overlay", "photo", "heat")} == {""}
        return
    assert row["error"] == ""
    assert float(row["score"]) >= 0
    for column in ("mask", "overlay", "photo", "heat"):
        Image.open(out / row[column]).load()
        assert (out / row[column]).resolve().is_relative_to(out)
    if name.startswith("16 bit c"):
        assert float(row["score"]) == 1, "scaled, not clipped or wrapped"
    if name == "turned.jpg":
        assert Image.open(out / row["mask"]).size == (20, 30)  # upright
    if name in ("animated.png", "animated.webp", "pages.tif"):
        assert row["is_anomalous"] == "false"  # the first frame is grey, the second red


def test_a_link_to_itself_is_called_no_damage(results: tuple[Path, PredictionWriter]) -> None:
    (row,) = [row for row in rows_of(results[0] / "predictions.csv") if row["path"] == "itself.png"]
    assert "itself.png cannot be read: too many levels of symbolic links. Check the file and its disk" in row["error"]


def test_folders_that_link_to_one_another_are_searched_once(tmp_path: Path) -> None:
    """Twelve that each link to all others: along every way there is, half a thousand million folders."""
    folders = [tmp_path / "photos" / f"line {number}" for number in range(12)]
    for folder in folders:
        paint(folder / "a.png", 0)
    for folder in folders:
        for other in folders:
            (folder / f"to {other.name}").symlink_to(other)
        (folder / "out of it").symlink_to(tmp_path)
    paint(tmp_path / "not asked for.png", 0)
    samples = predict_samples([tmp_path / "photos"]).samples
    assert [sample.path for sample in samples] == [folder / "a.png" for folder in sorted(folders)]


def test_an_empty_folder_and_one_without_images(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(SIVTError, match=r"No image in .*photos"):
        predict(tmp_path / "photos", PredictionWriter(str(tmp_path / "out")))
    (tmp_path / "photos" / "notes.txt").write_text("none yet")
    with pytest.raises(SIVTError, match=r"No image in .*photos"):
        predict(tmp_path / "photos", PredictionWriter(str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_may_not_be_read_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "photos" / "a.png", 10)
    (tmp_path / "photos" / "locked").mkdir()
    listed = os.scandir

    def refuse(folder: Path) -> object:  # not by chmod, which root may override
        if folder.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SIVTError, match=r"locked cannot be read: Permission denied. Check its permissions"):
        predict(tmp_path / "photos", PredictionWriter(str(tmp_path / "out")))


@pytest.mark.parametrize("output", ["photos", "photos/results"])
def test_results_among_the_photos_are_no_photos(
    tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / output
    paint(photos / "masks" / "a.png", 255)  # a folder of the user's own, whatever it is called
    paint(photos / "b.png", 10)
    predict(photos, PredictionWriter(str(out), maps=True))
    if output == "photos":  # now it looks like one of ours
        (photos / "masks" / "a.png").rename(photos / "a.png")
    first = rows_of(out / "predictions.csv")
    predict(photos, PredictionWriter(str(out), maps=True, overwrite=True), None, 2, Survey())
    names = {"photos": ["a.png", "b.png"], "photos/results": ["b.png", "masks/a.png"]}[output]
    assert [row["path"] for row in rows_of(out / "predictions.csv")] == names
    assert len(first) == 2
    assert (
        f"10 pictures in {photos} are results of earlier predictions, so they are left out." in capsys.readouterr().out
    )


def test_results_beside_the_products_are_no_product(tmp_path: Path) -> None:
    for name in ("bolt/a.png", "bolt/b.png"):
        paint(tmp_path / name, 255)
    predict(tmp_path / "bolt", PredictionWriter(str(tmp_path)))
    samples, left_out = train_samples(tmp_path, None)
    assert {sample.category for sample in samples} == {"bolt"}
    assert left_out == []


def test_no_result_overwrites_a_photo(tmp_path: Path) -> None:
    for name in ("a.png", "masks/a.png"):
        paint(tmp_path / name, 255)
    before = (tmp_path / "masks/a.png").read_bytes()
    (tmp_path / "here").symlink_to(".")
    for asked in (tmp_path, tmp_path / "here", tmp_path / "masks", tmp_path / "masks/a.png"):
        with pytest.raises(SIVTError, match=r"would overwrite the photo .*masks/a.png\. Name another folder"):
            predict(asked, PredictionWriter(str(tmp_path)))
    assert (tmp_path / "masks/a.png").read_bytes() == before
    assert not (tmp_path / "predictions.json").exists()


def test_a_full_disk_stops_with_a_sentence_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        paint(tmp_path / "photos" / f"{name}.png", 255)
    saved, room = pictures_module.save_whole, [3 * 4]  # pictures

    def save(path: Path, picture: Image.Image) -> None:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved(path, picture)

    out = tmp_path / "out"
    monkeypatch.setattr(pictures_module, "save_whole", save)
    with pytest.raises(SIVTError, match=r"Cannot write into .*out: No space left on device. Free space.* --resume"):
        predict(tmp_path / "photos", PredictionWriter(str(out)), None, 1)
    assert [row["path"] for row in rows_of(out / "predictions.csv.part")] == ["a.png", "b.png", "c.png"]
    monkeypatch.setattr(pictures_module, "save_whole", saved)
    predict(tmp_path / "photos", PredictionWriter(str(out), resume=True))
    assert [row["score"] for row in rows_of(out / "predictions.csv")] == ["1"] * 4
    assert SIZE == 16


@pytest.mark.parametrize(("room", "done"), [(0, 0), (3, 2), (4, 3)])
def test_a_disk_that_is_full_for_a_row_or_a_table(
    room: int, done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the start, in the third row, at the end: what is done is known, and not done again."""
    for name in "abc":
        paint(tmp_path / "photos" / f"{name}.png", 0)
    out = tmp_path / "out"
    full = DiskThatFills(room)  # for the heading and what is done before, then a row each
    monkeypatch.setattr(prediction_writer, "csv_text", full.in_front_of(prediction_writer.csv_text))
    with pytest.raises(SIVTError, match=rf"Cannot write into {out}: No space left on device\. Free space.* --resume"):
        predict(tmp_path / "photos", PredictionWriter(str(out)), None, 1)
    monkeypatch.undo()
    assert (f"The rows of the {done} images done" in capsys.readouterr().out) == (done > 0)
    predict(tmp_path / "photos", PredictionWriter(str(out), resume=True))
    assert (f"{done} of 3 images are done already" in capsys.readouterr().out) == (done > 0)
    assert len(rows_of(out / "predictions.csv")) == 3


class DiskThatFills:
    """Has room for so many texts."""

    def __init__(self, room: int) -> None:
        self.room = room

    def in_front_of(self, function: Callable[..., str]) -> Callable[..., str]:
        def text(*args: object) -> str:
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room -= 1
            return function(*args)

        return text
