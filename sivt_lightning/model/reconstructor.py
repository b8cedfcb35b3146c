"""Feature map -> reconstructed feature map, by self-induction (paper, section III-C and Algorithm 1)."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sivt_lightning.model.attention import pick
from sivt_lightning.model.partition import induced, substitute
from sivt_lightning.model.settings import ModelSettings
from sivt_lightning.model.transformer import Transformer


class Reconstructor(nn.Module):
    """Encodes every patch of a feature map only from the other patches, then decodes the whole.

    With the default settings and 272 channels it has the paper's 14,595,248 parameters. `self_induction: false` is the
    ablation: the same transformer, fed with the patch tokens themselves.

    >>> model = Reconstructor(272, ModelSettings())
    >>> sum(p.numel() for p in model.parameters())
    14595248
    """

    def __init__(self, channels: int, settings: ModelSettings) -> None:
        super().__init__()
        width, heads, mlp_ratio = settings.width, settings.heads, settings.mlp_ratio
        self.patch_size, self.groups = settings.patch_size, settings.groups
        self.self_induction = settings.self_induction
        self.side = settings.grid // self.patch_size
        self.length = self.side**2

        patch_values = channels * self.patch_size**2
        position = sine_cosine_position(self.side, width)
        self.embed = nn.Linear(patch_values, width)
        self.encoder_position = nn.Parameter(position.clone())
        if self.self_induction:
            self.induction = nn.Parameter(torch.empty(self.length, width))
        self.encoder = Transformer(settings.encoder_depth, width, heads, mlp_ratio)
        self.decoder_position = nn.Parameter(position.clone())
        self.decoder = Transformer(settings.decoder_depth, width, heads, mlp_ratio)
        self.head = nn.Linear(width, patch_values)
        self._initialise()

    def forward(
        self,
        features: Float[Tensor, "B C H W"],
        partition: Int64[Tensor, "#B L"],
        gain: Float[Tensor, "B L D"] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """F~ from F. Positions of one group of `partition` are induced together, in each image or alike in all; group
        sizes are within one of each other, as `draw_partition` makes them. The ablation takes no notice of it.
        The latents are multiplied by `gain`, see `dropout_gain`."""
        tokens = self.embed(self.patchify(features))
        latents = self.induce(tokens, partition) if self.self_induction else self.encode(tokens)
        if gain is not None:
            latents = latents * gain
        return self.unpatchify(self.head(self.decode(latents)))

    def induce(self, tokens: Float[Tensor, "B L D"], partition: Int64[Tensor, "#B L"]) -> Float[Tensor, "B L D"]:
        """Latents Z: the one at a position has seen other positions' tokens only, never its own.

        Algorithm 1 makes N sequences of the tokens (Eq. 1), encodes each, and of sequence i collects the outputs at
        group i. So do these steps, which equal it but for rounding:

        - `first_block` computes once what sequences share. Layer norm and the projection to query, key and value act
          on each token alone, and a sequence holds either the image's token or the induction token at a position: to
          project both and then choose is to choose and then project.
        - Between, all outputs of a block are inputs of the next: nothing is left out.
        - `last_block` computes what is collected. An output depends on its own token's query, and on keys and values of
          all tokens; the MLP and the final norm act on each output alone. So outputs that nobody reads, (N - 1) / N of
          them, are not needed for the others.
        """
        sequences = self.first_block(tokens, partition)
        for block in self.encoder.blocks[1:-1]:
            sequences = block(sequences)
        return self.last_block(sequences, partition)

    def first_block(self, tokens: Float[Tensor, "B L D"], partition: Int64[Tensor, "#B L"]) -> Float[Tensor, "NB L D"]:
        """Substitutes, and encodes by one block. Position is added here, to patch and induction tokens alike."""
        block = self.encoder.blocks[0]
        shared = torch.cat([self.induction[None], tokens]) + self.encoder_position
        parts = (shared, block.project(shared))
        sequences, projected = (substitute(part[1:], part[0], partition, self.groups) for part in parts)
        return block.finish(sequences, projected)

    def last_block(
        self, sequences: Float[Tensor, "NB L D"], partition: Int64[Tensor, "#B L"]
    ) -> Float[Tensor, "B L D"]:
        """Encodes by the last block where sequences hold induction tokens, and collects."""
        images = sequences.shape[0] // self.groups
        positions, places = induced(partition, self.groups)
        positions = positions.expand(-1, images, -1).flatten(0, 1)
        *others, last = self.encoder.blocks
        latents = last(sequences, positions) if others else pick(sequences, positions)  # an only block has been first
        latents = rearrange(self.encoder[-1](latents), "(n b) m d -> b (n m) d", n=self.groups)
        return pick(latents, places.expand(images, -1))

    def encode(self, tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """Latents of the ablation: each position has seen its own token, too."""
        return self.encoder(tokens + self.encoder_position)

    def decode(self, latents: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        """The decoder has positions of its own."""
        return self.decoder(latents + self.decoder_position)

    def patchify(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B L PPC"]:
        """Non-overlapping P x P patches of feature vectors, row by row."""
        p = self.patch_size
        vectors = rearrange(features, "b c h w -> b h w c")
        return rearrange(vectors, "b (h p) (w q) c -> b (h w) (p q c)", p=p, q=p)

    def unpatchify(self, patches: Float[Tensor, "B L PPC"]) -> Float[Tensor, "B C H W"]:
        """The inverse of `patchify`."""
        p = self.patch_size
        vectors = rearrange(patches, "b (h w) (p q c) -> b (h p) (w q) c", h=self.side, p=p, q=p)
        return rearrange(vectors, "b h w c -> b c h w")

    def _initialise(self) -> None:
        """MAE's choice: Xavier-uniform linear layers, zero biases, normal tokens of deviation 0.02."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        if self.self_induction:
            nn.init.normal_(self.induction, std=0.02)


def dropout_gain(
    shape: Sequence[int], share: float, generators: Iterable[torch.Generator], device: torch.device
) -> Float[Tensor, "B L D"] | None:
    """0 for this share of each image's latent values, 1 / (1 - share) for the others, so that their mean stays.

    A decoder that cannot rely on any one value learns less to rebuild what it should not (the noisy bottleneck of
    Dinomaly, Guo et al., 2025). A generator for each image; None where nothing is dropped.

    >>> dropout_gain((1, 4), 0.5, [torch.Generator().manual_seed(0)], torch.device("cpu")).unique()
    tensor([0., 2.])
    """
    if not share:
        return None
    kept = [torch.empty(*shape).bernoulli_(1 - share, generator=generator) for generator in generators]
    return (torch.stack(kept) / (1 - share)).to(device)


def sine_cosine_position(side: int, width: int) -> Float[Tensor, "L D"]:
    """Fixed 2-D position code: half of the channels for the row, half for the column (Transformer's frequencies)."""
    frequency = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    angle = np.arange(side)[:, None] * frequency
    axis = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    rows, columns = np.repeat(axis, side, axis=0), np.tile(axis, (side, 1))
    return torch.from_numpy(np.concatenate([rows, columns], axis=1)).float()
