"""Synthetic defects: seeded, visible, small, and what the mask says."""

import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_max_pool2d, cosine_similarity, interpolate, max_pool2d

from sivt_lightning.data.synthetic import KINDS, LEAST_PIXELS, LONGEST_SIDE, VISIBLE, add_defect, harmless, twins
from sivt_lightning.seeding import generator_for


def image(side: int = 64) -> torch.Tensor:
    coarse = torch.rand(1, 3, side // 4, side // 4, generator=generator_for(9))
    return interpolate(coarse, size=(side, side), mode="bilinear")[0]


def other(side: int = 64) -> torch.Tensor:
    return torch.rand(3, side, side, generator=generator_for(8))


def test_the_mask_is_where_the_change_shows() -> None:
    for seed in range(40):
        changed, mask = add_defect(image(), other(), generator_for(seed))
        assert torch.equal(mask, (changed - image()).abs().mean(0) > VISIBLE)
        assert LEAST_PIXELS / 256**2 <= mask.float().mean() < 0.1
        assert changed.min() >= 0
        assert changed.max() <= 1


def photo(width: int, height: int) -> Image.Image:
    pixels = interpolate(image(64)[None], size=(height, width), mode="bilinear")[0]
    return Image.fromarray((pixels.permute(1, 2, 0) * 255).byte().numpy())


@pytest.mark.parametrize("shape", [(1, 1), (40, 40), (200, 120), (1500, 900)])
def test_models_of_all_sizes_are_given_the_same_twins(shape: tuple[int, int]) -> None:
    for seed in range(4):
        changes, goods, masks = [], [], []
        for size in (64, 192):
            good, bad, mask = twins(photo(*shape), photo(30, 30), size, generator_for(seed))
            for parts, part in ((changes, bad - good), (goods, good)):
                parts.append(interpolate(part[None], size=(64, 64), mode="bilinear", antialias=True).flatten())
            masks.append(adaptive_max_pool2d(mask[None].float(), 64))
        assert cosine_similarity(*changes, dim=0) > 0.9, seed  # not 1: the second was resized twice
        assert (goods[0] - goods[1]).abs().mean() < 0.02, seed
        assert (masks[0] <= masks[1]).all(), seed
        assert (masks[1] <= max_pool2d(masks[0], 3, 1, 1)).all(), seed  # by a pixel more at most


def test_beside_the_defect_the_twins_are_the_same() -> None:
    for seed in range(6):  # larger than what defects are made in
        good, bad, mask = twins(photo(1500, 900), photo(100, 80), 128, generator_for(seed))
        assert mask.any()
        assert ((bad - good).abs() < 0.5 / 255).all(0).float().mean() > 0.9, seed
        assert ((bad - good).abs().mean(0) > VISIBLE)[~mask].float().mean() < 0.01, seed


def test_a_harmless_change_changes_a_little_everywhere() -> None:
    changes = []
    for seed in range(20):
        changed = harmless(image(128), generator_for(seed))
        assert changed.shape == (3, 128, 128)
        assert 0 <= changed.min() < changed.max() <= 1
        changes.append((changed - image(128)).abs().mean())
        assert cosine_similarity((changed - 0.5).flatten(), (image(128) - 0.5).flatten(), dim=0) > 0.5, seed
    assert min(changes) > 0.005
    assert max(changes) < 0.15


@pytest.mark.parametrize(("side", "size"), [(40, 32), (100, 64), (256, 64), (1040, 32)])
def test_a_shrunk_defect_is_still_in_its_mask(side: int, size: int) -> None:
    assert all(twins(photo(side, side), photo(9, 9), size, generator_for(seed)).mask.any() for seed in range(40))


def test_a_defect_is_made_in_no_more_pixels_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    sides: list[int] = []
    monkeypatch.setattr(
        "sivt_lightning.data.synthetic.add_defect",
        lambda image, *_: (sides.append(image.shape[-1]), (image, torch.zeros(image.shape[1:], dtype=torch.bool)))[1],
    )
    for shape in ((40, 40), (200, 120), (1500, 900)):
        twins(photo(*shape), photo(2000, 2000), 64, generator_for(0))
    assert sides == [64, 200, LONGEST_SIDE]


def test_a_generator_gives_one_defect() -> None:
    first = add_defect(image(), other(), generator_for(3))[0]
    torch.rand(4)
    assert torch.equal(add_defect(image(), other(), generator_for(3))[0], first)
    assert not torch.equal(add_defect(image(), other(), generator_for(4))[0], first)


def test_twins_do_not_depend_on_the_precision_of_a_model() -> None:
    for seed in range(20):
        with torch.autocast("cpu", torch.bfloat16):
            inside = twins(photo(64, 64), photo(30, 30), 64, generator_for(seed))
        outside = twins(photo(64, 64), photo(30, 30), 64, generator_for(seed))
        assert all(torch.equal(*pair) for pair in zip(inside, outside, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [32, 256])
def test_every_kind_changes_a_small_region(kind: str, side: int) -> None:
    shown = 0
    for seed in range(20):
        changed = KINDS[kind](image(side), other(side), generator_for(seed))
        assert changed.shape == (3, side, side)
        share = ((changed - image(side)).abs().mean(0) > VISIBLE).float().mean()
        assert share < 0.1, seed
        shown += int(share > 0)
    assert shown >= 15  # what hardly shows is drawn again by add_defect


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_plain_image_still_gets_a_visible_defect(value: float) -> None:
    plain = torch.full((3, 64, 64), value)  # nothing to miss, to double or to stray
    for seed in range(20):
        assert add_defect(plain, plain, generator_for(seed))[1].any()


def test_defects_are_rather_on_the_product_than_beside_it() -> None:
    picture = torch.full((3, 64, 64), 0.2)
    product = torch.zeros(64, 64, dtype=torch.bool)
    product[24:40, 24:40] = True  # a sixteenth of the image
    picture[:, product] += 0.5
    hits = 0
    for seed in range(100):
        mask = add_defect(picture, other(), generator_for(seed))[1]
        hits += int((mask & product).any())
    assert hits > 50


def test_a_grey_image_stays_grey() -> None:
    grey = image().mean(0, keepdim=True).expand(3, -1, -1)
    for seed in range(20):
        changed = add_defect(grey, grey, generator_for(seed))[0]
        torch.testing.assert_close(changed[0], changed[2])
