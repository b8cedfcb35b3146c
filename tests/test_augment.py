"""Augmentation: off by default, seeded by image and epoch, and only ever of training images."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sivt_lightning.data.augment import Augmentation
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.data.dataset import Batch
from sivt_lightning.data.grid import Grid
from sivt_lightning.errors import SIVTError
from sivt_lightning.seeding import generator_for


def generators(count: int, epoch: int = 0) -> list[torch.Generator]:
    return [generator_for(0, epoch, i, 1) for i in range(count)]


def pictures(count: int = 16) -> torch.Tensor:
    ramp = torch.linspace(0.2, 0.8, 32)
    return torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.full((32, 32), 0.5)]).repeat(
        count, 1, 1, 1
    )


def test_nothing_is_changed_by_default() -> None:
    assert not Augmentation()
    images = pictures(2)
    assert torch.equal(Augmentation()(images, generators(2)), images)


def test_flips_mirror_half_of_the_images() -> None:
    images = pictures(64)
    for flip, axes in (("horizontal", {-1}), ("vertical", {-2}), ("both", {-1, -2})):
        changed = Augmentation(flip=flip)(images, generators(64))  # type: ignore[arg-type]
        for axis, channel in ((-1, 0), (-2, 1)):
            mirrored = (changed[:, channel] == images[:, channel].flip(axis)).flatten(1).all(1)
            assert mirrored.sum().item() in (range(20, 45) if axis in axes else [0])


def test_shift_and_rotation_move_the_picture_and_bring_in_no_black() -> None:
    images = pictures()
    shifted = Augmentation(shift=0.125)(images, generators(16))
    moved = ((images - shifted)[:, 0, 16, 16] / (0.6 / 31)).tolist()  # pixels: the ramp's slope is known
    assert max(map(abs, moved)) <= 4.01
    assert max(moved) > 1
    assert min(moved) < -1
    turned = Augmentation(rotation=30)(images, generators(16))
    slopes = torch.stack([turned[:, 0, 16, 17] - turned[:, 0, 16, 15], turned[:, 0, 17, 16] - turned[:, 0, 15, 16]])
    angles = torch.rad2deg(torch.atan2(slopes[1], slopes[0]))
    assert angles.abs().max() <= 30.1
    assert angles.min() < -5
    assert angles.max() > 5
    for changed in (shifted, turned):
        assert changed.min() >= 0.19
        assert changed.max() <= 0.81


def test_light_changes_brightness_and_contrast_within_the_range() -> None:
    images = pictures()
    lit = Augmentation(light=0.2)(images, generators(16))
    gain = lit[:, 2].mean((1, 2)) / 0.5
    contrast = lit.std((1, 2, 3)) / images.std((1, 2, 3)) / gain
    for factor in (gain, contrast):
        assert 0.78 < factor.min() < 0.95
        assert 1.05 < factor.max() < 1.22
    assert lit.min() >= 0
    assert lit.max() <= 1


def test_an_image_is_changed_alike_in_any_batch_and_otherwise_in_the_next_epoch() -> None:
    change, images = Augmentation(10, 0.1, "both", 0.2), torch.rand(6, 3, 32, 32)
    together = change(images, generators(6))
    torch.rand(3)
    torch.testing.assert_close(change(images[4:5], [generator_for(0, 0, 4, 1)])[0], together[4])
    assert not torch.allclose(change(images, generators(6, epoch=1)), together)


def batch(size: int = 4) -> Batch:
    return Batch(
        torch.rand(size, 3, 32, 32),
        [torch.zeros(32, 32, dtype=torch.bool)] * size,
        torch.arange(size),
        [""] * size,
        [None] * size,
        [""] * size,
        [Grid()] * size,
    )


@pytest.mark.parametrize(("training", "changed"), [(True, True), (False, False)])
def test_only_training_batches_are_augmented(tiny_data: Path, training: bool, changed: bool) -> None:
    data = SIVTDataModule(str(tiny_data), image_size=32, flip="both", light=0.5)
    data.trainer = SimpleNamespace(training=training, current_epoch=2)  # type: ignore[assignment]
    given = batch()
    assert (not torch.equal(data.on_after_batch_transfer(given, 0).images, given.images)) == changed


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rotation": 181.0}, "data.rotation"),
        ({"shift": -0.1}, "data.shift"),
        ({"light": 1.5}, "data.light"),
        ({"light": float("nan")}, "data.light"),
        ({"flip": "both", "cache": "memory"}, "data.cache is memory"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SIVTError, match=sentence):
        SIVTDataModule(**settings)
