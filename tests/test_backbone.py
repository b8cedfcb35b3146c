import os
from pathlib import Path

import pytest
import timm
import torch
from parts import backbone_of
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from sivt_lightning.errors import SIVTError
from sivt_lightning.model.backbone import Backbone
from sivt_lightning.model.networks import build_network, check_known
from sivt_lightning.model.settings import ModelSettings, Resize
from sivt_lightning.model.standardize import Standardize
from sivt_lightning.model.weights import load_weights

ASSETS = os.environ.get("SIVT_ASSETS")
needs_assets = pytest.mark.skipif(not ASSETS, reason="needs real weights: set SIVT_ASSETS to their folder")
B4 = "tf_efficientnet_b4.aa_in1k"


def test_b4_is_cut_after_stride_16_and_gives_the_same_features() -> None:
    backbone = backbone_of(B4, [2, 4, 8, 16], 256, resize="bilinear")
    assert (backbone.channels, backbone.grid) == (272, 32)
    assert sum(p.numel() for p in backbone.parameters()) == 3_635_984
    whole = timm.create_model(B4, features_only=True).eval()
    backbone.net.load_state_dict({k: v for k, v in whole.state_dict().items() if k in backbone.net.state_dict()})
    images = torch.rand(1, 3, 256, 256)
    features = backbone(images)
    assert features.shape == (1, 272, 32, 32)
    with torch.no_grad():
        maps = whole((images - backbone.mean) / backbone.std)[:4]
    expected = torch.cat([interpolate(m, size=32, mode="bilinear", align_corners=False) for m in maps], 1)
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize(("resize", "seen"), [("area", 16), ("bilinear", 4)])
def test_how_much_of_a_fine_output_is_seen(resize: Resize, seen: int) -> None:
    """Of the 4 x 4 squares of 2 x 2 pixels that make a position of the grid."""
    backbone = backbone_of("pixels", strides=[2], image_size=32, resize=resize)
    plain = torch.zeros(1, 3, 32, 32)
    specks = plain.repeat(16, 1, 1, 1)
    for i in range(16):
        specks[i, :, 8 + 2 * (i // 4), 8 + 2 * (i % 4)] = 1.0
    change = (backbone(specks) - backbone(plain)).abs().amax(1)  # (16, 4, 4)
    assert int((change[:, 1, 1] > 0).sum()) == seen
    change[:, 1, 1] = 0
    assert not change.any()


def test_area_and_bilinear_agree_where_an_output_is_as_coarse_as_the_grid_or_coarser() -> None:
    one, other = (backbone_of("resnet18", [8, 16], 64, resize=resize) for resize in ("area", "bilinear"))
    other.load_state_dict(one.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(one(images), other(images), rtol=0, atol=0)


def test_a_restored_one_is_the_same_and_a_training_draws_what_it_ever_drew() -> None:
    settings = ModelSettings(backbone="test_efficientnet", strides=[4, 16], image_size=64)
    torch.manual_seed(0)
    network = build_network(settings.backbone, 64)
    assert network.feature_info.reduction() == [2, 4, 8, 16, 32]
    build_network(settings.backbone, 64, [1, 3])
    following = torch.rand(1)
    torch.manual_seed(0)
    trained = Backbone(settings)
    assert torch.equal(torch.rand(1), following), "the reconstructor's first weights come after the network's"
    restored = Backbone(settings, restored=True)
    restored.load_state_dict(trained.state_dict())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(restored(images), trained(images))


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [
        ("resnet18", [4, 8], 64 + 128),
        ("mobilenetv3_small_100", [4, 16], 16 + 48),
        ("vgg11", [2, 8], 128 + 512),
        ("convnext_atto", [4, 8], 40 + 80),
        ("swin_tiny_patch4_window7_224", [8], 192),
        ("vit_tiny_patch16_224", [16], 192),
    ],
)
def test_any_timm_network_without_idle_stages(name: str, strides: list[int], channels: int) -> None:
    backbone = backbone_of(name, strides, 64)
    assert backbone.channels == channels
    assert backbone(torch.rand(2, 3, 64, 64)).shape == (2, channels, 8, 8)
    # every parameter that is left takes part in the features
    backbone.net.requires_grad_(True)
    with torch.enable_grad():
        sum(m.square().sum() for m in backbone.net(torch.rand(2, 3, 64, 64))).backward()
    idle = sum(p.numel() for p in backbone.net.parameters() if p.grad is None)
    assert idle <= 0.01 * sum(p.numel() for p in backbone.net.parameters())


def test_frozen_and_in_eval_mode_whatever_is_asked() -> None:
    backbone = backbone_of("resnet18", [4], 32)
    backbone.train()
    assert not any(m.training for m in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not backbone(torch.rand(1, 3, 32, 32)).requires_grad


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("resnet19", [4], 32), "did you mean resnet1"),
        (("resnet18", [3], 32), r"outputs of strides \[2, 4, 8, 16, 32\]"),
        (("resnet18", [], 32), "strides"),
        (("resnet18", [4, 4], 32), "each once"),
        (("resnet18", [4], 36), "multiple of feature_stride"),
        (("vgg11", [32], 8), "takes no images of 8 x 8"),
    ],
)
def test_impossible_backbones(arguments: tuple[str, list[int], int], named: str) -> None:
    with pytest.raises(SIVTError, match=named):
        backbone_of(*arguments)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("hf-hub:somebody/model", "not known to timm"),
        ("hf_hub:timm/resnet18.a1_in1k", "not known to timm"),
        ("HF-HUB:somebody/model", "not known to timm"),
        ("local-dir:/tmp", "not known to timm"),
        ("https://example.org/resnet18", "not known to timm"),
        ("timm/resnet18.a1_in1k", "not known to timm"),
        ("", "not known to timm"),
        ("resnet18.hf-hub:somebody/model", "timm knows no weights hf-hub:somebody/model of resnet18"),
        ("resnet18.a1_in2k", r"Choose one of .*resnet18\.a1_in1k"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_only_networks_of_timms_own(name: str, named: str) -> None:
    with pytest.raises(SIVTError, match=named):
        backbone_of(name, [4], 32)


def test_every_network_that_timm_lists_is_known_to_it() -> None:
    for name in timm.list_models() + timm.list_models(include_tags=True):
        check_known(name)


def test_standardize_measures_mean_and_deviation() -> None:
    maps = torch.randn(6, 3, 8, 8) * torch.tensor([1.0, 100.0, 0.01]).view(3, 1, 1) + 5
    maps[:, 2] = 7.0  # a dead channel
    standardize = Standardize(3, "channel")
    standardize.measure([maps[:2], maps[2:]])
    scaled = standardize(maps)
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std((0, 2, 3), correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-3, rtol=0)
    untouched = Standardize(3, "none")
    untouched.measure([maps])
    assert torch.equal(untouched(maps), maps)
    with pytest.raises(SIVTError, match="No training image"):
        Standardize(3, "channel").measure([])


def test_whitening_takes_out_correlation_but_not_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    shared, own = torch.randn(8, 1, 16, 16, generator=generator), torch.randn(8, 3, 16, 16, generator=generator)
    maps = 4 * (shared + 0.1 * own) + 5
    maps[:, 2] = 10 * own[:, 2]
    scaled, whitened = Standardize(3, "channel"), Standardize(3, "whiten")
    for one in (scaled, whitened):
        one.measure([maps[:3], maps[3:]])
    with torch.autocast("cpu", torch.bfloat16):
        features = whitened(maps)
    assert features.dtype == torch.float32
    values = features.permute(1, 0, 2, 3).flatten(1)
    covariance = values.cov(correction=0)
    # Variances of the correlation's directions: v / (0.7 v + 0.3).
    correlation = scaled(maps).permute(1, 0, 2, 3).flatten(1).cov(correction=0)
    before, after = torch.linalg.eigvalsh(correlation), torch.linalg.eigvalsh(covariance)
    torch.testing.assert_close(after, before / (0.7 * before + 0.3), atol=1e-3, rtol=0)
    assert before[0] < 0.02
    assert after[0] < 0.1
    assert abs(correlation[0, 1]) > 0.95
    assert values.mean(1).abs().max() < 1e-4


def test_pixels_are_a_backbone() -> None:
    net = backbone_of("pixels", strides=[4], image_size=32, feature_stride=4)
    load_weights(net, "imagenet", seed=0)  # there are none to find
    images = torch.rand(2, 3, 32, 32)
    features = net(images)
    assert features.shape == (2, 48, 8, 8)
    square = ((images - net.mean) / net.std)[1, 2, 4:8, 8:12]
    torch.testing.assert_close(features[1, 32:, 1, 2], square.flatten())


def test_random_weights_are_seeded_and_calibrated() -> None:
    images = [torch.rand(4, 3, 64, 64) for _ in range(2)]
    one, same, other = (backbone_of("resnet18", [4, 8], 64) for _ in range(3))
    for backbone, seed in ((one, 5), (same, 5), (other, 6)):
        before = torch.get_rng_state()
        load_weights(backbone, "random", seed)
        assert torch.equal(before, torch.get_rng_state())
        backbone.calibrate(images)
    assert torch.equal(one(images[0]), same(images[0]))
    assert not torch.equal(one(images[0]), other(images[0]))
    norm = one.net.get_submodule("bn1")
    assert norm.running_mean.abs().max() > 0  # no longer the initial zeros
    assert not norm.training
    with torch.no_grad():
        scaled = norm(one.net.get_submodule("conv1")((torch.cat(images) - one.mean) / one.std))
    assert scaled.mean((0, 2, 3)).abs().max() < 1e-3
    assert (scaled.var((0, 2, 3)) - 1).abs().max() < 0.05


def whole_state(name: str = "resnet18") -> dict[str, torch.Tensor]:
    return timm.create_model(name, num_classes=1000).state_dict()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("part", ["whole", "stages"])
def test_local_weights(tmp_path: Path, suffix: str, part: str) -> None:
    backbone = backbone_of("resnet18", [4, 8], 32)
    state = whole_state()
    if part == "stages":
        state = {k: v for k, v in state.items() if k in backbone.net.state_dict() and "num_batches" not in k}
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    load_weights(backbone, str(path), seed=0)
    assert torch.equal(backbone.net.get_submodule("layer1.0.conv1").weight, state["layer1.0.conv1.weight"])


def test_local_weights_of_a_network_whose_features_are_renamed(tmp_path: Path) -> None:
    state = whole_state("convnext_atto")
    save_file(state, tmp_path / "w.safetensors")
    backbone = backbone_of("convnext_atto", [4, 8], 32)
    load_weights(backbone, str(tmp_path / "w.safetensors"), seed=0)
    loaded = backbone.net.state_dict()["stages_0.blocks.0.conv_dw.weight"]
    assert torch.equal(loaded, state["stages.0.blocks.0.conv_dw.weight"])


def test_local_weights_of_a_vision_transformer(tmp_path: Path) -> None:
    state = timm.create_model("vit_tiny_patch16_224", img_size=64).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    backbone = backbone_of("vit_tiny_patch16_224", [16], 64)
    load_weights(backbone, str(tmp_path / "w.safetensors"), seed=0)
    assert torch.equal(backbone.net.state_dict()["model.cls_token"], state["cls_token"])


def test_wrong_local_weights_are_named(tmp_path: Path) -> None:
    backbone = backbone_of("resnet18", [4, 8], 32)
    state = whole_state()
    cases = {
        "keys are missing: layer1.0.conv1.weight": {k: v for k, v in state.items() if k != "layer1.0.conv1.weight"},
        "unexpected keys: extra": state | {"extra": torch.zeros(1)},
        r"shapes differ: conv1.weight is \(1,\)": state | {"conv1.weight": torch.zeros(1)},
    }
    for number, (message, changed) in enumerate(cases.items()):
        path = tmp_path / f"{number}.safetensors"
        save_file(changed, path)
        with pytest.raises(SIVTError, match=message):
            load_weights(backbone, str(path), seed=0)


class Hostile:
    """Touches the file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return (self.file.touch, ())


def test_unreadable_weights(tmp_path: Path) -> None:
    backbone = backbone_of("resnet18", [4], 32)
    (tmp_path / "damaged.safetensors").write_bytes(b"\x00" * 100)
    (tmp_path / "text.txt").write_text("weights")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "numbers.pth")
    torch.save({"conv1.weight": Hostile(tmp_path / "was_here")}, tmp_path / "hostile.pth")
    for name, message in {
        "absent.pth": "no such file",
        "": "it is a folder",
        "damaged.safetensors": "damaged",
        "text.txt": "not a .safetensors",
        "numbers.pth": "state_dict",
        "hostile.pth": "more than plain tensors",
    }.items():
        with pytest.raises(SIVTError, match=message):
            load_weights(backbone, str(tmp_path / name), seed=0)
    assert not (tmp_path / "was_here").exists()
    torch.load(tmp_path / "hostile.pth", weights_only=False)
    assert (tmp_path / "was_here").exists()  # it is hostile indeed


def test_imagenet_weights_out_of_reach_name_the_two_other_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SIVTError, match=r"weights: PATH.*weights: random"):
        load_weights(backbone_of("resnet18", [4], 32), "imagenet", seed=0)


def test_a_loader_that_fails_without_a_word_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of("resnet18", [4], 32)

    def create_model(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(SIVTError, match=r"could not be loaded \(TimeoutError\)"):
        load_weights(backbone, "imagenet", seed=0)


def test_imagenet_weights_come_through_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of("resnet18", [4], 32)
    reference = timm.create_model("resnet18", features_only=True, out_indices=(1,))
    asked = []

    def create_model(name: str, pretrained: bool, **kwargs: object) -> torch.nn.Module:
        asked.append((name, pretrained))
        return reference

    monkeypatch.setattr(timm, "create_model", create_model)
    load_weights(backbone, "imagenet", seed=0)
    assert asked == [("resnet18", True)]
    assert torch.equal(backbone.net.get_submodule("conv1").weight, reference.get_submodule("conv1").weight)


@needs_assets
def test_real_b4_weights_load_from_the_stages_file() -> None:
    backbone = backbone_of(B4, [2, 4, 8, 16], 256)
    load_weights(backbone, f"{ASSETS}/weights/tf_efficientnet_b4_stages0-4.safetensors", seed=0)
    features = backbone(torch.rand(1, 3, 256, 256))
    assert features.isfinite().all()


@needs_assets
def test_real_resnet_weights_load_from_the_stages_file() -> None:
    """Learned with the stride of two convolutions elsewhere than in timm's network: it takes them all the same."""
    backbone = backbone_of("resnet50.a1_in1k", [2, 4, 8, 16], 64)
    load_weights(backbone, f"{ASSETS}/weights/resnet50_caffe_stages0-3.safetensors", seed=0)
    features = backbone(torch.rand(1, 3, 64, 64))
    assert features.shape == (1, 64 + 256 + 512 + 1024, 8, 8)
    assert features.isfinite().all()
