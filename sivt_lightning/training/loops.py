"""Lightning's inside, all that is used of its loops, as in Lightning 2.6: how far they are, now and in a checkpoint."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer


def epochs_done(checkpoint: Mapping[str, Any]) -> int:
    """Whole ones, at the time of a checkpoint."""
    return checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]


def batches_begun(checkpoint: Mapping[str, Any]) -> int:
    """Of the epoch, at the time of a checkpoint."""
    return checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"]


def validations_waited(checkpoint: Mapping[str, Any]) -> int:
    """Since the best score, by a checkpoint's EarlyStopping; 0 without one."""
    stopping = [state for key, state in checkpoint["callbacks"].items() if key.startswith("EarlyStopping")]
    return stopping[0]["wait_count"] if stopping else 0


def is_at_its_end(trainer: Trainer) -> bool:
    """Whether the last batch of the epoch that a trainer goes on with is done."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def count_as_done(trainer: Trainer, batches: int) -> None:
    """Has a trainer that has not begun yet go on after so many batches of the epoch."""
    current = trainer.fit_loop.epoch_loop.batch_progress.current
    shift = batches - current.ready
    for stage in ("ready", "started", "processed", "completed"):
        setattr(current, stage, getattr(current, stage) + shift)
