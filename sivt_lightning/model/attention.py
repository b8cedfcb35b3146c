"""Multi-head attention, by all tokens or by some, in the way that is quicker on the device and in the precision."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

CHUNK = 2**20  # scores computed at a time: 4 MB
LONG = 512  # tokens from which torch's kernel is the quicker one


class Attention(nn.Module):
    """Multi-head attention: all tokens of a sequence are asked, by all of them or by those at given positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, tokens: Float[Tensor, "B L D"], positions: Int64[Tensor, "B M"] | None = None
    ) -> Float[Tensor, "B M D"]:
        """What the tokens at these positions mix from all tokens; without positions, what each token does (M = L)."""
        if positions is None:
            return self.attend(*self.qkv(tokens).chunk(3, dim=-1))
        width = tokens.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        query = linear(pick(tokens, positions), weight[:width], bias[:width])
        return self.attend(query, *linear(tokens, weight[width:], bias[width:]).chunk(2, dim=-1))

    def attend(
        self, query: Float[Tensor, "B M D"], key: Float[Tensor, "B L D"], value: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B M D"]:
        """The same from what is projected already, the heads of a token side by side."""
        # Split into three before the heads are moved: OpenVINO then moves nothing, but reads them where they are.
        parts = (rearrange(part, "b l (h e) -> b h l e", h=self.heads) for part in (query, key, value))
        return self.proj(rearrange(mix(*parts), "b h m e -> b m (h e)"))


def pick(tokens: Float[Tensor, "B L D"], positions: Int64[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
    """Of each sequence the tokens at these positions.

    >>> pick(torch.arange(4.0).reshape(1, 4, 1), torch.tensor([[3, 1]])).flatten()
    tensor([3., 1.])
    """
    # Whole rows: to gather each value by itself takes ten times as long.
    rows = torch.arange(tokens.shape[0], device=tokens.device)[:, None] * tokens.shape[1] + positions
    return tokens.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, positions.shape)


def mix(
    query: Float[Tensor, "B H M E"], key: Float[Tensor, "B H L E"], value: Float[Tensor, "B H L E"]
) -> Float[Tensor, "B H M E"]:
    """softmax(Q K^T / sqrt(E)) V."""
    in_bfloat16_on_cpu = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if in_bfloat16_on_cpu and torch.is_grad_enabled() and key.shape[2] < LONG:
        flat = [rearrange(part, "b h l e -> (b h) l e").contiguous() for part in (query, key, value)]
        with torch.autocast("cpu", enabled=False):
            mixed: Tensor = _ChunkedAttention.apply(*flat)
        return rearrange(mixed, "(b h) m e -> b h m e", h=query.shape[1])
    return scaled_dot_product_attention(query, key, value)


class _ChunkedAttention(torch.autograd.Function):
    """Attention by plain matrix products, a few heads at a time, so that their scores stay in the processor's cache.

    For training in bfloat16, where it takes less time than torch's fused kernel for CPUs. Like that one it has scores
    and their gradients in float32, and keeps neither for the backward pass. Narrow products are computed transposed,
    which is quicker.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Float[Tensor, "B M E"], key: Float[Tensor, "B L E"], value: Float[Tensor, "B L E"]
    ) -> Float[Tensor, "B M E"]:
        mixed = torch.empty_like(query.mT, memory_format=torch.contiguous_format)
        for part in _chunks(query, key):
            torch.bmm(value[part].mT, _weights(query[part], key[part]).bfloat16().mT, out=mixed[part])
        ctx.save_for_backward(query, key, value, mixed)
        return mixed.mT

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "B M E"]) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, mixed = ctx.saved_tensors
        gradient = gradient.contiguous()
        # A softmax's gradient needs the sum over each row of weight times gradient of the weight: this one.
        row = (gradient.float() * mixed.mT).sum(-1, keepdim=True)
        parts = (query, key, value)
        to_query, to_key, to_value = (torch.empty_like(p.mT, memory_format=torch.contiguous_format) for p in parts)
        for part in _chunks(query, key):
            weights = _weights(query[part], key[part])
            torch.bmm(gradient[part].mT, weights.bfloat16(), out=to_value[part])
            to_scores = torch.baddbmm(row[part], gradient[part].float(), value[part].float().mT, beta=-1)
            to_scores = to_scores.mul_(weights).bfloat16()
            torch.bmm(key[part].mT, to_scores.mT, out=to_query[part])
            torch.bmm(query[part].mT, to_scores, out=to_key[part])
        scale = query.shape[-1] ** -0.5
        return to_query.mT * scale, to_key.mT * scale, to_value.mT


def _chunks(query: Tensor, key: Tensor) -> list[slice]:
    step = max(1, CHUNK // (query.shape[1] * key.shape[1]))
    return [slice(start, start + step) for start in range(0, len(query), step)]


def _weights(query: Float[Tensor, "B M E"], key: Float[Tensor, "B L E"]) -> Float[Tensor, "B M L"]:
    return torch.bmm(query.float() * query.shape[-1] ** -0.5, key.float().mT).softmax(-1)
