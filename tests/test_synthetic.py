"""Synthetic defects: seeded, visible, small, and what the mask says."""

import pytest
import torch
from torch.nn.functional import interpolate

from sivt_lightning.data.synthetic import KINDS, LEAST_PIXELS, VISIBLE, add_defect
from sivt_lightning.seeding import generator_for


def image(side: int = 64) -> torch.Tensor:
    coarse = torch.rand(1, 3, side // 4, side // 4, generator=generator_for(9))
    return interpolate(coarse, size=(side, side), mode="bilinear")[0]


def test_the_mask_is_where_the_change_shows() -> None:
    for seed in range(40):
        changed, mask = add_defect(image(), generator_for(seed))
        assert torch.equal(mask, (changed - image()).abs().mean(0) > VISIBLE)
        assert LEAST_PIXELS / 256**2 <= mask.float().mean() < 0.1
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_a_generator_gives_one_defect() -> None:
    first = add_defect(image(), generator_for(3))[0]
    torch.rand(4)
    assert torch.equal(add_defect(image(), generator_for(3))[0], first)
    assert not torch.equal(add_defect(image(), generator_for(4))[0], first)


def test_a_defect_does_not_depend_on_the_precision_of_a_model() -> None:
    for seed in range(20):
        with torch.autocast("cpu", torch.bfloat16):
            inside = add_defect(image(), generator_for(seed))[0]
        assert torch.equal(inside, add_defect(image(), generator_for(seed))[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [32, 256])
def test_every_kind_changes_a_small_region(kind: str, side: int) -> None:
    shown = 0
    for seed in range(20):
        changed = KINDS[kind](image(side), generator_for(seed))
        assert changed.shape == (3, side, side)
        share = ((changed - image(side)).abs().mean(0) > VISIBLE).float().mean()
        assert share < 0.1, seed
        shown += int(share > 0)
    assert shown >= 15  # what hardly shows is drawn again by add_defect


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_plain_image_still_gets_a_visible_defect(value: float) -> None:
    plain = torch.full((3, 64, 64), value)  # nothing to wear off, to bend or to stray
    for seed in range(20):
        assert add_defect(plain, generator_for(seed))[1].any()


def test_defects_are_rather_on_the_product_than_beside_it() -> None:
    picture = torch.full((3, 64, 64), 0.2)
    product = torch.zeros(64, 64, dtype=torch.bool)
    product[24:40, 24:40] = True  # a sixteenth of the image
    picture[:, product] += 0.5
    hits = 0
    for seed in range(100):
        mask = add_defect(picture, generator_for(seed))[1]
        hits += int((mask & product).any())
    assert hits > 50


def test_a_grey_image_stays_grey() -> None:
    grey = image().mean(0, keepdim=True).expand(3, -1, -1)
    for seed in range(20):
        changed = add_defect(grey, generator_for(seed))[0]
        torch.testing.assert_close(changed[0], changed[2])
