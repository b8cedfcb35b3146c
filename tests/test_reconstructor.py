"""The reconstructor: Algorithm 1 with the same numbers as the paper's figure of it, for fewer operations."""

from collections.abc import Callable
from typing import Any

import literal
import pytest
import torch
from parts import reconstructor_of
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sivt_lightning.errors import SIVTError
from sivt_lightning.model.partition import draw_partition
from sivt_lightning.model.reconstructor import Reconstructor, sine_cosine_position
from sivt_lightning.model.settings import ModelSettings
from sivt_lightning.seeding import generator_for

SMALL: dict[str, Any] = {"channels": 6, "grid": 8, "width": 16, "encoder_depth": 2, "decoder_depth": 1, "heads": 4}


def make(**changes: Any) -> tuple[Reconstructor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = reconstructor_of(**(SMALL | changes))
    features = torch.randn(2, 6, 8, 8)
    drawn = [draw_partition(model.length, model.groups, generator_for(0, i)) for i in range(2)]
    return model, features, torch.stack(drawn)


def test_the_paper_s_size() -> None:
    model = Reconstructor(272, ModelSettings())
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


SHAPES: list[dict[str, Any]] = [
    {"encoder_depth": 3},
    {"encoder_depth": 1, "decoder_depth": 0},
    {"patch_size": 1, "decoder_depth": 0},
    {"self_induction": False},
]


def outcome(
    way: Callable[..., torch.Tensor], model: Reconstructor, case: list[torch.Tensor | None], dtype: torch.dtype
) -> list[torch.Tensor]:
    """Its output, and its gradients to features and parameters; under autocast in bfloat16."""
    features, *others = case
    assert features is not None
    features = features.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        output = way(features, *others)
    inputs = [features, *model.parameters()]
    return [output.detach(), *torch.autograd.grad(output.square().mean(), inputs, materialize_grads=True)]


def compared(
    dtype: torch.dtype, with_gain: bool = False, images: int = 2, **changes: Any
) -> tuple[list[torch.Tensor], list[torch.Tensor], Callable[[], list[torch.Tensor]]]:
    """The model's outcome, the literal one, and how to get the latter exactly."""
    model, features, partition = make(**changes)
    gain = torch.empty(2, model.length, 16).bernoulli_(0.7) / 0.7 if with_gain else None
    kept = torch.float64 if dtype == torch.float64 else torch.float32

    def run(way: Callable[..., torch.Tensor], kept: torch.dtype, dtype: torch.dtype) -> list[torch.Tensor]:
        model.to(kept)
        case = [features.to(kept), partition[:images], None if gain is None else gain.to(kept)]
        return outcome(way, model, case, dtype)

    def as_drawn(*case: torch.Tensor) -> torch.Tensor:
        return literal.reconstruct(model, *case)

    return run(model, kept, dtype), run(as_drawn, kept, dtype), lambda: run(as_drawn, torch.float64, torch.float64)


@pytest.mark.parametrize("groups", range(2, 9))
@pytest.mark.parametrize("changes", SHAPES)
def test_outputs_and_gradients_are_those_of_the_paper_s_figure(groups: int, changes: dict[str, Any]) -> None:
    ours, theirs, _ = compared(torch.float64, groups=groups, **changes)
    for own, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("changes", SHAPES)
@pytest.mark.parametrize(("images", "with_gain"), [(1, True), (2, False)])  # partitions: one for both, or one each
def test_so_they_are_in_float32(changes: dict[str, Any], images: int, with_gain: bool) -> None:
    ours, theirs, _ = compared(torch.float32, with_gain, images, groups=3, **changes)
    for own, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changes", SHAPES)
def test_in_bfloat16_they_err_no_more(changes: dict[str, Any]) -> None:
    """Against float64, but for luck: both round at every step, not at the same ones."""
    ours, theirs, exactly = compared(torch.bfloat16, **changes)
    for own, other, exact in zip(ours, theirs, exactly(), strict=True):
        mine, of_figure = ((part.double() - exact).norm() for part in (own, other))
        assert mine <= 2 * of_figure
        assert mine <= 0.03 * exact.norm()


@pytest.mark.parametrize("images", [1, 3])
def test_nothing_is_computed_twice_or_thrown_away(images: int) -> None:
    model, _, _ = make(patch_size=1, grid=6, width=24, encoder_depth=3)
    features, partition = torch.randn(images, 6, 6, 6), draw_partition(36, 4, generator_for(0))[None]
    operations = []
    for way in (lambda: literal.reconstruct(model, features, partition), lambda: model(features, partition)):
        # Attention as plain products: torch's counter knows no fused kernel of the CPU before torch 2.15.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            way()
        operations.append(counter.get_total_flops() / 2)
    sequences, length, width = 4 * images, 36, 24
    left_out = sequences * (length - length // 4)  # tokens whose outputs nobody collects
    # query, projection and MLP of each, and its row of the two attention products
    of_the_last = left_out * (width**2 * (1 + 1 + 8) + 2 * length * width)
    shared = (
        sequences - images - 1
    )  # whose query, key and value other sequences have, too, but for the induction tokens
    assert operations[0] - operations[1] == of_the_last + shared * length * 3 * width**2


@pytest.mark.parametrize("position", [0, 5, 15])
@pytest.mark.parametrize("encoder_depth", [1, 2, 3])
def test_a_collected_latent_never_depends_on_its_own_token(position: int, encoder_depth: int) -> None:
    model, features, partition = make(encoder_depth=encoder_depth)
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
