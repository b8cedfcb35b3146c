import itertools

import pytest
import torch

from sivt_lightning.model.partition import collect, draw_partition, generator_for, substitute


@pytest.mark.parametrize(("groups", "length"), list(itertools.product(range(1, 9), [8, 9, 49, 256, 1024])))
def test_groups_are_disjoint_complete_and_even(groups: int, length: int) -> None:
    partition = draw_partition(3, length, groups, generator_for(0))
    assert partition.shape == (3, length)
    assert partition.dtype == torch.int64
    for row in partition:  # one index a position makes groups disjoint and their union everything
        sizes = row.bincount(minlength=groups)
        assert len(sizes) == groups
        assert sizes.max() - sizes.min() <= 1


def test_partitions_differ_between_images_and_keys_and_repeat_for_a_key() -> None:
    def draw(*key: int) -> torch.Tensor:
        return draw_partition(4, 256, 4, generator_for(*key))

    first = draw(0, 1, 2, 3)
    torch.rand(7)  # the running generator has no part in it
    assert torch.equal(first, draw(0, 1, 2, 3))
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(first, 2))
    for other in [(1, 1, 2, 3), (0, 2, 2, 3), (0, 1, 3, 3), (0, 1, 2, 4)]:  # seed, epoch, step, rank
        assert not torch.equal(first, draw(*other))


def test_every_position_meets_every_group() -> None:
    drawn = draw_partition(200, 16, 4, generator_for(5))
    share = torch.stack([(drawn == group).float().mean(0) for group in range(4)])
    assert share.min() > 0.1  # 0.25 expected at each of the positions
    assert share.max() < 0.4


def test_substitute_and_collect_follow_equation_1() -> None:
    batch, length, groups, width = 2, 10, 3, 5
    tokens, induction = torch.randn(batch, length, width), torch.randn(length, width)
    partition = draw_partition(batch, length, groups, generator_for(1))
    sequences = substitute(tokens, induction, partition, groups)
    assert sequences.shape == (groups * batch, length, width)
    for group, image, position in itertools.product(range(groups), range(batch), range(length)):
        hidden = partition[image, position] == group
        expected = induction[position] if hidden else tokens[image, position]
        assert torch.equal(sequences[group * batch + image, position], expected)
    # with nothing between the two, what is collected is exactly the induction sequence
    assert torch.equal(collect(sequences, partition, groups), induction.expand(batch, -1, -1))
