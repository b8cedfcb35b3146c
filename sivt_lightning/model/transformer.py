"""A plain pre-norm vision transformer: MLP, block, stack."""

from jaxtyping import Float, Int64
from torch import Tensor, nn

from sivt_lightning.model.attention import Attention, pick


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

    def forward(
        self, tokens: Float[Tensor, "B L D"], positions: Int64[Tensor, "B M"] | None = None
    ) -> Float[Tensor, "B M D"]:
        """Outputs at these positions; without positions, at all (M = L)."""
        mixed = self.attention(self.norm1(tokens), positions)
        return self._add(tokens if positions is None else pick(tokens, positions), mixed)

    def project(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L 3*D"]:
        """Query, key and value of each token: as far into the block as a token comes without the others."""
        return self.attention.qkv(self.norm1(tokens))

    def finish(self, tokens: Float[Tensor, "B L D"], projected: Float[Tensor, "B L 3*D"]) -> Float[Tensor, "B L D"]:
        """The rest of the block: `finish(tokens, project(tokens))` is `forward(tokens)`."""
        return self._add(tokens, self.attention.attend(*projected.chunk(3, dim=-1)))

    def _add(self, tokens: Float[Tensor, "B M D"], mixed: Float[Tensor, "B M D"]) -> Float[Tensor, "B M D"]:
        """Attention's part to the tokens, then the MLP's."""
        tokens = tokens + mixed
        return tokens + self.mlp(self.norm2(tokens))


class Transformer(nn.Sequential):
    """`depth` blocks and a final layer norm: (B, L, D) -> (B, L, D). Encoder and decoder are two of these."""

    def __init__(self, depth: int, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__(*(Block(width, heads, mlp_ratio) for _ in range(depth)), nn.LayerNorm(width))

    @property
    def blocks(self) -> list[Block]:
        """Without the norm."""
        return [part for part in self if isinstance(part, Block)]
