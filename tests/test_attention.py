"""Attention and the block around it: by some tokens, in parts, and in bfloat16."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from sivt_lightning.model import attention
from sivt_lightning.model.attention import Attention, mix, pick
from sivt_lightning.model.transformer import Block

POSITIONS = torch.tensor([[4, 0, 4], [8, 1, 3]])


@pytest.mark.parametrize("layer", [Attention(24, 4), Block(24, 4, 2.0)])
def test_some_tokens_get_what_they_get_among_all(layer: Attention | Block) -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 9, 24, requires_grad=True)
    some, of_all = layer(tokens, POSITIONS), pick(layer(tokens), POSITIONS)
    torch.testing.assert_close(some, of_all)
    inputs = [tokens, *layer.parameters()]
    gradients = [torch.autograd.grad(part.square().sum(), inputs) for part in (some, of_all)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_a_block_in_two_parts_is_the_block() -> None:
    torch.manual_seed(0)
    block, tokens = Block(24, 4, 2.0), torch.randn(2, 9, 24)
    assert torch.equal(block.finish(tokens, block.project(tokens)), block(tokens))


@pytest.mark.parametrize("chunk", [1, 2000, 2**20])
@pytest.mark.parametrize(("queries", "head", "sharpness"), [(64, 20, 1), (64, 20, 3), (5, 32, 1)])
def test_attention_in_bfloat16(
    queries: int, head: int, sharpness: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and gradients err no more than those of torch's kernel, but for luck."""
    monkeypatch.setattr(attention, "CHUNK", chunk)
    torch.manual_seed(0)
    given = (sharpness * torch.randn(2, 3, tokens, head) for tokens in (queries, 64, 64))
    inputs = [part.bfloat16().requires_grad_() for part in given]
    exact_inputs = [part.detach().double().requires_grad_() for part in inputs]
    direction = torch.randn(2, 3, queries, head).bfloat16()

    def outcome(of: Callable[..., torch.Tensor], given: list[torch.Tensor]) -> list[torch.Tensor]:
        mixed = of(*given)
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
