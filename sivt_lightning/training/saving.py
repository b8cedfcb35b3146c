"""Checkpoints: what is saved when, whole or not at all, and what a continued training takes from them.

ModelCheckpoint and EarlyStopping keep their scores in states whose keys are Lightning's own, as in Lightning 2.6.
"""

import io
import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import ModelCheckpoint

from sivt_lightning.errors import SIVTError

# What may choose a checkpoint, none of which knows a test image, and which way is better.
Monitor = Literal["val/loss", "val/synthetic_auroc", "val/synthetic_pixel_ap"]
MODES = {"val/loss": "min", "val/synthetic_auroc": "max", "val/synthetic_pixel_ap": "max"}


def checkpoint_callbacks(directory: Path, monitor: Monitor = "val/loss") -> list[ModelCheckpoint]:
    """best.ckpt: best `monitor`, weights only; last.ckpt: all that a training goes on with."""
    shared: dict[str, Any] = {"dirpath": directory, "enable_version_counter": False}
    best = BestCheckpoint(**shared, filename="best", monitor=monitor, mode=MODES[monitor], save_weights_only=True)
    return [best, ModelCheckpoint(**shared, filename="last", save_on_train_epoch_end=True)]


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, which forgets the best score when the run's folder has been moved; this one looks in the new place.

    Without a best.ckpt there (last.ckpt was copied alone) the next validation writes one, whatever its loss.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the best score so far, and the path of its checkpoint as it is now."""
        assert self.dirpath is not None  # given by `checkpoint_callbacks`
        best = Path(self.dirpath, "best.ckpt")
        if best.is_file():
            scores = dict.fromkeys([str(best)], state_dict["best_model_score"])
            moved = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            super().load_state_dict(state_dict | moved | {"best_k_models": scores})


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the old checkpoint and moves into its place, so that a kill or a full disk leaves the old one.

    Lightning's own goes through the temporary directory, from which a move may be a copy that a kill cuts short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises SIVTError where the file cannot be written."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        whole = io.BytesIO()  # torch.save hides the reason why a file cannot be written
        torch.save(checkpoint, whole)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(whole.getbuffer())
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave a moved file without its contents
            part.replace(target)
        except OSError as error:
            part.unlink(missing_ok=True)
            kept = "The one saved before is whole" if target.is_file() else "None was saved before"
            raise SIVTError(
                f"Cannot write the checkpoint {target} ({len(whole.getbuffer()) / 1e6:.0f} MB): {error.strerror}. "
                f"{kept}. Make room, then go on with --ckpt_path and the run's last.ckpt."
            ) from error


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, which takes a checkpoint's patience for that of the settings, and an earlier stop for one of now.

    A checkpoint knows it by its name, so it has the same.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the best score so far, and how long ago it was."""
        super().load_state_dict(state_dict | {"patience": self.patience, "stopped_epoch": 0})
