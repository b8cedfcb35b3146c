from typing import Any

import pytest
import torch

from sivt_lightning.errors import SIVTError
from sivt_lightning.model.partition import draw_partition
from sivt_lightning.model.reconstructor import Reconstructor, sine_cosine_position
from sivt_lightning.seeding import generator_for

SMALL: dict[str, Any] = {"channels": 6, "grid": 8, "width": 16, "encoder_depth": 2, "decoder_depth": 1, "heads": 4}


def make(**changes: Any) -> tuple[Reconstructor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = Reconstructor(**(SMALL | changes))
    features = torch.randn(2, 6, 8, 8)
    drawn = [draw_partition(model.length, model.groups, generator_for(0, i)) for i in range(2)]
    return model, features, torch.stack(drawn)


def test_the_paper_s_size() -> None:
    model = Reconstructor(channels=272, grid=32)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 14_595_248
    assert model.length == 256
    assert model.embed.in_features == 272 * 4


@pytest.mark.parametrize("self_induction", [True, False])
@pytest.mark.parametrize("patch_size", [1, 2, 4, 8])
@pytest.mark.parametrize("groups", [2, 3])
def test_shapes(self_induction: bool, patch_size: int, groups: int) -> None:
    if patch_size == 8 and self_induction:
        groups = 2
        with pytest.raises(SIVTError, match="groups is 2"):  # one token alone has nothing to be induced from
            make(patch_size=patch_size, groups=groups)
        return
    model, features, partition = make(self_induction=self_induction, patch_size=patch_size, groups=groups)
    assert model(features, partition).shape == features.shape


def test_unpatchify_inverts_patchify() -> None:
    model, features, _ = make()
    assert torch.equal(model.unpatchify(model.patchify(features)), features)
    assert torch.equal(model.patchify(features)[0, 1, :6], features[0, :, 0, 2])  # second patch, its first position


@pytest.mark.parametrize("position", [0, 5, 15])
def test_a_collected_latent_never_depends_on_its_own_token(position: int) -> None:
    model, features, partition = make()
    tokens = model.embed(model.patchify(features))
    changed = tokens.clone()
    changed[:, position] += 10 * torch.randn(2, 16)
    latents, other = model.induce(tokens, partition), model.induce(changed, partition)
    assert torch.equal(latents[:, position], other[:, position])
    hidden_together = partition == partition[:, position, None]
    assert torch.equal(latents[hidden_together], other[hidden_together])  # nor do others of its group see it
    assert not torch.isclose(latents[~hidden_together], other[~hidden_together]).all(dim=-1).any()


def test_the_vanilla_transformer_does_see_its_own_token() -> None:
    model, features, _ = make(self_induction=False)
    tokens = model.embed(model.patchify(features))
    changed = tokens.clone()
    changed[:, 5] += 10 * torch.randn(2, 16)
    assert not torch.isclose(model.encode(tokens)[:, 5], model.encode(changed)[:, 5]).any(dim=-1).all()


@pytest.mark.parametrize("self_induction", [True, False])
def test_gradients_reach_every_parameter(self_induction: bool) -> None:
    model, features, partition = make(self_induction=self_induction)
    model(features, partition).square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_position_code_tells_positions_apart() -> None:
    code = sine_cosine_position(16, 240)
    assert code.shape == (256, 240)
    assert torch.cdist(code, code).fill_diagonal_(9.0).min() > 0.5
    assert torch.equal(code[0, :120], code[1, :120])  # same row: the first half is the row's
    assert torch.equal(code[0, 120:], code[16, 120:])  # same column


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"patch_size": 3}, "patch_size 3"),
        ({"patch_size": -2}, "patch_size -2"),
        ({"self_induction": False, "groups": 0}, "groups is 0"),
        ({"width": 18, "heads": 3}, "multiple of 4"),
        ({"heads": 5}, "5 heads"),
        ({"groups": 1}, "groups is 1"),
        ({"groups": 17}, "groups is 17"),
        ({"encoder_depth": 0}, "encoder_depth 0"),
        ({"decoder_depth": -1}, "decoder_depth -1"),
        ({"mlp_ratio": 0.0}, "mlp_ratio"),
    ],
)
def test_impossible_combinations_fail_at_start(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SIVTError, match=named):
        make(**changes)
