"""What moves the weights: Muon, or the paper's AdamW."""

from typing import Any, Literal, get_args

import torch
from timm.optim import Muon

from sivt_lightning.errors import SIVTError
from sivt_lightning.model.reconstructor import Reconstructor

Name = Literal["muon", "adamw"]
ADAMW_SHARE = 0.3  # of Muon's learning rate, for the parameters that it leaves to AdamW


def build_optimizer(
    reconstructor: Reconstructor, name: Name, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimizer of all parameters.

    Muon (Jordan et al., 2024) orthogonalises the momentum of each matrix between hidden layers, so that a step changes
    all its directions alike; scaled as in Liu et al., 2025. It is not meant for the ways in and out, positions,
    induction tokens, norms and biases: those are AdamW's.
    """
    if name not in get_args(Name):
        raise SIVTError(f"optimizer {name}: choose one of {', '.join(get_args(Name))}.")
    if name == "adamw":
        adamw = torch.optim.AdamW(reconstructor.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
        # It could undo the scale of 16-mixed within its step. Then Lightning would refuse to clip gradients under any
        # autocast; so it says that it does not, and the scaler does.
        adamw._step_supports_amp_scaling = False
        return adamw
    hidden = [*reconstructor.encoder.parameters(), *reconstructor.decoder.parameters()]
    matrices = [p for p in hidden if p.ndim == 2]
    taken = {id(p) for p in matrices}
    others = [p for p in reconstructor.parameters() if id(p) not in taken]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": others, "use_fallback": True, "lr": ADAMW_SHARE * learning_rate},
    ]
    return Muon(groups, lr=learning_rate, weight_decay=weight_decay, nesterov=True)
