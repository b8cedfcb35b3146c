"""The folder of a run, runs/NAME/version_K: whose it is, that no two trainings take the same one, nor one nothing."""

import contextlib
import itertools
import re
import shutil
from pathlib import Path
from typing import Any

from sivt_lightning.errors import SIVTError


def run_directory(checkpoint: str) -> Path:
    """runs/NAME/version_K of runs/NAME/version_K/checkpoints/last.ckpt; a checkpoint moved elsewhere: its folder."""
    folder = Path(checkpoint).parent
    return folder.resolve().parent if folder.resolve().name == "checkpoints" else folder


def refuse_without_model(trainer: Any) -> None:
    """Raises SIVTError for settings of the Trainer by which a training would end without a model, and say nothing."""
    zero = ["max_epochs", "max_steps", "limit_train_batches", "limit_val_batches"]
    zero += ["val_check_interval", "check_val_every_n_epoch", "accumulate_grad_batches"]  # Lightning divides by them
    given = [name for name in zero if trainer[name] is not None and trainer[name] == 0]
    given += [name for name in ("fast_dev_run", "barebones") if trainer[name]]
    given += [name for name in ("enable_checkpointing",) if trainer[name] is False]
    if given:
        raise SIVTError(
            f"trainer.{given[0]} is {str(trainer[given[0]]).lower()}, which leaves no model: leave the option out. "
            "To try things out, --trainer.max_epochs 1 with --trainer.limit_train_batches 1 is as short."
        )
    every, most = trainer["check_val_every_n_epoch"], trainer["max_epochs"]
    if every and most and 0 < most < every:
        raise SIVTError(
            f"trainer.check_val_every_n_epoch is {every}, more than the {most} epochs of trainer.max_epochs, so no "
            "model would be chosen: lower the one or raise the other."
        )


def refuse_a_part(trainer: Any) -> None:
    """Raises SIVTError for settings of the Trainer by which a test or a prediction would leave images out."""
    for name in ("limit_test_batches", "limit_predict_batches", "fast_dev_run", "overfit_batches"):
        value = trainer[name]
        # The integer 1 is one batch, the decimal 1.0 all of them.
        whole = value is None or (type(value) is float and value == 1) if name.startswith("limit") else not value
        if not whole:
            raise SIVTError(
                f"trainer.{name} is {value}, which leaves images out: leave the option out, and name fewer products "
                "with --data.categories, or another folder with --data.predict_path."
            )


def check_name(name: str) -> str:
    """Raises SIVTError where it is no plain name of a folder."""
    if not re.fullmatch(r"[\w.-]+", name) or name.strip(".") == "":
        raise SIVTError(f"name {name!r}: use letters, digits, dots, dashes and underscores only.")
    return name


def claim(name: str) -> Path:
    """Makes the next version of a name. Of trainings that start at once each gets one of its own.

    For the first process of a training only: the others write nothing there, and Lightning tells them where checkpoints
    lie.
    """
    folder = Path("runs", name)
    taken = [int(path.name[8:]) for path in folder.glob("version_*") if path.name[8:].isdecimal()]
    for version in itertools.count(max(taken, default=-1) + 1):
        try:
            (folder / f"version_{version}").mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(folder, error) from error
        return folder / f"version_{version}"
    raise AssertionError("there is always a next number")


def take_up(folder: Path) -> Path:
    """The folder of a run that goes on."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _unwritable(folder: Path, error: OSError) -> SIVTError:
    return SIVTError(
        f"Cannot write into {folder}: {error.strerror}. A run's folder is made in runs/ of the folder where `sivt fit` "
        "is started, or is that of --ckpt_path: start it where you may write."
    )


def give_back(folder: Path) -> None:
    """Removes the folder of a start that failed before it had anything to keep."""
    if not ((folder / "checkpoints").exists() or (folder / "metrics.csv").exists()):
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # other runs of its name, or of others
            folder.parent.rmdir()
            if folder.parent.parent.name == "runs":
                folder.parent.parent.rmdir()
