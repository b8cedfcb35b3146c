"""torch's AdamW without a private mark of it, as in torch 2.14."""

from collections.abc import Iterable

import torch
from torch import nn


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """The fused one, with gradients that can be clipped under autocast.

    It could undo the scale of 16-mixed within its step. Then Lightning would refuse to clip gradients under any
    autocast; so it says that it does not, and the scaler does.
    """
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)
    optimizer._step_supports_amp_scaling = False
    return optimizer
