"""The LightningModule: what trains, what stays frozen, what the schedule does, what the detector's scores rest on."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from timm.optim import Muon

from sivt_lightning.data.dataset import Batch
from sivt_lightning.data.grid import Grid
from sivt_lightning.inference.thresholds import Threshold, Thresholds
from sivt_lightning.model.detector import Detector
from sivt_lightning.model.loss import reconstruction_loss
from sivt_lightning.training.module import SIVT
from sivt_lightning.training.optimizer import ADAMW_SHARE

TINY: dict[str, Any] = {
    "backbone": "resnet18",
    "strides": [2, 4],
    "weights": "random",
    "image_size": 32,
    "patch_size": 1,
    "width": 16,
    "encoder_depth": 1,
    "decoder_depth": 1,
    "heads": 4,
    "smoothing_sigma": 2.0,
}


def module(**changes: Any) -> SIVT:
    torch.manual_seed(0)
    made = SIVT(**(TINY | changes))
    made._trainer = SimpleNamespace(  # type: ignore[assignment]
        estimated_stepping_batches=100,
        num_training_batches=25,
        global_step=3,
        log_every_n_steps=10,
        state=SimpleNamespace(fn="test"),
        limit_val_batches=1.0,
        current_epoch=0,
        global_rank=0,
        world_size=1,
        precision="32-true",
        max_epochs=4,
        max_steps=-1,
        accumulate_grad_batches=1,
        gradient_clip_val=1.0,
        checkpoint_callback=None,
        early_stopping_callback=None,
        is_global_zero=False,
    )
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    return made


def batch(size: int = 3) -> Batch:
    images = torch.rand(size, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    masks, nothing = [torch.zeros(32, 32, dtype=torch.bool)] * size, [""] * size
    return Batch(images, masks, torch.arange(size), nothing, [None] * size, nothing, [Grid()] * size)


@pytest.mark.parametrize("self_induction", [True, False])
def test_gradients_reach_every_trainable_parameter_and_no_frozen_one(self_induction: bool) -> None:
    model = module(self_induction=self_induction)
    model.train()
    model.training_step(batch(), 0).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("detector.backbone."):
            assert not parameter.requires_grad
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


@pytest.mark.parametrize(("name", "kind"), [("muon", Muon), ("adamw", torch.optim.AdamW)])
def test_the_optimizer_holds_the_trainable_parameters_only(name: str, kind: type) -> None:
    model = module(optimizer=name)
    optimizer = model.configure_optimizers()["optimizer"]
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.detector.reconstructor.parameters())
    assert isinstance(optimizer, kind)


def test_adamw_takes_a_step_at_once() -> None:
    assert module(optimizer="adamw").configure_optimizers()["optimizer"].param_groups[0]["fused"]


def test_muon_takes_the_matrices_between_hidden_layers_and_nothing_else() -> None:
    model = module(optimizer="muon", learning_rate=0.1, warmup=0.0)
    groups = model.configure_optimizers()["optimizer"].param_groups
    names = {id(p): name for name, p in model.detector.reconstructor.named_parameters()}
    by_kind = {group.get("use_fallback", False): {names[id(p)] for p in group["params"]} for group in groups}
    layers = ("attention.qkv.weight", "attention.proj.weight", "mlp.0.weight", "mlp.2.weight")
    assert by_kind[False] == {f"{part}.0.{layer}" for part in ("encoder", "decoder") for layer in layers}
    assert {group["lr"] for group in groups} == {0.1, 0.1 * ADAMW_SHARE}  # the schedule scales both


@pytest.mark.parametrize(("schedule", "end"), [("cosine", 0.0), ("constant", 1.0)])
def test_warm_up_then_schedule(schedule: str, end: float) -> None:
    configured = module(schedule=schedule, warmup=0.1, learning_rate=0.5).configure_optimizers()
    factor = configured["lr_scheduler"]["scheduler"].lr_lambdas[0]
    rates = [factor(step) for step in range(101)]
    assert rates[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert rates[100] == pytest.approx(end)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert configured["lr_scheduler"]["interval"] == "step"


def test_partitions_come_from_seed_epoch_and_image() -> None:
    model, images = module(), torch.arange(6)
    first = model.draw_partitions(images)
    torch.rand(3)
    assert torch.equal(first[[4, 1]], model.draw_partitions(torch.tensor([4, 1])))  # in whatever batch, on any rank
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(first, 2))
    assert not torch.equal(first, module(seed=1).draw_partitions(images))
    model.trainer.current_epoch = 1  # type: ignore[misc]
    assert not torch.equal(first, model.draw_partitions(images))


def test_latents_are_dropped_by_seed_epoch_and_image() -> None:
    model, images = module(latent_dropout=0.25), torch.arange(6)
    first = model.draw_gains(images)
    assert first is not None
    torch.rand(3)
    again = model.draw_gains(torch.tensor([4, 1]))
    assert again is not None
    assert torch.equal(first[[4, 1]], again)  # in whatever batch, on any rank
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(first, 2))
    assert first.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (first == 0).float().mean() == pytest.approx(0.25, abs=0.03)
    model.trainer.current_epoch = 1  # type: ignore[misc]
    assert not torch.equal(first, model.draw_gains(images))  # type: ignore[arg-type]
    assert module(latent_dropout=0.0).draw_gains(images) is None


def test_pieces_are_pasted_by_seed_epoch_and_image() -> None:
    model, images = module(pasted=0.5), torch.arange(40)
    features = torch.randn(1, 6, 8, 8).expand(40, -1, -1, -1)
    first = model.draw_pieces(features, images)
    again = model.draw_pieces(features[:2], torch.tensor([4, 1]))
    assert first is not None
    assert again is not None
    assert torch.equal(first[[4, 1]], again)  # in whatever batch, on any rank
    changed = (first != features).flatten(1).any(1)
    assert 10 <= changed.sum() <= 30
    columns = features[0].flatten(1).T
    for one in first[changed].flatten(2):  # whole vectors of the same image, half of it at most and less than thrice
        assert all((columns == vector).all(1).any() for vector in one.T)
        assert 0 < (one != features[0].flatten(1)).any(0).float().mean() <= 0.75
    model.trainer.current_epoch = 1  # type: ignore[misc]
    assert not torch.equal(first, model.draw_pieces(features, images))  # type: ignore[arg-type]
    assert module(pasted=0.0).draw_pieces(features, images) is None


def test_what_is_pasted_is_to_be_restored() -> None:
    """The loss is held against the features as they were, and evaluation pastes nothing."""
    model, images = module(pasted=1.0), batch(4)
    pieces = model.draw_pieces(features := model.features(images), images.index)
    loss = model.training_step(images, 0)
    reconstruction = model.detector.reconstructor(pieces, model.draw_partitions(images.index))
    expected = reconstruction_loss(features, reconstruction, model.settings.cosine_weight).mean()
    torch.testing.assert_close(loss, expected)
    assert torch.equal(*(module(pasted=share).detector(images.images).score for share in (0.0, 1.0)))


def test_dropped_latents_reach_the_decoder_in_training_only() -> None:
    """Where nothing is left of the latents, all images are rebuilt alike."""
    detector: Detector = module().detector
    features = detector.features(batch(2).images)
    nothing = torch.zeros(2, *detector.reconstructor.encoder_position.shape)
    one, other = detector.reconstructor(features, detector.partition, nothing)
    torch.testing.assert_close(one, other)
    one, other = detector.reconstruct(features)
    assert not torch.allclose(one, other)
    losses = {share: module(latent_dropout=share).training_step(batch(4), 0).item() for share in (0.0, 0.9)}
    assert losses[0.0] != losses[0.9]
    assert torch.equal(*(module(latent_dropout=share).detector(batch(4).images).score for share in (0.0, 0.9)))


def test_the_evaluation_partition_is_fixed_and_kept_with_the_weights() -> None:
    one, other = module(), module(seed=7)
    assert torch.equal(one.detector.partition, other.detector.partition)
    assert "partition" in dict(one.detector.named_buffers())
    assert "detector.partition" in one.state_dict()


def test_scores_do_not_depend_on_the_batch() -> None:
    detector: Detector = module().detector.eval()
    images = batch(5).images
    together = detector(images)
    for row in range(5):
        alone = detector(images[row : row + 1])
        torch.testing.assert_close(alone.score[0], together.score[row], rtol=1e-5, atol=0)
        torch.testing.assert_close(alone.map[0], together.map[row], rtol=1e-4, atol=1e-4)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(detector(images[order]).score, together.score[order], rtol=1e-5, atol=0)
    assert together.map.shape == (5, 32, 32)
    torch.testing.assert_close(together.score, together.map[:, ::4, ::4].amax((1, 2)))  # a hundredth of 8 x 8 is one


def test_loss_and_residual_are_float32_under_autocast() -> None:
    model = module()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.training_step(batch(), 0).dtype == torch.float32
        detection = model.validation_step(batch(), 0)
    assert detection.map.dtype == detection.score.dtype == torch.float32


def test_thresholds_travel_with_the_checkpoint() -> None:
    model, other = module(), module()
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict(), "global_step": 3}
    model.thresholds = Thresholds(0.9, Threshold(1.5, 2.5, 12), {"bolt": Threshold(1.0, 2.0, 12)})
    model.thresholds_step = 3
    model.on_save_checkpoint(checkpoint)
    other.on_load_checkpoint(checkpoint)
    assert other.thresholds == model.thresholds
    assert checkpoint["precision"] == "32-true"
    assert checkpoint["training"]["max_epochs"] == 4


def test_construction_loads_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module(weights=str(tmp_path / "absent.safetensors"))  # looked for by `fit`, never by `test` or `predict`
