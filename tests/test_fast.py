"""The fast path against the plain one: the same numbers, fewer operations."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from sivt_lightning.model import fast
from sivt_lightning.model.fast import FastReconstructor, induced, mix
from sivt_lightning.model.partition import draw_partition
from sivt_lightning.model.reconstructor import Reconstructor
from sivt_lightning.module import SIVT

SMALL: dict[str, Any] = {"patch_size": 1, "width": 24, "encoder_depth": 3, "decoder_depth": 1, "heads": 4}


def pair(**changes: Any) -> tuple[Reconstructor, FastReconstructor]:
    torch.manual_seed(0)
    plain = Reconstructor(12, 6, **(SMALL | changes))
    quick = FastReconstructor(12, 6, **(SMALL | changes))
    quick.load_state_dict(plain.state_dict())
    return plain, quick


def partitions(length: int, groups: int, count: int = 3) -> torch.Tensor:
    return torch.stack([draw_partition(length, groups, torch.Generator().manual_seed(i)) for i in range(count)])


@pytest.mark.parametrize("groups", range(2, 9))
@pytest.mark.parametrize("changes", [{}, {"encoder_depth": 1, "decoder_depth": 0}, {"patch_size": 2}])
def test_outputs_and_gradients_are_those_of_the_plain_path(groups: int, changes: dict[str, int]) -> None:
    models = [model.double() for model in pair(groups=groups, **changes)]
    features = torch.randn(3, 12, 6, 6, dtype=torch.float64)
    partition = partitions(models[0].length, groups)
    outputs = [model(features, partition) for model in models]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-12)
    for output, model in zip(outputs, models, strict=True):
        output.square().mean().backward()
        assert all(p.grad is not None for p in model.parameters())
    plain, quick = (dict(model.named_parameters()) for model in models)
    for name, parameter in plain.items():
        torch.testing.assert_close(quick[name].grad, parameter.grad, rtol=0, atol=1e-12, msg=name)


def test_the_ablation_too() -> None:
    plain, quick = pair(self_induction=False)
    features, partition = torch.randn(3, 12, 6, 6), partitions(36, 4)
    torch.testing.assert_close(quick(features, partition), plain(features, partition), rtol=1e-5, atol=1e-5)


def test_one_partition_serves_all_images() -> None:
    for model in pair():
        features, partition = torch.randn(3, 12, 6, 6), partitions(36, 4, 1)
        torch.testing.assert_close(model(features, partition), model(features, partition.expand(3, -1)))


@pytest.mark.parametrize("groups", range(1, 9))
def test_each_position_is_found_where_its_sequence_holds_it(groups: int) -> None:
    partition = partitions(37, groups)
    positions, places = induced(partition, groups)
    positions = positions.transpose(0, 1)
    for image in range(3):
        for group in range(groups):
            hidden = (partition[image] == group).nonzero()[:, 0]
            assert set(positions[image, group].tolist()) - {0} == set(hidden.tolist()) - {0}
        assert positions[image].flatten()[places[image]].tolist() == list(range(37))


def test_a_latent_never_depends_on_its_own_token() -> None:
    _, quick = pair()
    tokens, partition = torch.randn(2, 36, 24), partitions(36, 4, 2)
    before = quick.induce(tokens, partition)
    for position in (0, 17, 35):
        changed = tokens.clone()
        changed[:, position] += 10 * torch.randn(24)
        after = quick.induce(changed, partition)
        assert torch.equal(after[:, position], before[:, position])
        assert not torch.equal(after, before)


@pytest.mark.parametrize("chunk", [1, 2000, 2**20])
@pytest.mark.parametrize(("queries", "head", "sharpness"), [(64, 20, 1), (64, 20, 3), (5, 32, 1)])
def test_attention_in_bfloat16(
    queries: int, head: int, sharpness: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and gradients err no more than those of torch's kernel, but for luck."""
    monkeypatch.setattr(fast, "CHUNK", chunk)
    torch.manual_seed(0)
    given = (sharpness * torch.randn(2, 3, tokens, head) for tokens in (queries, 64, 64))
    inputs = [part.bfloat16().requires_grad_() for part in given]
    exact_inputs = [part.detach().double().requires_grad_() for part in inputs]
    direction = torch.randn(2, 3, queries, head).bfloat16()

    def outcome(attention: Callable[..., torch.Tensor], given: list[torch.Tensor]) -> list[torch.Tensor]:
        mixed = attention(*given)
        return [mixed, *torch.autograd.grad(mixed, given, direction.to(mixed.dtype))]

    exact = outcome(scaled_dot_product_attention, exact_inputs)
    fused, ours = outcome(scaled_dot_product_attention, inputs), outcome(mix, inputs)
    for right, theirs, mine in zip(exact, fused, ours, strict=True):
        assert (mine - right).square().mean() < 2 * (theirs - right).square().mean()


def test_attention_keeps_no_scores() -> None:
    """For the backward pass: memory grows with the tokens, not with their square."""
    kept = []
    inputs = [torch.randn(1, 2, 512, 20).bfloat16().requires_grad_() for _ in range(3)]
    with torch.autograd.graph.saved_tensors_hooks(
        lambda saved: kept.append(saved.numel()) or saved, lambda saved: saved
    ):
        mix(*inputs)
    assert sum(kept) < 10 * inputs[0].numel() < 512 * 512


@pytest.mark.parametrize("images", [1, 3])
def test_nothing_is_computed_twice_or_thrown_away(images: int) -> None:
    plain, quick = (model.eval() for model in pair())
    features, partition = torch.randn(images, 12, 6, 6), partitions(36, 4, 1)
    operations = []
    for model in (plain, quick):
        # Attention as plain products: torch's counter knows no fused kernel of the CPU before torch 2.15.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(features, partition)
        operations.append(counter.get_total_flops() / 2)
    sequences, length, width = 4 * images, 36, 24
    left_out = sequences * (length - length // 4)  # tokens whose outputs nobody collects
    # query, projection and MLP of each, and its row of the two attention products
    of_the_last = left_out * (width**2 * (1 + 1 + 8) + 2 * length * width)
    shared = (
        sequences - images - 1
    )  # whose query, key and value other sequences have, too, but for the induction tokens
    assert operations[0] - operations[1] == of_the_last + shared * length * 3 * width**2


def test_the_model_takes_the_fast_path() -> None:
    assert isinstance(SIVT(backbone="resnet18", strides=[4, 8]).detector.reconstructor, FastReconstructor)
