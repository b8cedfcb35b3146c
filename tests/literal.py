"""Algorithm 1 exactly as the paper draws it, one sequence after the other: what the reconstructor is held to.

Of the package it takes nothing but the layers that hold a model's weights.
"""

from typing import Any

import torch
from torch import Tensor

from sivt_lightning.model.reconstructor import Reconstructor


def reconstruct(model: Reconstructor, features: Tensor, partition: Tensor, gain: Tensor | None = None) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W), for groups of any sizes."""
    p = model.patch_size
    patches = features.unfold(2, p, p).unfold(3, p, p)  # batch, channel, row and column of the patch, and within it
    batch, channels, rows, columns = patches.shape[:4]
    tokens = model.embed(patches.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2))
    latents = induce(model, tokens, partition) if model.self_induction else encode(model, tokens)
    decoded = transform(model.decoder, (latents if gain is None else latents * gain) + model.decoder_position)
    rebuilt = model.head(decoded).reshape(batch, rows, columns, p, p, channels)
    return rebuilt.permute(0, 5, 1, 3, 2, 4).reshape(features.shape)


def induce(model: Reconstructor, tokens: Tensor, partition: Tensor) -> Tensor:
    """Substitutes (Eq. 1), encodes all of each sequence, and of its outputs keeps those at its own group."""
    latents: Tensor | float = 0.0
    for group in range(model.groups):
        hidden = (partition == group)[..., None]
        sequence = torch.where(hidden, model.induction, tokens)
        latents = latents + torch.where(hidden, encode(model, sequence), 0.0)
    assert isinstance(latents, Tensor)
    return latents


def encode(model: Reconstructor, tokens: Tensor) -> Tensor:
    return transform(model.encoder, tokens + model.encoder_position)


def transform(transformer: Any, tokens: Tensor) -> Tensor:
    *blocks, norm = transformer
    for block in blocks:
        tokens = tokens + attend(block.attention, block.norm1(tokens))
        tokens = tokens + block.mlp(block.norm2(tokens))
    return norm(tokens)


def attend(attention: Any, tokens: Tensor) -> Tensor:
    projected = attention.qkv(tokens).unflatten(-1, (3, attention.heads, -1))  # which of three, head, its width
    query, key, value = projected.permute(2, 0, 3, 1, 4)
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
    return attention.proj((weights @ value).transpose(1, 2).flatten(2))
