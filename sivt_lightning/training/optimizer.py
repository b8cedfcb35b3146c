"""What moves the weights: Muon, or the paper's AdamW, at a rate by the progress of the training."""

import math
from typing import Any

import torch
from timm.optim import Muon
from torch.optim.lr_scheduler import LambdaLR

from sivt_lightning.model.reconstructor import Reconstructor
from sivt_lightning.model.settings import OptimizerName
from sivt_lightning.training.adamw import adamw

ADAMW_SHARE = 0.3  # of Muon's learning rate, for the parameters that it leaves to AdamW


def build_optimizer(
    reconstructor: Reconstructor, name: OptimizerName, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimizer of all parameters.

    Muon (Jordan et al., 2024) orthogonalises the momentum of each matrix between hidden layers, so that a step changes
    all its directions alike; scaled as in Liu et al., 2025. It is not meant for the ways in and out, positions,
    induction tokens, norms and biases: those are AdamW's.
    """
    if name == "adamw":
        return adamw(reconstructor.parameters(), learning_rate, weight_decay)
    hidden = [*reconstructor.encoder.parameters(), *reconstructor.decoder.parameters()]
    matrices = [p for p in hidden if p.ndim == 2]
    taken = {id(p) for p in matrices}
    others = [p for p in reconstructor.parameters() if id(p) not in taken]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": others, "use_fallback": True, "lr": ADAMW_SHARE * learning_rate},
    ]
    return Muon(groups, lr=learning_rate, weight_decay=weight_decay, nesterov=True)


class Schedule:
    """Factor of the learning rate: linear warm-up, then a cosine to zero or a constant.

    It goes by the share of the epochs, or of the steps where these end first, so that a training that goes on with
    other batches or on other devices has the rate that it had, and comes to zero at its end.

    Args:
        by_epochs: steps of all epochs; inf where their number is not limited.
        by_steps: number of steps that ends the training; inf where it is not limited.
        warmup: share of the training in which the rate rises.
    """

    def __init__(self, by_epochs: int | float, by_steps: int | float, warmup: float, cosine: bool) -> None:
        self.total = min(by_epochs, by_steps)
        self.warmup = round(self.total * warmup)
        self.cosine = cosine
        self.epoch_scale, self.step_scale = self.total / by_epochs, self.total / by_steps  # one of them is 1
        self.ahead = 0  # by how many steps the epochs are ahead of those taken: other batches gave another number

    def __call__(self, step: int) -> float:
        """Of the step after so many."""
        done = min(self.total, max((step + self.ahead) * self.epoch_scale, step * self.step_scale))
        if done < self.warmup:
            return (done + 1) / (self.warmup + 1)
        if not self.cosine:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / max(1, self.total - self.warmup)))


def rates_of(optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """What settings say of each group of parameters, before a schedule changes it."""
    return [{name: group[name] for name in ("lr", "weight_decay")} for group in optimizer.param_groups]


def restore_rates(optimizer: torch.optim.Optimizer, scheduler: LambdaLR, rates: list[dict[str, float]]) -> None:
    """Puts the settings of now in the place of those that a checkpoint brought; its step stays."""
    scheduler.base_lrs = [rate["lr"] for rate in rates]
    for group, rate, factor in zip(optimizer.param_groups, rates, scheduler.lr_lambdas, strict=True):
        step = scheduler.last_epoch
        group |= {"initial_lr": rate["lr"], "lr": rate["lr"] * factor(step), "weight_decay": rate["weight_decay"]}
