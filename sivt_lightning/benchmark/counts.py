"""What a model consists of, and how many operations it takes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sivt_lightning.model.detector import Detector
from sivt_lightning.model.reconstructor import Reconstructor

SHAPE = ("patch_size", "groups", "width", "encoder_depth", "decoder_depth", "heads", "mlp_ratio", "self_induction")


def count_parameters(module: nn.Module) -> dict[str, int]:
    """Those that are trained and those that are not."""
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return {"trainable": trainable, "frozen": sum(p.numel() for p in module.parameters()) - trainable}


def multiply_adds(detector: Detector, model: dict[str, Any]) -> dict[str, int]:
    """Of one image, by torch's counter. The fast path's and, for comparison, those of the plain one."""
    backbone = detector.backbone
    device = backbone.mean.device
    plain = plain_reconstructor(detector, {key: model[key] for key in SHAPE})
    images = torch.zeros(1, 3, backbone.image_size, backbone.image_size, device=device)
    features = torch.zeros(1, backbone.channels, backbone.grid, backbone.grid, device=device)
    of_plain = operations(lambda: plain(features, detector.partition))
    return {
        "backbone": sum(operations(lambda: backbone(images)).values()),
        "linear": of_plain["linear"],
        "attention": of_plain["attention"],
        "reconstructor": sum(of_plain.values()),
        "reconstructor_fast": sum(operations(lambda: detector.reconstruct(features)).values()),
    }


def operations(call: Callable[[], object]) -> dict[str, int]:
    # Attention as plain products: torch's counter knows no fused kernel of the CPU before torch 2.15.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    counts = {str(operation): flops // 2 for operation, flops in counter.get_flop_counts()["Global"].items()}
    attention = sum(n for name, n in counts.items() if "bmm" in name)
    return {"linear": sum(counts.values()) - attention, "attention": attention}


def plain_reconstructor(detector: Detector, shape: dict[str, Any]) -> Reconstructor:
    """A reconstructor of this shape that takes the plain path."""
    backbone = detector.backbone
    return Reconstructor(backbone.channels, backbone.grid, **shape).to(backbone.mean.device)
