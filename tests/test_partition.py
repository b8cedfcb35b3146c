import itertools

import pytest
import torch

from sivt_lightning.model.attention import pick
from sivt_lightning.model.partition import draw_partition, induced, substitute
from sivt_lightning.seeding import generator_for


@pytest.mark.parametrize(("groups", "length"), list(itertools.product(range(1, 9), [8, 9, 49, 256, 1024])))
def test_groups_are_disjoint_complete_and_even(groups: int, length: int) -> None:
    partition = draw_partition(length, groups, generator_for(0))
    assert partition.shape == (length,)
    assert partition.dtype == torch.int64
    sizes = partition.bincount(minlength=groups)  # one index a position makes groups disjoint, their union everything
    assert len(sizes) == groups
    assert sizes.max() - sizes.min() <= 1


def test_partitions_differ_between_keys_and_repeat_for_a_key() -> None:
    def draw(*key: int) -> torch.Tensor:
        return draw_partition(256, 4, generator_for(*key))

    first = draw(0, 1, 2)
    torch.rand(7)  # the running generator has no part in it
    assert torch.equal(first, draw(0, 1, 2))
    for other in [(1, 1, 2), (0, 2, 2), (0, 1, 3)]:  # seed, epoch, image
        assert not torch.equal(first, draw(*other))


def test_every_position_meets_every_group() -> None:
    drawn = torch.stack([draw_partition(16, 4, generator_for(5, i)) for i in range(200)])
    share = torch.stack([(drawn == group).float().mean(0) for group in range(4)])
    assert share.min() > 0.1  # 0.25 expected at each of the positions
    assert share.max() < 0.4


def drawn(length: int, groups: int, images: int) -> torch.Tensor:
    return torch.stack([draw_partition(length, groups, generator_for(1, i)) for i in range(images)])


def test_sequences_follow_equation_1() -> None:
    batch, length, groups, width = 2, 10, 3, 5
    tokens, induction = torch.randn(batch, length, width), torch.randn(length, width)
    partition = drawn(length, groups, batch)
    sequences = substitute(tokens, induction, partition, groups)
    assert sequences.shape == (groups * batch, length, width)
    for group, image, position in itertools.product(range(groups), range(batch), range(length)):
        hidden = partition[image, position] == group
        expected = induction[position] if hidden else tokens[image, position]
        assert torch.equal(sequences[group * batch + image, position], expected)


@pytest.mark.parametrize("groups", range(1, 9))
def test_each_position_is_found_where_its_sequence_holds_it(groups: int) -> None:
    partition = drawn(37, groups, 3)
    positions, places = induced(partition, groups)
    positions = positions.transpose(0, 1)
    for image in range(3):
        for group in range(groups):
            hidden = (partition[image] == group).nonzero()[:, 0]
            assert set(positions[image, group].tolist()) - {0} == set(hidden.tolist()) - {0}
        assert positions[image].flatten()[places[image]].tolist() == list(range(37))


def test_what_is_collected_is_the_induction_sequence_where_nothing_comes_between() -> None:
    tokens, induction, partition = torch.randn(2, 10, 5), torch.randn(10, 5), drawn(10, 3, 2)
    positions, places = induced(partition, 3)
    collected = pick(substitute(tokens, induction, partition, 3), positions.flatten(0, 1))
    by_image = collected.unflatten(0, (3, 2)).transpose(0, 1).flatten(1, 2)
    assert torch.equal(pick(by_image, places), induction.expand(2, -1, -1))
