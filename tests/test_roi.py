"""Regions of interest: where they are read from, and that what lies outside counts for nothing in any part."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from trees import masks, numbered, photos

from sivt_lightning.cli import main
from sivt_lightning.data.asked import predict_samples
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.layouts import test_samples as samples_for_test
from sivt_lightning.data.layouts import train_samples
from sivt_lightning.data.roi import find_roi, read_roi, regions_of
from sivt_lightning.data.samples import Sample
from sivt_lightning.data.synthetic import twins
from sivt_lightning.errors import SIVTError
from sivt_lightning.evaluation.metrics.ranking import PixelRanking
from sivt_lightning.evaluation.tally import Tally
from sivt_lightning.inference.inspection import Inspection
from sivt_lightning.inference.thresholds import held_of
from sivt_lightning.model.averaging import Averaging
from sivt_lightning.model.detection import Detection
from sivt_lightning.model.image_score import image_score
from sivt_lightning.model.loss import reconstruction_loss
from sivt_lightning.model.memory_bank import MemoryBank
from sivt_lightning.seeding import generator_for
from sivt_lightning.training.remembering import remember

WIDE, HIGH = 12, 8  # of photos of `trees`
SQUARE = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]
LEFT = torch.arange(16).repeat(16, 1) < 8


def draw(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (WIDE, HIGH), value: int = 255) -> Path:
    """A region that is white within a box."""
    path.parent.mkdir(parents=True, exist_ok=True)
    region = Image.new("L", size)
    region.paste(value, box)
    region.save(path)
    return path


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# -- where they are read from ----------------------------------------------------------------------------------------


def test_a_picture_says_it_by_white_or_by_what_is_visible(tmp_path: Path) -> None:
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, :4] = True
    assert torch.equal(read_roi(draw(tmp_path / "roi.png", (0, 2, 6, 6)), 8), expected)
    assert torch.equal(read_roi(draw(tmp_path / "faint.png", (0, 2, 6, 6), value=1), 8), expected)
    clear = Image.new("RGBA", (WIDE, HIGH), (255, 255, 255, 0))
    clear.paste((255, 255, 255, 255), (0, 2, 6, 6))
    clear.save(tmp_path / "clear.png")
    assert torch.equal(read_roi(tmp_path / "clear.png", 8), expected)


def test_polygons_say_it_in_fractions(tmp_path: Path) -> None:
    file = tmp_path / "roi.json"
    file.write_text(json.dumps({"inspect": [SQUARE]}))
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[8:24, 8:24] = True
    assert torch.equal(read_roi(file, 32), expected)
    file.write_text(json.dumps({"ignore": [SQUARE]}))
    assert torch.equal(read_roi(file, 32), ~expected)
    file.write_text(json.dumps({"inspect": [[[0, 0], [1, 0], [1, 1], [0, 1]]], "ignore": [SQUARE]}))
    assert torch.equal(read_roi(file, 32), ~expected)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"see": []}',
        '{"inspect": 1}',
        '{"inspect": [[[0.1, 0.1], [0.9, 0.1]]]}',
        '{"inspect": [[[0, 0], [9, 0], [9, 9]]]}',
        '{"inspect": [[["a", 0], [1, 0], [1, 1]]]}',
        '{"inspect": [[[0, 0, 0], [1, 0, 0], [1, 1, 0]]]}',
    ],
)
def test_json_of_another_shape_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "roi.json").write_text(content)
    with pytest.raises(SIVTError, match=r"roi\.json cannot be read as a region of interest: give polygons"):
        read_roi(tmp_path / "roi.json", 32)


def test_what_cannot_be_a_region_is_refused(tmp_path: Path) -> None:
    photos(tmp_path, *numbered("a", 3))
    samples = [Sample(tmp_path / "a/000.png", "bolt", roi_path=tmp_path / "roi.png")]
    draw(tmp_path / "roi.png", (0, 0, 0, 0))
    with pytest.raises(SIVTError, match=r"roi\.png leaves nothing to inspect \(at 16 x 16"):
        regions_of(samples, 16)
    (tmp_path / "roi.png").write_text("no picture")
    with pytest.raises(SIVTError, match=r"roi\.png cannot be read: it is not a valid PNG"):
        regions_of(samples, 16)
    draw(tmp_path / "roi.png", (0, 0, 4, 4), (HIGH, WIDE))
    with pytest.raises(SIVTError, match=r"is 8 x 12 pixels, which is not the shape of the photo .*000\.png \(12 x 8\)"):
        regions_of(samples, 16)
    (tmp_path / "roi.json").write_text("{}")
    with pytest.raises(SIVTError, match=r"holds roi\.json and roi\.png, which each say what is inspected: keep one"):
        find_roi(tmp_path)


def test_a_region_of_all_is_none(tmp_path: Path) -> None:
    photos(tmp_path, *numbered("a", 1))
    whole = draw(tmp_path / "roi.png", (0, 0, WIDE, HIGH))
    regions, said = regions_of([Sample(tmp_path / "a/000.png", "bolt", roi_path=whole)], 16)
    assert (regions, len(said)) == ({}, 1)


def test_it_lies_beside_the_photos_of_a_product_and_is_none(tmp_path: Path) -> None:
    photos(tmp_path / "mvtec/bolt", *numbered("train/good", 3), *numbered("test/good", 1), *numbered("test/bad", 1))
    masks(tmp_path / "mvtec/bolt", "ground_truth/bad/000_mask.png")
    photos(tmp_path, *numbered("plain/bolt", 3), *numbered("good/bolt/ok", 3))
    photos(tmp_path, *numbered("both/bolt/good", 6), *numbered("both/bolt/bad", 2), *numbered("lots/bolt/lot1", 2))
    photos(tmp_path, *numbered("lots/bolt/lot2", 2))
    for root in ("mvtec", "plain", "good", "both", "lots"):
        folder = tmp_path / root / "bolt"
        before = {sample.path for sample in train_samples(tmp_path / root, None).samples}
        roi = draw(folder / "ROI.png", (0, 0, 4, 4))
        samples, left_out = train_samples(tmp_path / root, None)
        assert {sample.path for sample in samples} == before
        assert {sample.roi_path for sample in samples} == {roi}
        assert "ROI" not in " ".join(left_out)
    assert {sample.roi_path.name for sample in samples_for_test(tmp_path / "mvtec", None).samples if sample.roi_path}


def test_one_that_lies_elsewhere_is_told(tmp_path: Path) -> None:
    photos(tmp_path, *numbered("bolt/train/good", 3), *numbered("nut/train/good", 3), "roi.png")
    assert f"In {tmp_path}, not part of any category: roi.png." in train_samples(tmp_path, None).left_out
    photos(tmp_path, "bolt/train/good/roi.png")
    with pytest.raises(SIVTError, match=r"roi\.png lies among the photos, but is named like a region of interest"):
        train_samples(tmp_path, None)


def test_a_prediction_leaves_it_out(tmp_path: Path) -> None:
    photos(tmp_path, "bolt/a.png", "bolt/roi.png")
    asked = predict_samples([tmp_path])
    assert [sample.path.name for sample in asked.samples] == ["a.png"]
    assert asked.left_out == [f"Regions of interest are no photos, so left out of {tmp_path}: bolt/roi.png."]
    assert len(predict_samples([tmp_path / "bolt/roi.png"]).samples) == 1


def test_a_list_names_it_once_for_a_product(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos(tmp_path, *numbered("bolt", 3), *numbered("nut", 3))
    draw(tmp_path / "bolt/roi.png", (0, 0, 4, 4))
    assert main(["data", "list", str(tmp_path), "--output", str(tmp_path / "a.csv")]) == 0
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0].endswith(",mask,roi")
    assert [line.endswith("bolt/roi.png") for line in lines[1:]] == [True] * 3 + [False] * 3
    lines[2] = lines[2].removesuffix("bolt/roi.png")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    found = {sample.path: sample.roi_path for sample in train_samples(tmp_path / "a.csv", None).samples}
    assert found == {sample.path: sample.roi_path for sample in train_samples(tmp_path, None).samples}
    draw(tmp_path / "other.png", (0, 0, 4, 4))
    lines[3] = lines[3].replace("bolt/roi.png", "other.png")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(SIVTError, match=r"a\.csv, line 4: its roi is .*other\.png, but that of line 2, of the same"):
        train_samples(tmp_path / "a.csv", None)


# -- what is learned, remembered and made up -------------------------------------------------------------------------


def test_the_loss_is_a_mean_over_what_is_inspected() -> None:
    features, rebuilt = drawn(2, 3, 4, 4), drawn(2, 3, 4, 4, seed=1).requires_grad_()
    counted = torch.zeros(2, 4, 4)
    counted[0, :, :2] = counted[1, 1, 1] = 1
    loss = reconstruction_loss(features, rebuilt, 2.0, counted)
    alone = reconstruction_loss(features[:1, :, :, :2], rebuilt[:1, :, :, :2], 2.0)
    torch.testing.assert_close(loss[:1], alone)
    loss.sum().backward()
    assert rebuilt.grad is not None
    assert torch.equal(rebuilt.grad.abs().sum(1) > 0, counted > 0)
    torch.testing.assert_close(
        reconstruction_loss(features, rebuilt, 2.0, torch.ones(2, 4, 4)), reconstruction_loss(features, rebuilt, 2.0)
    )


@pytest.fixture
def half(tmp_path: Path) -> SIVTDataModule:
    """Photos of a product, whose right half is red and not inspected, and of another that is inspected everywhere."""
    photo = Image.new("RGB", (16, 16), (0, 200, 0))
    photo.paste((200, 0, 0), (8, 0, 16, 16))
    for name in ("bolt", "nut"):
        (tmp_path / "half" / name).mkdir(parents=True)
        for number in range(3):
            photo.save(tmp_path / "half" / name / f"{number}.png")
    draw(tmp_path / "half/bolt/roi.png", (0, 0, 8, 16), (16, 16))
    data = SIVTDataModule(str(tmp_path / "half"), image_size=16, num_workers=0, rotation=20.0, shift=0.2, flip="both")
    data.setup("fit")
    return data


def test_it_moves_with_the_images_of_a_training(half: SIVTDataModule) -> None:
    """And so a position counts where it shows a part of the photo that is inspected."""
    names = [sample.category for sample in half.train_set.samples]
    moved = set()
    for epoch in range(4):
        batch = half._augmented(next(half.batches(half.train_set.samples)), epoch)
        seen = half.inspected(half.train_set, batch.index.tolist(), epoch)
        for name, image, region in zip(names, batch.images, seen, strict=True):
            green = image[1] > image[0]
            assert (region == green).float().mean() > 0.97 if name == "bolt" else region.all()
            moved.add(int(region.sum()))
    assert len(moved) > 3
    held_out = half.inspected(half.val_set, range(2), 3)
    assert torch.equal(held_out, torch.stack([LEFT, torch.ones(16, 16, dtype=torch.bool)]))


def test_the_bank_remembers_nothing_from_outside(half: SIVTDataModule) -> None:
    half.augmentation = half.augmentation._replace(rotation=0.0, shift=0.0)
    bank = MemoryBank(4, 3)
    remember(bank, half, lambda batch: batch.images[:, :, ::4, ::4], seed=0)  # type: ignore[union-attr]
    colours = {tuple(round(value * 255) for value in vector) for vector in bank.vectors.tolist()}
    assert colours == {(0, 200, 0), (200, 0, 0)}  # the latter by the product that has no region
    half.train_set.samples = [sample for sample in half.train_set.samples if sample.category == "bolt"]
    remember(bank, half, lambda batch: batch.images[:, :, ::4, ::4], seed=0)  # type: ignore[union-attr]
    assert {tuple(round(value * 255) for value in vector) for vector in bank.vectors.tolist()} == {(0, 200, 0)}


@pytest.mark.parametrize("box", [(0, 0, 20, 20), (0, 60, 64, 64)])  # the latter lies along the border
def test_synthetic_defects_are_made_inside(box: tuple[int, int, int, int]) -> None:
    inspected = torch.zeros(64, 64, dtype=torch.bool)
    inspected[box[1] : box[3], box[0] : box[2]] = True
    values = (drawn(64, 64, 3) * 60 + 90).byte().numpy()
    photo = Image.fromarray(values)
    for seed in range(8):
        good, bad, mask = twins(photo, photo, 64, generator_for(seed), inspected)
        assert mask.any()
        assert not (mask & ~inspected).any()
        assert ((good - bad).abs().sum(0)[inspected] > 0).any()


# -- map, score and figures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_nothing_outside_shines_into_the_map(power: float) -> None:
    averaging = Averaging(4, power, 2.0)
    residual = drawn(2, 8, 8) * 4
    glaring = residual.clone()
    glaring[:, :, 4:] += 20
    left = torch.arange(32).repeat(32, 1) < 16
    maps = averaging.within(residual, left)
    assert torch.equal(averaging.within(glaring, left), maps)
    assert not (averaging(glaring)[:, left] <= maps[:, left] * 1.1).all()  # as it would without a region
    assert (maps[:, ~left] == 0).all()
    assert (maps[:, left] > 0).all()
    flat = averaging.within(torch.full((1, 8, 8), 0.5), left)
    torch.testing.assert_close(flat[:, left], torch.full((1, 512), 0.5).exp())
    whole = averaging.within(residual, torch.ones(32, 32, dtype=torch.bool))
    torch.testing.assert_close(whole, averaging(residual))


@pytest.mark.parametrize("kind", ["highest", "deviation"])
def test_the_score_is_that_of_the_pixels_inspected(kind: Any) -> None:
    maps = drawn(2, 16, 16)
    expected = maps[:, LEFT]
    expected = expected.std(1, correction=0) if kind == "deviation" else expected.sort(1).values[:, -1:].mean(1)
    torch.testing.assert_close(image_score(maps, kind, LEFT), expected)
    changed = torch.where(LEFT, maps, 100)
    assert torch.equal(image_score(changed, kind, LEFT), image_score(maps, kind, LEFT))


def test_without_a_region_nothing_is_touched() -> None:
    detection = Detection(drawn(2), drawn(2, 16, 16), drawn(2, 3), drawn(2, 4, 4))
    inspection = Inspection({"image_size": 16, "image_score": "highest"}, {"bolt": LEFT})
    assert inspection(detection, ["nut", None]) is detection
    score, maps, *_ = inspection(Detection(*detection[:3]), ["nut", "bolt"])
    assert torch.equal(score[0], detection.score[0])
    assert torch.equal(maps[0], detection.map[0])
    assert torch.equal(maps[1], torch.where(LEFT, detection.map[1], 0))


def test_it_is_kept_as_plain_text() -> None:
    settings = {"image_size": 16, "image_score": "highest"}
    kept = Inspection(settings, {"bolt": LEFT, "nut": ~LEFT})
    stored = json.loads(json.dumps(kept.plain()))
    assert Inspection.from_plain(stored, settings).same_as(kept)
    assert not Inspection(settings, {"bolt": LEFT}).same_as(kept)
    assert sum(map(len, stored.values())) < 400
    empty = Inspection(settings, {"bolt": torch.zeros_like(LEFT)}).plain()
    for damaged in ({"bolt": "?"}, {"bolt": 3}, [], {"bolt": stored["bolt"][:40]}, empty):
        with pytest.raises(SIVTError, match="regions of interest are damaged"):
            Inspection.from_plain(damaged, settings)
    with pytest.raises(SIVTError, match=r"one is of 16 x 16 pixels"):
        Inspection.from_plain(stored, settings | {"image_size": 32})


def test_thresholds_rest_on_pixels_inspected() -> None:
    maps = drawn(2, 16, 16)
    bolt, nut = held_of(["bolt", "nut"], torch.ones(2), maps, {"bolt": LEFT})
    np.testing.assert_array_equal(bolt.pixels, maps[0][LEFT])
    np.testing.assert_array_equal(nut.pixels, maps[1, ::4, ::4].flatten())


def ranked(maps: torch.Tensor, truth: torch.Tensor, inspected: torch.Tensor | None = None) -> dict[str, float]:
    metric = PixelRanking()
    metric.update(maps, truth, inspected)
    return {name: figure.value for name, figure in metric.figures().items()}


def test_pixel_figures_are_of_pixels_inspected() -> None:
    """And regions of the per-region overlap are cut to them."""
    maps, truth = drawn(3, 16, 16), torch.zeros(3, 16, 16, dtype=torch.bool)
    truth[0, 2:6, 5:12] = truth[1, 9:11, 1:4] = truth[2, 3:5, 12:15] = True
    assert ranked(maps, truth, LEFT) == ranked(maps[:, :, :8].contiguous(), truth[:, :, :8].contiguous())
    changed = torch.where(LEFT, maps, 9)
    assert ranked(changed, truth, LEFT) == ranked(maps, truth, LEFT)
    assert ranked(changed, truth) != ranked(maps, truth)


def test_a_defect_outside_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    samples = [Sample(path, "bolt", number > 0, mask_path=path) for number, path in enumerate(paths)]
    truth = torch.zeros(3, 16, 16, dtype=torch.bool)
    truth[1, 2:4, 2:4] = truth[2, 2:4, 10:14] = True
    for side in (16, 32):  # at their own size, too
        tally = Tally(samples, {"bolt": LEFT})
        sized = truth.repeat_interleave(side // 16, 1).repeat_interleave(side // 16, 2)
        tally.update([0, 1, 2], drawn(3), drawn(3, 16, 16), list(sized))
        notes = " ".join(tally.outcome().notes)
        assert f"outside the region that is inspected lies all of the masks of {paths[2]}, so" in notes
