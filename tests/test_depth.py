"""Photos of 10, 12, 14 and 16 bits and of decimals are what their 8-bit twins are, or are refused; never black."""

import contextlib
import json
import os
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from coloured import client_of
from conftest import TINY, rows_of, write_tiny_data
from PIL import Image

from sivt_lightning import Predictor, SIVTError
from sivt_lightning.cli import main
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.depth import DEPTHS, Depth, Seen, decide, white_of
from sivt_lightning.data.images import array_to_rgb, deep_values, read_image, to_rgb
from sivt_lightning.data.masks import read_mask
from sivt_lightning.export.model_files import write_model
from sivt_lightning.inference.about import of_checkpoint
from sivt_lightning.inference.checkpoint_model import restore_detector

GREY = np.random.default_rng(0).integers(40, 220, (24, 16)).astype(np.uint8)
RGB = np.random.default_rng(1).integers(40, 220, (24, 16, 3)).astype(np.uint8)


def deeper(levels: np.ndarray, depth: Depth) -> np.ndarray:
    """The 8-bit picture as a camera of this depth stores it: levels in the upper bits."""
    if isinstance(depth, int):
        return levels.astype(np.uint16) * 257 if depth == 16 else levels.astype(np.uint16) << (depth - 8)
    return (levels / 255 * white_of(depth)).astype(np.float32)


def save(path: Path, values: np.ndarray) -> Path:
    """Pillow itself writes no colours of 16 bits."""
    if values.ndim == 3 and values.dtype == np.uint16:
        encode = imagecodecs.png_encode if path.suffix == ".png" else imagecodecs.tiff_encode
        path.write_bytes(encode(values))
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("depth", DEPTHS[1:])
def test_a_deep_photo_is_its_8_bit_twin(depth: Depth, tmp_path: Path) -> None:
    path = save(tmp_path / "grey.tif", deeper(GREY, depth))
    levels = np.asarray(read_image(path, depth).image)[..., 0].astype(int)
    assert np.abs(levels - GREY).max() <= 1
    assert len(np.unique(levels)) >= len(np.unique(GREY)) - 1
    assert decide([deep_values(path) or Seen("bytes", 0)]) == depth


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("alpha", [None, 4095, 65535])
def test_colours_of_12_bits_keep_all_of_them(suffix: str, alpha: int | None, tmp_path: Path) -> None:
    values = deeper(RGB, 12)
    if alpha is not None:  # opaque, as some tools write it and others do
        values = np.concatenate([values, np.full_like(values[..., :1], alpha)], axis=2)
    path = save(tmp_path / f"colours{suffix}", values)
    levels = np.asarray(read_image(path, 12).image).astype(int)
    assert np.abs(levels - RGB).max() <= 1
    assert deep_values(path) == Seen("integers", float(deeper(RGB, 12).max()))
    assert np.array_equal(np.asarray(array_to_rgb(values, 12)), np.asarray(read_image(path, 12).image))
    lazy = Image.open(path)
    assert np.array_equal(np.asarray(to_rgb(lazy, 12).image), levels)
    with pytest.raises(SIVTError, match="trained on photos of 8 bits"):
        to_rgb(Image.open(path), "bytes")
    if suffix == ".tif":
        lazy.load()
        with pytest.raises(SIVTError, match="8 of its bits only"):
            to_rgb(lazy, 12)


def test_what_is_clear_is_white(tmp_path: Path) -> None:
    values = np.zeros((2, 2, 4), np.uint16)
    values[0, :, 3] = 4095
    values[1, 0, 3] = 2048
    levels = np.asarray(read_image(save(tmp_path / "clear.png", values), 12).image)[..., 0]
    assert levels[0].tolist() == [0, 0]
    assert abs(int(levels[1, 0]) - 127) <= 1
    assert levels[1, 1] == 255


def test_a_tiff_in_which_0_is_white_is_turned_round(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "negative.tif", 4095 - deeper(GREY, 12), photometric="miniswhite")
    levels = np.asarray(read_image(tmp_path / "negative.tif", 12).image)[..., 0].astype(int)
    assert np.abs(levels - GREY).max() <= 1
    assert np.array_equal(np.asarray(to_rgb(Image.open(tmp_path / "negative.tif"), 12).image)[..., 0], levels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colours_are_turned_upright(orientation: int, tmp_path: Path) -> None:
    turned = Image.fromarray(RGB)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "shallow.png", exif=exif)
    content = imagecodecs.png_encode(deeper(RGB, 16))
    shallow = (tmp_path / "shallow.png").read_bytes()
    start = shallow.index(b"eXIf") - 4
    length = int.from_bytes(shallow[start : start + 4], "big") + 12
    end = content.index(b"IDAT") - 4
    (tmp_path / "deep.png").write_bytes(content[:end] + shallow[start : start + length] + content[end:])
    upright = np.asarray(read_image(tmp_path / "shallow.png").image)
    assert np.array_equal(np.asarray(read_image(tmp_path / "deep.png", 16).image), upright)


@pytest.mark.parametrize(
    ("values", "depth", "reason"),
    [
        (deeper(GREY, 12), 10, "from 0 to 1023"),
        (deeper(GREY, 12), "bytes", "trained on photos of 8 bits"),
        (deeper(GREY, 12), "float", "the model's photos hold decimals"),
        (deeper(GREY, "float"), 12, "the model's photos hold integers of 12 bits"),
        (deeper(GREY, "float8"), "float", "from 0 to 1"),
        (deeper(RGB, 12), "bytes", "trained on photos of 8 bits"),
    ],
)
def test_a_photo_of_another_depth_is_refused(values: np.ndarray, depth: Depth, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SIVTError, match=reason) as error:
        read_image(save(tmp_path / ("c.png" if values.ndim == 3 else "g.tif"), values), depth)
    assert "--data.depth" in str(error.value)


def test_a_tiff_of_an_unknown_kind_is_called_one(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "half.tif", np.zeros((4, 4), np.float16))
    with pytest.raises(SIVTError, match="a TIFF of a kind that is not read"):
        read_image(tmp_path / "half.tif")


def test_what_cannot_be_decided_is_said() -> None:
    with pytest.raises(SIVTError, match="integers of more than 8 bits and others decimals"):
        decide([Seen("integers", 900), Seen("decimals", 0.5)])
    with pytest.raises(SIVTError, match=r"run up to 1\.7"):
        decide([Seen("decimals", 1.7)])
    with pytest.raises(SIVTError, match="65535 is the most"):
        decide([Seen("integers", 70000)])
    assert decide([Seen("decimals", 1.0001)]) == "float"  # as resampling leaves it


def twin_data(root: Path, depth: Depth) -> Path:
    """The tiny data set as a camera of this depth would have it."""
    for path in sorted(write_tiny_data(root).rglob("*.png")):
        if "ground_truth" not in path.parts:
            save(path.with_suffix(".tif"), deeper(np.asarray(Image.open(path)), depth))
            path.unlink()
    return root


@pytest.fixture(scope="module")
def deep_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a training on photos of 12 bits."""
    folder = tmp_path_factory.mktemp("deep")
    config = folder / "tiny.yaml"
    config.write_text(TINY.replace("ROOT", str(twin_data(folder / "data", 12))))
    with contextlib.chdir(folder):
        assert main(["fit", "--config", str(config), "--trainer.max_epochs", "1"]) == 0
    return folder / "runs/tiny/version_0/checkpoints/best.ckpt"


def scores_of(checkpoint: Path, folder: Path, output: Path, *more: str) -> dict[str, str]:
    given = ["--ckpt_path", str(checkpoint), "--data.predict_path", str(folder), "--output", str(output)]
    assert main(["predict", *given, *more]) in (0, 3)
    return {row["path"].split(".")[0]: row["score"] or row["error"] for row in rows_of(output / "predictions.csv")}


def test_twins_score_alike_in_a_model_of_either(
    checkpoint: Path, deep_checkpoint: Path, tiny_data: Path, tmp_path: Path
) -> None:
    deep = deep_checkpoint.parents[4] / "data/down/test"
    shallow = tiny_data / "down/test"
    for name, model, more in (("deep", deep_checkpoint, []), ("shallow", checkpoint, ["--data.depth", "12"])):
        ours = scores_of(model, deep, tmp_path / f"{name}-deep", *more)
        theirs = scores_of(model, shallow, tmp_path / f"{name}-shallow")
        assert ours.keys() == theirs.keys()
        for photo, score in ours.items():
            assert float(score) == pytest.approx(float(theirs[photo]), rel=0.02), (name, photo)
    refused = scores_of(checkpoint, deep, tmp_path / "refused")
    assert all("trained on photos of 8 bits" in said for said in refused.values())


def test_the_depth_goes_where_the_model_goes(
    deep_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = deep_checkpoint.parents[4] / "data/down/test/good/000.tif"
    stored = torch.load(deep_checkpoint, weights_only=True)
    assert stored["datamodule_hyper_parameters"]["depth"] == 12
    assert main(["test", "--ckpt_path", str(deep_checkpoint), "--output", str(tmp_path / "test")]) == 0
    assert json.loads((tmp_path / "test/metrics.json").read_text())["settings"]["data"]["depth"] == 12
    detector, about = restore_detector(deep_checkpoint, stored), of_checkpoint(stored)
    write_model(tmp_path / "m.pt2", "torch", "fp32", detector, about, [])
    side_car = json.loads((tmp_path / "m.pt2.json").read_text())
    assert (side_car["input"]["depth"], side_car["input"]["white"]) == (12, 4095.0)
    score = Predictor(deep_checkpoint, device="cpu")(photo).score
    assert Predictor(tmp_path / "m.pt2")(photo).score == pytest.approx(score, rel=1e-4)
    array = np.asarray(Image.open(photo))
    assert Predictor(deep_checkpoint, device="cpu")(array).score == pytest.approx(score)
    too_bright = save(tmp_path / "bright.tif", array * np.uint16(16))
    with pytest.raises(SIVTError, match="from 0 to 4095"):
        Predictor(tmp_path / "m.pt2")(too_bright)
    with pytest.raises(SIVTError, match="depth is 16, but the model was trained on photos of depth 12"):
        Predictor(tmp_path / "m.pt2", depth=16)
    for verb in (["test"], ["predict", "--data.predict_path", str(photo)]):
        given = ["--ckpt_path", str(deep_checkpoint), "--data.depth", "14", "--output", str(tmp_path / "other")]
        assert main([*verb, *given]) == 1
        assert "depth is 14, but the model was trained on photos of depth 12" in capsys.readouterr().err
    with pytest.raises(SIVTError, match="depth is 11: give one of bytes, 8"):
        Predictor(deep_checkpoint, depth=11)


def test_the_server_reads_photos_of_the_depth(deep_checkpoint: Path, tmp_path: Path) -> None:
    predictor = Predictor(deep_checkpoint, device="cpu")
    photo = deep_checkpoint.parents[4] / "data/down/test/good/000.tif"
    bright = save(tmp_path / "bright.tif", np.asarray(Image.open(photo)) * np.uint16(16))
    with client_of(predictor) as client:
        right, wrong = (client.post("/v1/predict", content=path.read_bytes()) for path in (photo, bright))
    assert right.json()["score"] == pytest.approx(predictor(photo).score)
    assert wrong.status_code == 400
    assert "from 0 to 4095" in wrong.json()["error"]


def test_training_says_the_depth_and_a_setting_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY.replace("ROOT", str(twin_data(tmp_path / "data", 10))))
    with contextlib.chdir(tmp_path):
        assert main(["fit", "--config", str(config), "--trainer.max_epochs", "1"]) == 0
        assert "20 of 20 photos have more than 8 bits: depth 10, so white is 1023" in capsys.readouterr().out
        given = ["--trainer.max_epochs", "1", "--data.depth", "14"]
        assert main(["fit", "--config", str(config), *given]) == 0
        stored = torch.load("runs/tiny/version_1/checkpoints/last.ckpt", weights_only=True)
        assert stored["datamodule_hyper_parameters"]["depth"] == 14
        assert main(["fit", "--config", str(config), "--data.depth", "9"]) == 2
    assert "depth" in capsys.readouterr().err


def test_a_product_of_another_depth_is_named(tmp_path: Path) -> None:
    root = twin_data(tmp_path / "data", 12)
    for path in sorted((root / "down").rglob("*.tif")):
        save(path, np.asarray(Image.open(path)) >> np.uint16(2))
    data = SIVTDataModule(str(root), image_size=32)
    data.setup("fit")
    assert data.depth == 12
    assert "The photos of down alone would be of depth 10" in data.remarks[-1]


def test_of_several_pages_the_first_is_read_and_that_is_said(checkpoint: Path, tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((40, 40), level, np.uint8)) for level in (90, 200, 250)]
    (tmp_path / "photos").mkdir()
    pages[0].save(tmp_path / "photos/pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "photos/page.tif")
    scores_of(checkpoint, tmp_path / "photos", tmp_path / "out")
    one, several = rows_of(tmp_path / "out/predictions.csv")
    assert (one["path"], one["note"], several["path"]) == ("page.tif", "", "pages.tif")
    assert several["note"] == "It has several pages, of which only the first was read."
    assert several["score"] == one["score"]
    for form in (tmp_path / "photos/pages.tif", Image.open(tmp_path / "photos/pages.tif")):
        assert Predictor(checkpoint)(form).note == several["note"]


@pytest.mark.skipif("SIVT_ASSETS" not in os.environ, reason="SIVT_ASSETS is not set")
def test_the_same_picture_in_every_depth() -> None:
    folder = Path(os.environ["SIVT_ASSETS"], "faults")
    grey = np.asarray(read_image(folder / "grey8.png").image).astype(int)
    depths: dict[str, Depth] = {
        "grey10in16.png": 10,
        "grey12in16.tif": 12,
        "grey16_full.tif": 16,
        "float_0_255.tif": "float8",
    }
    for name, depth in depths.items():
        assert decide([deep_values(folder / name) or Seen("bytes", 0)]) == depth
        assert np.abs(np.asarray(read_image(folder / name, depth).image) - grey).max() <= 1
    colours = np.asarray(read_image(folder / "rgb12in16.png", 12).image)
    assert len(np.unique(colours)) > 90  # 8 of them, where only the upper bits are read
    for name in ("mask_rgba_white_alpha.png", "mask_rgba_black_alpha.png"):
        assert 0 < read_mask(folder / name).pixels.mean() < 0.1


CLEAR, SEEN = (0,), (255,)


@pytest.mark.parametrize(
    ("colours", "alpha", "anomalous"),
    [
        pytest.param([255, 255, 255], [0, 255, 255], [0, 1, 1], id="white, shape in alpha"),
        pytest.param([0, 0, 0], [0, 255, 9], [0, 1, 1], id="black paint on clear"),
        pytest.param([0, 200, 200], [0, 255, 255], [0, 1, 1], id="paint on clear"),
        pytest.param([0, 255, 0], [255, 255, 255], [0, 1, 0], id="opaque"),
        pytest.param([255, 255, 0], [0, 255, 255], [0, 1, 0], id="white on black, partly clear"),
        pytest.param([0, 255, 0], [0, 0, 0], [0, 1, 0], id="clear everywhere"),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_mask_may_have_its_shape_in_its_transparency(
    colours: list[int], alpha: list[int], anomalous: list[int], bits: int, tmp_path: Path
) -> None:
    values = np.array([[*([c] * 3), a] for c, a in zip(colours, alpha, strict=True)], f"uint{bits}")[None]
    save(tmp_path / "mask.png", values)
    assert read_mask(tmp_path / "mask.png").pixels.astype(int).tolist() == [anomalous]


def test_a_deep_mask_counts_in_its_lower_bits(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 3), np.uint16)
    values[1, 2] = 200  # nothing, where only the upper bits are read
    assert read_mask(save(tmp_path / "mask.png", values)).pixels.sum() == 1


def test_doubtful_masks_are_named(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_tiny_data(tmp_path / "data", bad=4)
    masks = root / "down/ground_truth/square"
    shape = np.zeros((40, 40), np.uint8)
    Image.fromarray(shape).save(masks / "000_mask.png")
    shape[:30] = 255
    Image.fromarray(shape).save(masks / "001_mask.png")
    speckled = np.zeros((40, 40), np.uint8)
    speckled[5:12, 5:12] = 255
    Image.fromarray(speckled).save(tmp_path / "mask.jpg", quality=50)
    smeared = np.asarray(Image.open(tmp_path / "mask.jpg")).copy()
    smeared[30:36, 30] = range(1, 7)
    Image.fromarray(smeared).save(masks / "002_mask.png")
    given = ["--ckpt_path", str(checkpoint), "--data.root", str(root), "--output", str(tmp_path / "out")]
    assert main(["test", *given]) == 0
    notes = json.loads((tmp_path / "out/metrics.json").read_text())["notes"]
    said = {Path(path).relative_to(root).as_posix(): note for path, note in notes.items()}
    assert said.keys() == {f"down/test/square/00{i}.png" for i in range(3)}
    assert said["down/test/square/000.png"] == "Its mask is empty."
    assert said["down/test/square/001.png"] == "Its mask covers 75% of it."
    assert "speckled as by JPEG" in said["down/test/square/002.png"]
    screen = " ".join(capsys.readouterr().out.split())
    assert all(note in screen for note in said.values())
    assert "Its mask is empty." in (tmp_path / "out/metrics.md").read_text()
