"""What a model consists of, and how many operations it takes."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sivt_lightning.model.attention import Attention
from sivt_lightning.model.detector import Detector
from sivt_lightning.model.reconstructor import Reconstructor


def count_parameters(module: nn.Module) -> dict[str, int]:
    """Those that are trained and those that are not."""
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return {"trainable": trainable, "frozen": sum(p.numel() for p in module.parameters()) - trainable}


def multiply_adds(detector: Detector) -> dict[str, int]:
    """Of one image: those of Algorithm 1 as the paper draws it, and those that are computed ("reconstructor_fast");
    and of the search in the memory bank."""
    backbone, bank = detector.backbone, detector.memory_bank
    device = backbone.mean.device
    images = torch.zeros(1, 3, backbone.image_size, backbone.image_size, device=device)
    features = torch.zeros(1, backbone.channels, backbone.grid, backbone.grid, device=device)
    drawn = as_drawn(detector.reconstructor)
    return {
        "backbone": operations(lambda: backbone(images)),
        **drawn,
        "reconstructor": sum(drawn.values()),
        "reconstructor_fast": operations(lambda: detector.reconstruct(features)),
        "memory_bank": operations(partial(bank, features)) if bank else 0,
    }


def as_drawn(model: Reconstructor) -> dict[str, int]:
    """Of one image, were all N sequences encoded whole, as nobody has to compute them: `Reconstructor.induce` says why.

    A token meets each weight of a linear layer once, and in each block all tokens of its sequence twice: in the product
    that makes the scores, and in the one that mixes the values.
    """
    linear = attention = 0
    for part in (model.embed, model.encoder, model.decoder, model.head):
        sequences = model.groups if part is model.encoder and model.self_induction else 1
        tokens = sequences * model.length
        linear += tokens * sum(layer.weight.numel() for layer in part.modules() if isinstance(layer, nn.Linear))
        widths = (layer.proj.in_features for layer in part.modules() if isinstance(layer, Attention))
        attention += tokens * 2 * model.length * sum(widths)
    return {"linear": linear, "attention": attention}


def operations(call: Callable[[], object]) -> int:
    """Multiply-adds of a call, by torch's counter."""
    # Attention as plain products: torch's counter knows no fused kernel of the CPU before torch 2.15.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2
