"""A plain pre-norm vision transformer: attention, MLP, block, stack."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Attention(nn.Module):
    """Multi-head self-attention over all tokens of a sequence."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        query, key, value = rearrange(self.qkv(tokens), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        mixed = scaled_dot_product_attention(query, key, value)
        return self.proj(rearrange(mixed, "b h l d -> b l (h d)"))


class MLP(nn.Sequential):
    """Two linear layers with a GELU between them, `ratio` times wider inside."""

    def __init__(self, width: int, ratio: float) -> None:
        hidden = round(width * ratio)
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a skip connection."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), MLP(width, mlp_ratio)

    def forward(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        tokens = tokens + self.attention(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class Transformer(nn.Sequential):
    """`depth` blocks and a final layer norm: (B, L, D) -> (B, L, D). Encoder and decoder are two of these."""

    def __init__(self, depth: int, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__(*(Block(width, heads, mlp_ratio) for _ in range(depth)), nn.LayerNorm(width))
