"""Vision transformers as backbones: their blocks in the place of strides, their positions at any image size."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import TINY
from forked import run
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate

from sivt_lightning import SIVTError
from sivt_lightning.cli import main
from sivt_lightning.features.key import feature_key
from sivt_lightning.model.backbone import Backbone
from sivt_lightning.model.detector import build_detector
from sivt_lightning.model.settings import ModelSettings
from sivt_lightning.model.weights import load_weights

DINO_2, DINO_3 = "vit_small_patch14_reg4_dinov2", "vit_tiny_patch16_dinov3_qkvb"
SMALL: dict[str, Any] = {
    "patch_size": 1,
    "groups": 1,
    "self_induction": False,
    "width": 16,
    "heads": 4,
    "encoder_depth": 1,
    "smoothing_sigma": 0.0,
}
COMPARED = """
from pathlib import Path
import onnxruntime, openvino, torch
from sivt_lightning.export.graph import save_onnx, save_openvino, save_torch
from sivt_lightning.inference.checkpoint import read_checkpoint
from sivt_lightning.inference.checkpoint_model import restore_detector
from sivt_lightning.inference.torch_program import TorchProgram
detector = restore_detector(Path("best.ckpt"), read_checkpoint("best.ckpt")).eval()
images = torch.rand(3, 3, 32, 32)
expected = detector(images)
save_torch(detector, "fp32", Path("model.pt2"))
save_onnx(detector, Path("model.onnx"))
save_openvino(Path("model.onnx"), Path("model.xml"))
session = onnxruntime.InferenceSession("model.onnx")
compiled = openvino.Core().compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
for scores, maps, _ in (
    TorchProgram(Path("model.pt2"), torch.device("cpu"))(images),
    session.run(None, {"images": images.numpy()}),
    compiled(images.numpy()).values(),
):
    torch.testing.assert_close(torch.as_tensor(scores), expected.score, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(torch.as_tensor(maps), expected.map, rtol=1e-3, atol=1e-3)
"""


def settings_of(name: str, blocks: list[int] | None, image_size: int, feature_stride: int) -> ModelSettings:
    kinds = {"backbone": name, "blocks": blocks, "image_size": image_size, "feature_stride": feature_stride}
    return ModelSettings(**SMALL | kinds)


def backbone_of(name: str, blocks: list[int] | None, image_size: int, feature_stride: int = 8) -> Backbone:
    return Backbone(settings_of(name, blocks, image_size, feature_stride))


@pytest.mark.parametrize(
    ("name", "image_size", "patch", "extra"), [("test_vit", 64, 16, 1), (DINO_2, 42, 14, 5), (DINO_3, 48, 16, 5)]
)
def test_tokens_of_the_patches_are_the_map(name: str, image_size: int, patch: int, extra: int) -> None:
    """`extra` tokens, of the class and registers, are left out."""
    whole = timm.create_model(name, img_size=image_size).eval()
    backbone = backbone_of(name, [3, 1], image_size, patch)
    backbone.net.load_state_dict(
        {key: whole.state_dict()[key.removeprefix("model.")] for key in backbone.net.state_dict()}
    )
    tokens: list[Tensor] = []
    for block in (whole.blocks[1], whole.blocks[3]):
        block.register_forward_hook(lambda _, __, output: tokens.append(output))
    images = torch.rand(2, 3, image_size, image_size)
    with torch.no_grad():
        whole((images - backbone.mean) / backbone.std)
    side = image_size // patch
    expected = torch.cat([each[:, extra:].transpose(1, 2).unflatten(2, (side, side)) for each in tokens], 1)
    torch.testing.assert_close(backbone(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["test_vit", DINO_3])
def test_blocks_after_the_last_one_are_cut(name: str) -> None:
    backbone = backbone_of(name, [0, 2], 64, 8)
    assert len(backbone.net.model.blocks) == 3
    assert backbone(torch.rand(1, 3, 64, 64)).shape == (1, backbone.channels, 8, 8)
    backbone.net.requires_grad_(True)
    with torch.enable_grad():
        sum(m.square().sum() for m in backbone.net(torch.rand(2, 3, 64, 64))).backward()
    assert [key for key, value in backbone.net.named_parameters() if value.grad is None] == []


def test_a_finer_grid_is_interpolated() -> None:
    coarse, fine = (backbone_of("test_vit", [1], 64, stride) for stride in (16, 8))
    fine.load_state_dict(coarse.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(fine(images), interpolate(coarse(images), size=8, mode="bilinear"))


@pytest.mark.parametrize(
    ("name", "blocks", "image_size", "said"),
    [
        ("test_vit", None, 64, r"strides \[2, 4, 8, 16\]: all outputs of test_vit have stride 16; choose .* 0 to 5 by"),
        ("test_vit", [6], 64, r"blocks \[6\]: test_vit has blocks 0 to 5"),
        ("test_vit", [-1], 64, "has blocks 0 to 5"),
        ("test_vit", [1, 1], 64, "each once"),
        ("test_vit", [], 64, "name one or more"),
        ("test_vit", [1], 72, r"72 is no multiple of 16, the patch of test_vit, .*: choose 64 or 80\."),
        ("test_vit", [1], 8, r"image_size 8 is no multiple of 16, .*: choose 16\."),
        ("resnet18", [1], 64, "resnet18 is no vision transformer; choose its outputs by the setting strides"),
        ("pixels", [0], 64, "pixels is no vision transformer"),
    ],
)
def test_what_cannot_be(name: str, blocks: list[int] | None, image_size: int, said: str) -> None:
    with pytest.raises(SIVTError, match=said):
        backbone_of(name, blocks, image_size)


@pytest.mark.parametrize(("name", "image_size"), [("test_vit", 64), ("test_vit", 160), (DINO_2, 42), (DINO_3, 64)])
def test_a_file_of_another_image_size_is_loaded_as_timm_does(name: str, image_size: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    whole = timm.create_model(name)
    if getattr(whole, "pos_embed", None) is not None:
        torch.nn.init.normal_(whole.pos_embed)
    save_file(whole.state_dict(), path)
    backbone = backbone_of(name, [0, 1], image_size, image_size)
    load_weights(backbone, str(path), seed=0)
    asked: dict[str, Any] = {"features_only": True, "out_indices": (0, 1), "img_size": image_size}
    theirs = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **asked)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(backbone.net.state_dict()[key], value, msg=key)


def test_a_file_as_its_makers_wrote_it_and_one_of_another_network(tmp_path: Path) -> None:
    state = timm.create_model("test_vit").state_dict()
    save_file(state | {"mask_token": torch.zeros(1, 64)}, tmp_path / "dino.safetensors")
    load_weights(backbone_of("test_vit", [1], 64), str(tmp_path / "dino.safetensors"), seed=0)
    save_file(
        state | {"pos_embed": torch.zeros(1, 90, 64)}, tmp_path / "odd.safetensors"
    )  # no square and a class token
    with pytest.raises(SIVTError, match=r"shapes differ: pos_embed is \(1, 90, 64\) instead of \(1, 17, 64\)"):
        load_weights(backbone_of("test_vit", [1], 64), str(tmp_path / "odd.safetensors"), seed=0)


def test_kept_features_are_of_their_blocks() -> None:
    one, other = (build_detector(settings_of("test_vit", blocks, 64, 16)) for blocks in ([0, 2], [1, 2]))
    other.load_state_dict(one.state_dict())
    assert feature_key(one, "32-true", "cpu", {}) != feature_key(other, "32-true", "cpu", {})


def test_trained_restored_and_exported(tiny_data: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    network = "backbone: test_vit\n  blocks: [1, 3]"
    config.write_text(TINY.replace("ROOT", str(tiny_data)).replace("backbone: test_resnet\n  strides: [2, 4]", network))
    with contextlib.chdir(tmp_path):
        assert main(["fit", "--config", str(config), "--trainer.max_epochs", "1", "--synthetic.per_image", "0"]) == 0
        next(Path("runs").rglob("best.ckpt")).rename("best.ckpt")
        assert torch.load("best.ckpt", weights_only=True)["hyper_parameters"]["blocks"] == [1, 3]
        run(code=COMPARED)  # without the checks of shapes, which are no numbers while torch traces
