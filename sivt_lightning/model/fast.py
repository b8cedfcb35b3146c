"""The same reconstruction, faster: `Reconstructor` says what is computed, this file how it need not be."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from sivt_lightning.model.partition import substitute
from sivt_lightning.model.reconstructor import Reconstructor
from sivt_lightning.model.transformer import Block, Transformer

CHUNK = 2**20  # scores computed at a time: 4 MB
LONG = 512  # tokens from which torch's kernel is the quicker one


class FastReconstructor(Reconstructor):
    """`Reconstructor` with its very weights and outputs, but for rounding.

    What the sequences share of the encoder's first block is computed once, of its last block only what is collected,
    and attention takes the path that is quicker on the device and in the precision at hand. Partitions must be even,
    as those of `draw_partition` are.
    """

    def induce(self, tokens: Float[Tensor, "B L D"], partition: Int64[Tensor, "#B L"]) -> Float[Tensor, "B L D"]:
        first, *blocks, norm = list[Any](self.encoder)
        shared = torch.cat([self.induction[None], tokens]) + self.encoder_position
        projected = first.attention.qkv(first.norm1(shared))
        sequences, qkv = (substitute(part[1:], part[0], partition, self.groups) for part in (shared, projected))
        sequences = finish_block(first, sequences, *split_heads(qkv, first.attention.heads))
        for block in blocks[:-1]:
            sequences = run_block(block, sequences)
        positions, places = induced(partition, self.groups)
        positions = positions.expand(-1, tokens.shape[0], -1).flatten(0, 1)
        latents = run_block(blocks[-1], sequences, positions) if blocks else pick(sequences, positions)
        latents = rearrange(norm(latents), "(n b) m d -> b (n m) d", n=self.groups)
        return pick(latents, places.expand(tokens.shape[0], -1))

    def encode(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        return run(self.encoder, tokens + self.encoder_position)

    def decode(self, latents: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        return run(self.decoder, latents + self.decoder_position)


def induced(partition: Int64[Tensor, "B L"], groups: int) -> tuple[Int64[Tensor, "N B M"], Int64[Tensor, "B L"]]:
    """Where each sequence holds induction tokens, and where each position is found among these, group after group.

    M is the size of the largest group; what a smaller one lacks is filled with position 0.
    """
    length, most = partition.shape[1], -(-partition.shape[1] // groups)
    group = torch.arange(groups, device=partition.device)
    member = rearrange(partition, "b l -> b 1 l") == rearrange(group, "n -> n 1")
    within = (member.cumsum(-1) * member).sum(1) - 1
    places = partition * most + within
    numbers = torch.arange(length, device=partition.device).expand_as(partition)
    positions = partition.new_zeros(partition.shape[0], groups * most).scatter(1, places, numbers)
    return rearrange(positions, "b (n m) -> n b m", n=groups), places


def pick(tokens: Float[Tensor, "B L D"], positions: Int64[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
    """Of each sequence the tokens at these positions."""
    return tokens.gather(1, positions[..., None].expand(-1, -1, tokens.shape[-1]))


def run(transformer: Transformer, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
    """All blocks and the final norm."""
    *blocks, norm = list[Any](transformer)
    for block in blocks:
        tokens = run_block(block, tokens)
    return norm(tokens)


def run_block(
    block: Block, tokens: Float[Tensor, "B L D"], positions: Int64[Tensor, "B M"] | None = None
) -> Float[Tensor, "B M D"]:
    """A block's outputs, of some positions only where these are given."""
    normed, heads = block.norm1(tokens), block.attention.heads
    if positions is None:
        return finish_block(block, tokens, *split_heads(block.attention.qkv(normed), heads))
    weight, bias, width = block.attention.qkv.weight, block.attention.qkv.bias, tokens.shape[-1]
    (query,) = split_heads(linear(pick(normed, positions), weight[:width], bias[:width]), heads, 1)
    key, value = split_heads(linear(normed, weight[width:], bias[width:]), heads, 2)
    return finish_block(block, pick(tokens, positions), query, key, value)


def finish_block(
    block: Block,
    tokens: Float[Tensor, "B M D"],
    query: Float[Tensor, "B H M E"],
    key: Float[Tensor, "B H L E"],
    value: Float[Tensor, "B H L E"],
) -> Float[Tensor, "B M D"]:
    """A block's outputs for the tokens that ask."""
    mixed = rearrange(mix(query, key, value), "b h m e -> b m (h e)")
    tokens = tokens + block.attention.proj(mixed)
    return tokens + block.mlp(block.norm2(tokens))


def split_heads(projected: Float[Tensor, "B L _"], heads: int, kinds: int = 3) -> list[Float[Tensor, "B H L E"]]:
    """Query, key and value, or those of them that were projected, by head."""
    # Split before the heads are moved: OpenVINO then moves nothing, but reads attention's inputs where they are.
    return [rearrange(part, "b l (h e) -> b h l e", h=heads) for part in projected.chunk(kinds, dim=-1)]


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
