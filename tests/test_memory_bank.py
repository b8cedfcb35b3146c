"""The memory bank: what it takes, what it finds, and what it does to map and score."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from sivt_lightning.cli import main
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.errors import SIVTError
from sivt_lightning.model.detector import Detector, build_detector
from sivt_lightning.model.memory_bank import AXES, MemoryBank, coreset
from sivt_lightning.model.settings import ModelSettings
from sivt_lightning.training.module import SIVT


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(size: int, channels: int = 6, seed: int = 0, **candidates: int) -> MemoryBank:
    """A bank of so many random vectors, chosen from so many of each category."""
    bank = MemoryBank(size, channels)
    bank.fill({name: drawn(count, channels, seed=seed + i) for i, (name, count) in enumerate(candidates.items())})
    return bank


def test_each_position_gets_its_nearest_vector() -> None:
    bank, features = filled(40, a=200, b=100), drawn(3, 6, 5, 4, seed=9)
    nearest = bank(features)
    asked = features.permute(0, 2, 3, 1).reshape(-1, 6).double().numpy()
    distances = ((asked[:, None] - bank.vectors.double().numpy()) ** 2).sum(-1)
    expected = bank.vectors.numpy()[distances.argmin(1)].reshape(3, 5, 4, 6).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(nearest, expected)


def test_many_channels_are_compared_along_those_directions_in_which_they_differ() -> None:
    """Vectors of 200 channels in a space of 20 dimensions, and faint noise in all: nothing is lost."""
    space = torch.linalg.qr(drawn(200, 20)).Q.T
    vectors = 3 * drawn(300, 20, seed=1) @ space + 0.01 * drawn(300, 200, seed=2)
    bank = MemoryBank(100, 200)
    bank.fill({"a": vectors})
    assert bank.axes.shape == (200, AXES)
    asked = drawn(50, 20, seed=3) @ space
    found = bank(asked.T.reshape(1, 200, 10, 5))[0].flatten(1).T
    assert torch.equal(found, bank.vectors[torch.cdist(asked, bank.vectors).argmin(1)])


def test_half_precision_around_it_changes_nothing() -> None:
    bank, features = filled(40, a=200), drawn(2, 6, 8, 8, seed=9)
    with torch.autocast("cpu", torch.bfloat16):
        halved = bank(features)
    assert torch.equal(halved, bank(features))


def test_the_coreset_is_the_greedy_one() -> None:
    points = drawn(60, 3)
    taken = [0]
    while len(taken) < 12:
        distances = np.linalg.norm(points.numpy()[:, None] - points.numpy()[taken], axis=-1).min(1)
        taken.append(int(distances.argmax()))
    assert coreset(points, 12).tolist() == taken


def test_categories_share_the_room() -> None:
    candidates = {"a": drawn(50, 6), "b": drawn(9, 6, seed=1) + 100, "c": drawn(500, 6, seed=2) - 100}
    bank = MemoryBank(31, 6)
    bank.fill(candidates)
    counts = {
        name: int((bank.vectors[:, None] == vectors).all(-1).any(1).sum()) for name, vectors in candidates.items()
    }
    # b has but nine; what is left of its ten is filled with another vector, once more
    assert counts == {"a": 11, "b": 9, "c": 11}
    small = filled(8, a=3)
    assert len(small.vectors) == 8
    assert len(small.vectors.unique(dim=0)) == 3
    with pytest.raises(SIVTError, match=r"model\.memory_bank 2 has no room for each of 3 categories: give it 100"):
        MemoryBank(2, 6).fill(candidates)


def detector(**changes: int) -> Detector:
    settings = {"image_size": 64, "width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2} | changes
    torch.manual_seed(0)
    return build_detector(
        ModelSettings(backbone="resnet18", strides=[4, 8], weights="random", smoothing_sigma=0.0, **settings)  # type: ignore[arg-type]
    )


def test_the_map_is_the_geometric_mean_of_both_residuals() -> None:
    model = detector(memory_bank=50)
    features = drawn(2, model.backbone.channels, 8, 8)
    assert model.memory_bank is not None
    model.memory_bank.fill({"a": drawn(400, model.backbone.channels, seed=1)})
    found, reconstruction = model.detect(features)
    one = model.scoring.anomaly_map(features, reconstruction)
    other = model.scoring.anomaly_map(features, model.memory_bank(features))
    torch.testing.assert_close(found.map, (one * other).sqrt(), rtol=1e-4, atol=0)
    assert torch.equal(detector(memory_bank=0).detect(features)[0].map, one)


def test_what_is_remembered_exactly_does_not_hide_what_is_beside_it() -> None:
    """An even background is found again to the last bit; a defect in it has to stay hot."""
    model = detector(memory_bank=50)
    channels = model.backbone.channels
    even = drawn(channels)
    features = even[None, :, None, None].repeat(1, 1, 8, 8)
    features[0, :, 4, 4] = drawn(channels, seed=5)
    rebuilt = features + 0.3 * drawn(*features.shape, seed=6)
    model.memory_bank.fill({"a": torch.cat([even[None], drawn(100, channels, seed=7) + 5])})  # type: ignore[union-attr]
    logarithm = model.score(features, rebuilt).map[0].log()
    assert logarithm.max() - logarithm.min() < 12
    assert np.unravel_index(int(logarithm.argmax()), (64, 64)) in {(y, x) for y in range(32, 40) for x in range(32, 40)}


def trained(config: Path, *told: str) -> Path:
    assert main(["fit", "--config", str(config), "--trainer.max_epochs", "1", *told]) == 0
    return Path("runs/tiny/version_0/checkpoints/best.ckpt")


def bank_of(checkpoint: Path) -> torch.Tensor:
    vectors: torch.Tensor = torch.load(checkpoint, weights_only=True)["state_dict"]["detector.memory_bank.vectors"]
    return vectors


@pytest.mark.parametrize("told", [("--data.cache", "memory"), ("--data.rotation", "5", "--data.shift", "0.1")])
def test_it_is_filled_from_the_training_images_and_not_from_held_out_ones(
    tiny_config: Path, tmp_path: Path, told: tuple[str, ...]
) -> None:
    with contextlib.chdir(tmp_path):
        stored = torch.load(trained(tiny_config, *told), weights_only=True)
    model = SIVT(**stored["hyper_parameters"])
    model.load_state_dict(stored["state_dict"])
    data = SIVTDataModule(**stored["datamodule_hyper_parameters"] | {"cache": "off"})
    data.setup("fit")
    known = {
        name: torch.cat([model.detector.features(batch.images).permute(0, 2, 3, 1).flatten(0, 2) for batch in batches])
        for name, batches in (
            ("train", data.training_batches(range(len(data.train_set)))),
            ("held out", data.batches(data.val_set.samples)),
        )
    }
    bank = stored["state_dict"]["detector.memory_bank.vectors"].unique(dim=0)
    away = {
        name: torch.cdist(bank, vectors, compute_mode="donot_use_mm_for_euclid_dist").min(1).values
        for name, vectors in known.items()
    }
    assert away["train"].max() < 0.01  # kept in half precision
    assert away["held out"].min() > 0.05


def test_a_training_goes_on_with_the_bank_that_it_has(tiny_config: Path, tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        before = bank_of(trained(tiny_config))
        assert (
            main(["fit", "--ckpt_path", "runs/tiny/version_0/checkpoints/last.ckpt", "--trainer.max_epochs", "2"]) == 0
        )
        assert torch.equal(bank_of(Path("runs/tiny/version_0/checkpoints/last.ckpt")), before)


def test_a_training_from_a_models_weights_remembers_its_own_images(
    tiny_config: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with contextlib.chdir(tmp_path):
        told = ["--model.init_from", str(checkpoint), "--data.categories", "down", "--model.memory_bank", "64"]
        vectors = bank_of(trained(tiny_config, *told))
    assert vectors.shape[0] == 64
    assert torch.cdist(vectors, bank_of(checkpoint)).min(1).values.max() > 0


def test_a_bank_that_is_too_small_is_one_sentence(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.chdir(tmp_path):
        told = ["fit", "--config", str(tiny_config), "--trainer.max_epochs", "1", "--model.memory_bank"]
        assert main([*told, "1"]) == 1
        assert "model.memory_bank 1 has no room for each of 2 categories" in capsys.readouterr().err
        assert main([*told, "-1"]) == 1
        assert "memory_bank is -1: give a number of feature vectors, or 0 for none" in capsys.readouterr().err
