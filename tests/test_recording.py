"""What is recorded on a GPU, a training's step and a model's verdicts, says the same as one kernel after the other."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import rows_of
from parts import reconstructor_of
from torch.overrides import TorchFunctionMode

from sivt_lightning import Predictor
from sivt_lightning.cli import main
from sivt_lightning.inference.checkpoint_model import CheckpointModel
from sivt_lightning.inference.replaying import MOST, on_cpu
from sivt_lightning.model.partition import draw_partition
from sivt_lightning.seeding import generator_for
from sivt_lightning.training.module import SIVT
from sivt_lightning.training.recording import BatchLoss, RecordedLoss, _Recording, _Replay

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="records on a GPU, and there is none here")

Case = tuple[torch.Tensor, ...]


def batch(size: int, seed: int, whole: bool = True) -> Case:
    draw = generator_for(seed)
    features = torch.randn(size, 8, 8, 8, generator=draw)
    partition = torch.stack([draw_partition(16, 4, draw) for _ in range(size)])
    gain = torch.empty(size, 16, 24).bernoulli_(0.7, generator=draw) / 0.7
    seen = features.roll(1, 0)
    return tuple(part.cuda() for part in ((features, partition, gain, seen) if whole else (features, partition)))


def step(loss: BatchLoss, case: Case, dtype: torch.dtype | None) -> list[torch.Tensor]:
    """Loss and gradients."""
    loss.reconstructor.zero_grad()
    with torch.autocast("cuda", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        value = loss(*case)
    value.backward()
    return [value.detach().clone(), *(p.grad.clone() for p in loss.reconstructor.parameters() if p.grad is not None)]


class Made(TorchFunctionMode):
    """Which functions make a tensor of numbers that Python or NumPy holds."""

    def __init__(self) -> None:
        super().__init__()
        self.functions = set[Any]()

    def __torch_function__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        if function in (torch.tensor, torch.as_tensor, torch.from_numpy):
            self.functions.add(function)
        return function(*given, **(named or {}))


def test_no_number_comes_from_the_processor_while_a_model_computes() -> None:
    """On a GPU it would be copied there, which a recording cannot hold; seen without one, too."""
    settings = {"image_size": 32, "width": 16, "heads": 2, "encoder_depth": 2, "decoder_depth": 1, "memory_bank": 16}
    detector = SIVT(backbone="pixels", strides=[4], weights="random", **settings).detector.eval()
    with torch.inference_mode(), Made() as made:
        detector(torch.rand(2, 3, 32, 32))
    assert made.functions == set()


@needs_gpu
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_losses_and_gradients_are_those_of_the_plain_loss(dtype: torch.dtype | None, whole: bool) -> None:
    model = reconstructor_of(8, 8, width=24, encoder_depth=2, decoder_depth=1, heads=2).cuda()
    plain, recorded = BatchLoss(model, 5.0), RecordedLoss(model, 5.0)
    for seed, size in enumerate((4, 4, 2, 4)):  # the third is an epoch's last
        case = batch(size, seed, whole)
        ours, theirs = step(recorded, case, dtype), step(plain, case, dtype)
        assert len(ours) == len(theirs) == 1 + len(list(model.parameters()))
        tolerance = 1e-5 if dtype is None else 2e-2
        for own, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(own, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))
        with torch.no_grad():  # as an optimizer does: the next replay has to see it
            for parameter in model.parameters():
                parameter += 0.01 * torch.randn_like(parameter)
    assert recorded.recording is not None
    assert recorded.recording.batch[0] == 4


@needs_gpu
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_training_goes_the_same_way(
    precision: str, accumulated: int, optimizer: str, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["fit", "--config", str(tiny_config), "--trainer.accelerator=gpu", f"--trainer.precision={precision}"]
    arguments += [f"--trainer.accumulate_grad_batches={accumulated}"]
    arguments += ["--model.optimizer", optimizer]
    # A worker process: another thread brings its images to the GPU while the step is recorded.
    arguments += ["--trainer.devices=1", "--data.num_workers=1"]
    used = []
    monkeypatch.setattr(SIVT, "on_train_end", lambda self: used.append(self.batch_loss))
    assert main([*arguments, "--name", "recorded"]) == 0
    assert isinstance(used[0], RecordedLoss)
    assert used[0].recording is not None
    monkeypatch.setattr("sivt_lightning.training.module.RecordedLoss", BatchLoss)
    assert main([*arguments, "--name", "plain"]) == 0
    logs = [rows_of(tmp_path / "runs" / name / "version_0/metrics.csv") for name in ("recorded", "plain")]
    losses = [[float(row["val/loss"]) for row in rows if row["val/loss"]] for rows in logs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3 if precision == "32-true" else 2e-2)


class Replayed(_Recording):
    """Stands for a recording of the loss weight * input: a replay writes into the same memory each time."""

    def __init__(self, weight: torch.nn.Parameter) -> None:
        self.inputs, self.parameters = [torch.zeros(())], [weight]
        self.loss, self.loss_gradient, self.gradients = torch.zeros(()), torch.ones(()), [torch.zeros(())]
        self.forward = SimpleNamespace(replay=lambda: self.loss.copy_(weight.detach() * self.inputs[0]))
        self.backward = SimpleNamespace(replay=lambda: self.gradients[0].copy_(self.loss_gradient * self.inputs[0]))


def test_replayed_losses_and_gradients_outlive_the_next_replay() -> None:
    weight = torch.nn.Parameter(torch.tensor(2.0))
    recording, losses = Replayed(weight), []
    for scale, value in ((1.0, 3.0), (10.0, 5.0)):  # as a scaler scales the loss
        recording.inputs[0].fill_(value)
        losses.append(_Replay.apply(recording, weight))
        (scale * losses[-1]).backward()
    assert [float(loss) for loss in losses] == [6.0, 10.0]
    assert weight.grad == 3.0 + 10 * 5.0  # accumulated


def test_on_a_processor_nothing_is_recorded(tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = []
    monkeypatch.setattr(SIVT, "on_train_end", lambda self: kinds.append(type(self.batch_loss)))
    assert main(["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1"]) == 0
    assert kinds == [BatchLoss]


@needs_gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_model_replays_what_it_computes(precision: str, checkpoint: Path) -> None:
    model = CheckpointModel(checkpoint, "cuda", precision)
    assert model.replaying is not None
    side, draw = model.about.image_size, generator_for(0)
    sizes = [1, 3, 1, MOST, 3, MOST + 1, 1]
    batches = [torch.rand(size, 3, side, side, generator=draw) for size in sizes]
    found = [model(images) for images in batches]  # all kept: a later one writes over none
    for images, ours in zip(batches, found, strict=True):
        with torch.inference_mode():
            theirs = model._compute(images.cuda())
        for own, other in zip(ours, theirs, strict=True):
            assert own.device.type == "cpu"
            torch.testing.assert_close(own, other.float().cpu(), rtol=1e-5, atol=1e-5)
    assert sorted(shape[0] for shape in model.replaying.recordings) == [1, 3, MOST]


@needs_gpu
def test_threads_share_models_that_record(checkpoint: Path) -> None:
    models = [CheckpointModel(checkpoint, "cuda", "32-true") for _ in range(2)]
    alone = CheckpointModel(checkpoint, "cuda", "32-true")
    side, draw = alone.about.image_size, generator_for(1)
    batches = [torch.rand(1 + k % 5, 3, side, side, generator=draw) for k in range(60)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: models[k % 2](batches[k]), range(len(batches))))
    for images, ours in zip(batches, found, strict=True):
        torch.testing.assert_close(ours.score, alone(images).score, rtol=1e-5, atol=0)
        torch.testing.assert_close(ours.map, alone(images).map, rtol=1e-5, atol=1e-5)


@needs_gpu
def test_predictor_and_predict_replay(
    checkpoint: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_data / "across/test"
    used = []
    monkeypatch.setattr("sivt_lightning.inference.replaying.on_cpu", lambda found: used.append(0) or on_cpu(found))
    arguments = ["--ckpt_path", str(checkpoint), "--data.predict_path", str(folder), "--output", str(tmp_path)]
    assert main(["predict", *arguments, "--trainer.accelerator", "gpu", "--trainer.devices", "1"]) == 0
    assert used
    predictor = Predictor(checkpoint, device="cuda")
    assert isinstance(predictor.model, CheckpointModel)
    rows = rows_of(tmp_path / "predictions.csv")
    for row in rows:
        assert predictor(folder / row["path"]).score == pytest.approx(float(row["score"]), rel=1e-4)
    assert predictor.model.replaying is not None
    assert len(predictor.model.replaying.recordings) == 1


def test_on_a_processor_no_model_records(checkpoint: Path) -> None:
    assert CheckpointModel(checkpoint, "cpu", None).replaying is None
