"""Large photos in tiles: how they are cut, seen and put together again, from training to verdict."""

import contextlib
import io
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coloured import client_of
from conftest import rows_of
from parts import PIXELS
from PIL import Image

from sivt_lightning import Predictor, SIVTError
from sivt_lightning.cli import main
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.dataset import ImageDataset, collate
from sivt_lightning.data.grid import FARTHEST, MOST_TILES, NEAREST, Grid, Tiles
from sivt_lightning.data.images import Photo, read_image, to_tensor
from sivt_lightning.data.roi import at_size, seen_of
from sivt_lightning.data.samples import Sample, Tile
from sivt_lightning.inference.about import read_about
from sivt_lightning.inference.good_photos import GoodPhotos
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.inference.photos import joined
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.image_score import image_score
from sivt_lightning.model.stitching import WHOLE, stitched
from sivt_lightning.serve.service import Limits
from sivt_lightning.state.kept_parts import KeptParts

SETTINGS = {"feature_stride": 4, "map_power": 0.0, "smoothing_sigma": 1.0, "image_score": "highest"}
STRIP = Grid((0, 6, 12))
TINY = f"""{PIXELS}data: {{root: data, batch_size: 4, num_workers: 0, tiles: auto}}
trainer: {{max_epochs: 2, accelerator: cpu}}
"""


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 5, (height, width))
    stripes = 100 + 50 * np.sin(np.arange(height) / 2)
    return Image.fromarray((stripes[:, None] + noise).clip(0, 255).astype(np.uint8)).convert("RGB")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strips of 32 x 80, three tiles each, and squares of 32 x 32, which are not cut; a model of both, and its test.

    Of strips named half, the upper half is inspected.
    """
    folder = tmp_path_factory.mktemp("tiles")
    for name, height in (("strip", 80), ("half", 80), ("square", 32)):
        for part, count in (("train/good", 8), ("test/good", 2), ("test/spot", 2)):
            place = folder / "data" / name / part
            place.mkdir(parents=True)
            for number in range(count):
                photo = picture(32, height, len(part) * 100 + number)
                if name == "half":  # told from the strips by its tone
                    photo = photo.point([value // 3 for value in range(256)] * 3)
                if part == "test/spot":
                    photo.paste((250, 250, 250), (8, height - 14, 14, height - 8))
                    mask = Image.new("L", photo.size)
                    mask.paste(255, (8, height - 14, 14, height - 8))
                    masks = folder / "data" / name / "ground_truth/spot"
                    masks.mkdir(parents=True, exist_ok=True)
                    mask.save(masks / f"{number}_mask.png")
                photo.save(place / f"{number}.png")
    (folder / "data/half/roi.json").write_text(json.dumps({"inspect": [[[0, 0], [1, 0], [1, 0.5], [0, 0.5]]]}))
    (folder / "tiny.yaml").write_text(TINY)
    with contextlib.chdir(folder):
        assert main(["fit", "--config", "tiny.yaml"]) == 0
        shutil.copytree("runs/tiny/version_0/checkpoints", "model")
    return folder


# How photos are cut


@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((256, 256), (1, 1)),
        ((100, 60), (1, 2)),  # proportions are kept rather than a strip squeezed
        ((512, 512), (1, 1)),
        ((600, 600), (1, 1)),
        ((1024, 1024), (2, 2)),
        ((500, 1260), (3, 1)),
        ((1260, 500), (1, 3)),
        ((5472, 3648), (3, 5)),
        ((20000, 1), (1, MOST_TILES)),
        ((1, 1), (1, 1)),
    ],
)
def test_auto_shows_small_things_and_has_a_bound(size: tuple[int, int], tiles: tuple[int, int]) -> None:
    grid = Tiles("auto").grid(size, 256)
    assert (len(grid.tops), len(grid.lefts)) == tiles


@pytest.mark.parametrize("text", ["auto", "2x2", "3x1", "1x3", "4x4"])
@pytest.mark.parametrize("size", [(500, 1260), (1024, 1024), (1, 20000), (1280, 720), (30, 40)])
def test_tiles_cover_the_canvas_and_overlap(text: str, size: tuple[int, int]) -> None:
    grid = Tiles(text).grid(size, 64)
    for starts in grid:
        assert starts[0] == 0
        assert all(NEAREST <= b - a <= FARTHEST for a, b in itertools.pairwise(starts))
    images = grid.cut(picture(*size), 64)
    assert images.shape == (grid.images, 3, 64, 64)


def test_proportions_are_kept() -> None:
    height, width = Tiles("auto").grid((500, 1260), 256).canvas(256)
    assert height / width == pytest.approx(1260 / 500, rel=0.02)


def test_tiles_are_pieces_of_one_resized_photo_and_the_whole_is_as_without_tiles() -> None:
    photo = picture(50, 126)
    images = STRIP.cut(photo, 32)
    canvas = to_tensor(photo, 80, 32)
    for number, top in enumerate((0, 24, 48)):
        assert torch.equal(images[number], canvas[:, top : top + 32])
    assert torch.equal(images[3], to_tensor(photo, 32))
    for number in range(4):
        assert torch.equal(STRIP.image(photo, 32, number), images[number])


def test_a_piece_is_what_its_tile_shows() -> None:
    photo = picture(320, 800)
    for number in range(4):
        shown = to_tensor(STRIP.piece(photo, number), 32)
        assert (shown - STRIP.cut(photo, 32)[number]).abs().max() < 0.1


@pytest.mark.parametrize("text", ["", "0", "0x1", "2", "3 x 1", "1x1000", "x", "auto ", "-1x2"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(SIVTError, match=r"give 1 to see photos as a whole.*ROWSxCOLUMNS.*or auto"):
        Tiles(text)


def test_more_tiles_than_memory_has_room_for_are_refused() -> None:
    assert Tiles("20x20").most_images == 401
    with pytest.raises(SIVTError, match="more than 400 tiles of a photo take too much memory: give fewer"):
        Tiles("999x999")


def test_one_tile_is_none_however_it_is_said() -> None:
    assert [(Tiles(text).text, Tiles(text).cut) for text in ("1", "1x1")] == [("1", False)] * 2


def test_an_image_size_without_eighths_is_refused() -> None:
    with pytest.raises(SIVTError, match="image_size 36 is no multiple of 8"):
        SIVTDataModule(image_size=36, tiles="auto")


# How they are put together


def test_a_constant_residual_stays_constant() -> None:
    grid = Grid((0, 5, 10), (0, 6))
    residuals = torch.full((grid.images, 16, 16), 1.5)
    whole = stitched(residuals, [0, 10, 20], [0, 12])
    assert whole.shape == (36, 28)
    torch.testing.assert_close(whole, torch.full_like(whole, 1.5))
    score, anomaly_map, _ = joined(residuals, grid, SETTINGS)
    torch.testing.assert_close(anomaly_map, torch.full((144, 112), np.exp(1.5)))
    assert float(score) == pytest.approx(np.exp(1.5))


def smooth_field(height: int, width: int) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.sin(rows / 5) + 2 * torch.exp(-((rows - height / 3) ** 2 + (columns - width / 2) ** 2) / 8)


def test_there_are_no_seams_and_a_shifted_grid_changes_no_score() -> None:
    """What tiles say alike where they overlap is left as it is, wherever they begin."""
    field = smooth_field(32, 16)
    scores = []
    for middle in (6, 7, 8):
        tops = [0, middle, 16]
        residuals = torch.stack([*(field[top : top + 16] for top in tops), torch.zeros(16, 16)])
        whole = stitched(residuals, tops, [0])
        torch.testing.assert_close(whole, (1 - WHOLE) * field)
        scores.append(float(whole.flatten().topk(5).values.mean()))
    assert max(scores) == pytest.approx(min(scores), rel=0.01)


def test_what_only_the_whole_shows_is_in_the_map() -> None:
    residuals = torch.zeros(4, 8, 8)
    residuals[3, 2, 2] = 9.0  # a quarter down the photo
    score, anomaly_map, _ = joined(residuals, STRIP, SETTINGS)
    row, column = divmod(int(anomaly_map.argmax()), anomaly_map.shape[1])
    assert 0.2 < row / anomaly_map.shape[0] < 0.4
    assert 0.2 < column / anomaly_map.shape[1] < 0.4
    plain, _, _ = joined(torch.zeros(4, 8, 8), STRIP, SETTINGS)
    assert score > 1.2 * plain


def test_a_small_defect_counts_alike_however_large_the_photo() -> None:
    """The score is of as many pixels as in a photo that is one tile."""

    def score(tops: tuple[int, ...]) -> float:
        residuals = torch.zeros(len(tops) + 1, 16, 16)
        residuals[0, 3, 3] = 5.0
        return float(joined(residuals, Grid(tops), SETTINGS)[0])

    assert score((0, 7, 14, 21, 28, 35)) == pytest.approx(score((0, 7)), rel=0.1)


# From training to verdict


def test_a_training_sees_tiles_and_counts_photos(trained: Path) -> None:
    data = SIVTDataModule(root=str(trained / "data"), image_size=32, tiles="auto", num_workers=0)
    data.setup("fit")
    assert (len(data.train_photos), len(data.val_photos)) == (21, 3)
    assert (len(data.train_set), len(data.val_set)) == (7 * 4 + 7 * 3 + 7, 4 + 3 + 1)
    assert [remark for remark in data.remarks if "3 x 1 tiles of 32 x 32" in remark] == [
        "half: 8 photos of 32 x 80 pixels are each cut into 3 x 1 tiles of 32 x 32, and seen as a whole, too: 3 images "
        "each, as 1 show nothing of what is inspected.",
        "strip: 8 photos of 32 x 80 pixels are each cut into 3 x 1 tiles of 32 x 32, and seen as a whole, too: 4 "
        "images each.",
    ]
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape[1:] == (3, 32, 32)
    calibration = read_about(str(trained / "model/best.ckpt")).calibration
    assert calibration is not None
    assert {name: product.score.held_out for name, product in calibration.products.items()} == {
        "half": 1,
        "square": 1,
        "strip": 1,
    }


def test_without_tiles_nothing_is_another(trained: Path) -> None:
    """Batches of photos that are not cut, whatever the setting."""
    root = str(trained / "data")
    for categories, tiles in (("square", "auto"), ("strip", "1")):
        one, other = (
            SIVTDataModule(root=root, categories=categories, image_size=32, tiles=each, num_workers=0)
            for each in (tiles, "1")
        )
        for data in (one, other):
            data.setup("fit")
        assert one.train_set.samples == other.train_set.samples
        assert torch.equal(one.train_set[0].images, other.train_set[0].images)


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_kept_features_train_the_same_model(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    """As far as float16 lets them."""
    monkeypatch.chdir(tmp_path)
    options = [f"--data.root={trained / 'data'}", f"--data.cache={cache}", "--name", cache]
    assert main(["fit", "--config", str(trained / "tiny.yaml"), *options]) == 0
    assert main(["test", "--ckpt_path", f"runs/{cache}/version_0/checkpoints/best.ckpt", "--output", "t"]) == 0
    with contextlib.chdir(trained):
        assert main(["test", "--ckpt_path", "model/best.ckpt", "--output", str(tmp_path / "plain")]) == 0
    ours, theirs = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("t", "plain"))
    assert ours["mean"]["image_auroc"] == pytest.approx(theirs["mean"]["image_auroc"], abs=0.05)
    if cache == "disk":  # a file for each tile, held out or not
        assert len(list(tmp_path.glob("runs/features/*/*.safetensors"))) == 8 * (4 + 3 + 1)


def test_a_photo_is_decoded_once_for_features_of_all_its_tiles(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Counter[Path]()

    def counting(path: Path, *options: Any) -> Photo:
        decoded[path] += 1
        return read_image(path, *options)

    monkeypatch.setattr("sivt_lightning.data.dataset.read_image", counting)
    data = SIVTDataModule(root=str(trained / "data"), image_size=32, tiles="auto", cache="memory")
    data.setup("fit")
    data.kept.fill(lambda images: torch.zeros(1, 2, 8, 8), (2, 8, 8), "key", threads=1, processes=1)
    assert set(decoded.values()) == {1}
    assert len(decoded) == 24
    assert len(data.train_set[0].images) == 1  # once more, and not from memory
    assert sum(decoded.values()) == 25


def test_a_test_compares_at_the_photos_own_size_and_draws_all(trained: Path, tmp_path: Path) -> None:
    with contextlib.chdir(trained):
        options = ["--output", str(tmp_path), "--eval.full_resolution", "true"]
        assert main(["test", "--ckpt_path", "model/best.ckpt", *options]) == 0
    figures = json.loads((tmp_path / "metrics.json").read_text())["categories"]["strip"]
    assert figures["pixel_auroc"] > 0.9
    assert (tmp_path / "gallery.png").is_file()
    assert (tmp_path / "report.html").is_file()


def test_predict_and_predictor_say_the_same_in_the_photos_own_pixels(trained: Path, tmp_path: Path) -> None:
    with contextlib.chdir(trained):
        options = ["--data.predict_path", "data/strip/test/spot", "--output", str(tmp_path), "--threshold", "0.0001"]
        assert main(["predict", "--ckpt_path", "model/best.ckpt", "--writer.maps", "true", *options]) == 0
    predictor = Predictor(trained / "model/best.ckpt", threshold=0.0001)
    files = sorted((trained / "data/strip/test/spot").iterdir())
    found = predictor(files)
    for row, one in zip(rows_of(tmp_path / "predictions.csv"), found, strict=True):
        assert float(row["score"]) == pytest.approx(one.score, rel=1e-5)
        with Image.open(tmp_path / row["map"]) as stored:
            assert stored.size == (32, 80)
            np.testing.assert_allclose(np.asarray(stored), one.anomaly_map, rtol=1e-5)
        with Image.open(tmp_path / row["mask"]) as mask:
            assert mask.size == (32, 80)
        top, left = np.unravel_index(one.anomaly_map.argmax(), one.anomaly_map.shape)
        assert (60 <= top < 80, 4 <= left < 20) == (True, True)  # where the spot was painted
        assert all(box[2] <= 32 and box[3] <= 80 for box in (region.box for region in one.regions))


def test_a_server_says_the_same_and_counts_what_tiles_hold(trained: Path, tmp_path: Path) -> None:
    predictor = Predictor(trained / "model/best.ckpt")
    file = io.BytesIO()
    picture(200, 200, 3).save(file, "PNG")
    with client_of(predictor, kept=KeptParts(tmp_path)) as client:
        answer = client.post("/v1/predict", content=file.getvalue()).json()
        decoding = client.app.state.service.decoding  # type: ignore[attr-defined]
    small = np.asarray(Image.open(tmp_path / f"thumbnails/{answer['part']}.jpg"))
    whole = to_tensor(Image.open(file), 32).permute(1, 2, 0).numpy() * 255
    assert small.shape == whole.shape, "of the whole photo, and no tile's"
    assert np.abs(small - whole).mean() < 8
    expected = predictor(file.getvalue())
    assert answer["score"] == pytest.approx(expected.score, rel=1e-4)
    assert [region["box"] for region in answer["regions"]] == [list(region.box) for region in expected.regions]
    images = Tiles("auto").most_images * 3 * 32 * 32 * 4
    assert decoding.held == 0
    assert decoding.peak > images
    with client_of(predictor, Limits(memory=images)) as client:
        refused = client.post("/v1/predict", content=file.getvalue())
    assert (refused.status_code, "--max_memory" in refused.text) == (400, True)


def test_photos_of_several_sizes_in_one_batch(trained: Path) -> None:
    predictor = Predictor(trained / "model/best.ckpt")
    photos = [picture(32, 80, 5), picture(32, 32, 6), picture(90, 30, 7), picture(1, 200, 8), picture(9, 9, 9)]
    together, alone = predictor(photos), [predictor(photo) for photo in photos]
    for one, other, photo in zip(together, alone, photos, strict=True):
        assert one.size == photo.size
        assert one.score == pytest.approx(other.score, rel=1e-4)
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=1e-4)


@pytest.mark.parametrize(("kind", "name"), [("onnx", "m.onnx"), ("openvino", "m.xml"), ("torch", "m.pt2")])
def test_an_export_is_given_the_same_tiles_and_region(trained: Path, tmp_path: Path, kind: str, name: str) -> None:
    file = tmp_path / name
    with contextlib.chdir(trained):
        options = ["--format", kind, "--output", str(file), "--keep_thresholds"]
        assert main(["export", "--ckpt_path", "model/best.ckpt", *options]) == 0
    assert json.loads(file.with_name(f"{name}.json").read_text())["input"]["tiles"] == "auto"
    photos = [picture(32, 80, 5), picture(32, 32, 6)]
    for category in ("half", "strip"):
        both = (Predictor(model, category=category)(photos) for model in (file, trained / "model/best.ckpt"))
        for one, other in zip(*both, strict=True):
            assert one.score == pytest.approx(other.score, rel=1e-3)
            np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=2e-3)


def test_a_region_of_interest_holds_for_the_photo_as_its_tiles_show_it(trained: Path, tmp_path: Path) -> None:
    """What lies in the lower half is in no map and no region, and no defect there counts in a test."""
    spot, good = (Image.open(next((trained / f"data/half/test/{part}").iterdir())) for part in ("spot", "good"))
    whole, half = (Predictor(trained / "model/best.ckpt", category=name) for name in ("strip", "half"))
    assert whole(spot).anomaly_map[48:].max() > 10 * whole(good).anomaly_map.max()
    seen = half(spot)
    assert not seen.anomaly_map[40:].any()
    assert (seen.anomaly_map[:36] > 0).all()
    assert seen.score < 0.1 * whole(spot).score
    with contextlib.chdir(trained):
        assert main(["test", "--ckpt_path", "model/best.ckpt", "--output", str(tmp_path)]) == 0
    assert "half: outside the region that is inspected lies all of the masks" in (tmp_path / "metrics.md").read_text()


@pytest.mark.parametrize("grid", [Grid((0, 6, 12)), Grid((0, 4), (0, 5)), Grid()])
def test_a_region_is_cut_as_the_photo_is(grid: Grid) -> None:
    """Tiles of a photo that is white where it is inspected are white there."""
    region = torch.zeros(128, 128, dtype=torch.bool)
    region[16:80, :96] = True
    photo = Image.fromarray(region.numpy().astype(np.uint8) * 255).convert("RGB")
    for number, image in enumerate(grid.cut(photo, 32)):
        seen = seen_of(region, Tile(grid, number), 32)
        assert (seen == (image[0] > 0.5)).float().mean() > 0.95
        assert torch.equal(seen, seen_of(at_size(region, 128, 128), Tile(grid, number), 32))


def test_a_region_narrower_than_a_pixel_is_still_inspected() -> None:
    region = torch.zeros(128, 128, dtype=torch.bool)
    region[:, 64] = True
    assert seen_of(region, None, 32).any()
    assert at_size(region, 20, 50).sum() == 20
    assert not seen_of(region, Tile(Grid((0,), (0, 7)), 0), 32).all()


def test_a_region_smaller_than_a_tile_is_scored_as_a_photo_that_shows_no_more() -> None:
    inspection = Inspection(SETTINGS | {"image_size": 16}, {"bolt": torch.arange(64).repeat(64, 1) < 32})
    residual = torch.rand(10, 10, generator=torch.Generator().manual_seed(0))
    scores = []
    for tiles in (1.0, 40 * 40 / 16**2):
        _, maps, *_ = inspection(Detection(torch.zeros(1), [torch.zeros(40, 40)], None, [residual]), ["bolt"])
        scores.append(image_score(maps[0][None, :, :20], "highest", torch.ones(40, 20, dtype=torch.bool), tiles))
    found = inspection(Detection(torch.zeros(1), [torch.zeros(40, 40)], None, [residual]), ["bolt"]).score
    assert scores[0] < found < scores[1]  # of 800 pixels, 256 of which a tile has


def test_int8_is_scaled_by_one_image_of_each_photo(trained: Path) -> None:
    with contextlib.chdir(trained):
        photos = GoodPhotos.of_training(read_about("model/best.ckpt"))
    images = torch.cat(photos.scaling())
    assert len(images) == len(photos.scaled) == 21
    strips = [sample for sample in photos.scaled if sample.category == "strip"]
    cut = Tiles("auto").grid((32, 80), 32).cut(Image.open(strips[1].path).convert("RGB"), 32)
    place = photos.scaled.index(strips[1])
    assert torch.equal(images[place], cut[place % 4])


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_other_tiles_than_those_of_the_training_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    with contextlib.chdir(trained):
        options = ["--data.tiles", "2x2", "--output", str(tmp_path / "out")]
        assert main([verb, "--ckpt_path", "model/best.ckpt", *options]) == 1
    assert "data.tiles is 2x2, but the model was trained with auto" in capsys.readouterr().err


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "strip/train/good"
    folder.mkdir(parents=True)
    for number in range(4):
        picture(32, 80).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"no image")
    data = SIVTDataModule(root=str(tmp_path), image_size=32, tiles="auto")
    with pytest.raises(SIVTError, match=r"3\.png"):
        data.setup("fit")


def test_an_unreadable_photo_of_a_prediction_leaves_the_others(tmp_path: Path) -> None:
    picture(32, 80).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"")
    samples = [Sample(tmp_path / "bad.png", ""), Sample(tmp_path / "good.png", "")]
    dataset = ImageDataset(samples, 32, tiles=Tiles("auto"))
    batch = collate([dataset[0], dataset[1]])
    assert [grid.images for grid in batch.grids] == [1, 4]
    assert len(batch.images) == 5
    assert batch.images[0].eq(0).all()
