"""What the Trainer of a fit is given: logs, callbacks, and checkpoints that are written whole."""

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import TensorBoardLogger

from sivt_lightning.training.continuation import SamePhotos
from sivt_lightning.training.csv_log import AppendingCSVLogger
from sivt_lightning.training.interruption import Interruption
from sivt_lightning.training.progress import TrainingProgress
from sivt_lightning.training.saving import MODES, EarlyStopping, Monitor, WholeCheckpointIO, checkpoint_callbacks
from sivt_lightning.training.threshold_calibration import ThresholdCalibration
from sivt_lightning.training.training_watch import TrainingWatch


def fit_parts(
    settings: Any, run: Path, first_step: int | None, monitor: Monitor, patience: int | None
) -> dict[str, Any]:
    """Arguments of the Trainer, beside those that the user gives.

    Args:
        settings: the user's for the Trainer.
        run: folder of the run.
        first_step: of this process, where another one began the run.
        patience: validations without a better value of `monitor` after which it ends; None for never.
    """
    parts: dict[str, Any] = {"callbacks": [ThresholdCalibration(), SamePhotos(), TrainingWatch(), TrainingProgress()]}
    if settings.logger in (None, True):
        place = (run.parent.parent, run.parent.name, run.name)
        csv, board = AppendingCSVLogger(*place, first_step=first_step), TensorBoardLogger(*place, purge_step=first_step)
        parts["logger"] = [csv, board]
        parts["callbacks"].append(LearningRateMonitor("step"))
    if patience is not None:
        # A checkpoint loads plain numbers only, not jsonargparse's kind.
        parts["callbacks"].append(EarlyStopping(monitor, mode=MODES[monitor], patience=int(patience)))
    checkpoints = run / "checkpoints"
    parts["callbacks"] += [Interruption(checkpoints / "last.ckpt"), *checkpoint_callbacks(checkpoints, monitor)]
    plugins = settings.plugins or []
    parts["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), WholeCheckpointIO()]
    return parts
