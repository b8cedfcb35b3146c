"""Synthetic defects: seeded, visible, local, and what the mask says."""

import pytest
import torch

from sivt_lightning.data.synthetic import KINDS, LEAST_CHANGE, add_defect
from sivt_lightning.seeding import generator_for


def image(side: int = 64) -> torch.Tensor:
    return (
        torch.rand(3, side // 4, side // 4, generator=generator_for(9)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    )


def test_the_mask_is_where_the_image_was_changed() -> None:
    for seed in range(40):
        changed, mask = add_defect(image(), generator_for(seed))
        assert torch.equal(mask, (changed != image()).any(0))
        assert 0 < mask.float().mean() < 0.1
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert (changed - image()).abs()[:, mask].mean() > LEAST_CHANGE


def test_a_generator_gives_one_defect() -> None:
    first = add_defect(image(), generator_for(3))[0]
    torch.rand(4)
    assert torch.equal(add_defect(image(), generator_for(3))[0], first)
    assert not torch.equal(add_defect(image(), generator_for(4))[0], first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [32, 256])
def test_every_kind_marks_a_small_region(kind: str, side: int) -> None:
    for seed in range(20):
        changed, region = KINDS[kind](image(side), generator_for(seed))
        assert changed.shape == (3, side, side)
        assert 0 < region.float().mean() < 0.1, seed


def test_a_plain_image_still_gets_a_visible_defect() -> None:
    plain = torch.full((3, 64, 64), 0.5)  # nothing to cut, to move or to miss
    for seed in range(20):
        changed, mask = add_defect(plain, generator_for(seed))
        assert (changed - plain).abs()[:, mask].mean() > LEAST_CHANGE
