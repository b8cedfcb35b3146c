"""Reading a checkpoint as data: plain tensors and values, never code."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sivt_lightning.errors import SIVTError

CONTENTS = {"state_dict", "hyper_parameters", "datamodule_hyper_parameters", "thresholds", "precision"}


def same_setting(one: Any, other: Any) -> bool:
    """Whether two settings are equal, where a checkpoint may hold a tuple and a parsed setting is a list."""
    plain = [list(value) if isinstance(value, tuple) else value for value in (one, other)]
    return bool(plain[0] == plain[1])


def read_checkpoint(path: str) -> dict[str, Any]:
    """The contents of a checkpoint written by `sivt fit`.

    Raises SIVTError for a URL, a folder, a missing or damaged file, one that holds more than plain data, or a foreign
    one.
    """
    if "://" in path:
        raise SIVTError(f"Checkpoint {path}: checkpoints are read from local files only. Download it first.")
    if Path(path).is_dir():
        raise SIVTError(f"Checkpoint {path}: it is a folder. Give the file: {_file_inside(Path(path))}.")
    if not Path(path).is_file():
        raise SIVTError(f"Checkpoint {path}: there is no such file. `sivt fit` prints the path of the one it writes.")
    try:
        # Memory-mapped: most readers want the settings, not the tensors.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a damaged or hostile file makes the reader raise
        raise SIVTError(
            f"Checkpoint {path}: not a checkpoint, damaged, or holding more than plain data, so it was not loaded "
            f"({type(error).__name__}). Give a file written by `sivt fit`."
        ) from error
    missing = CONTENTS - checkpoint.keys() if isinstance(checkpoint, dict) else CONTENTS
    if missing:
        raise SIVTError(
            f"Checkpoint {path}: not a checkpoint of `sivt fit` (it lacks {', '.join(sorted(missing))}). "
            "Give a best.ckpt or last.ckpt from a run's checkpoints folder."
        )
    return checkpoint


def _file_inside(folder: Path) -> str:
    """Checkpoints of the run that this folder is, or that lies in it; where there are several runs, the last."""
    for place in (".", "checkpoints", "version_*/checkpoints", "*/version_*/checkpoints"):
        files = [file for name in ("best", "last") for file in folder.glob(f"{place}/{name}.ckpt")]
        files = [file for file in files if file.is_file()]
        if files:
            run = max(files, key=lambda file: file.stat().st_mtime).parent
            return " or ".join(str(file) for file in files if file.parent == run)
    return "best.ckpt in the checkpoints folder of a run"


def fingerprint(state: Mapping[str, torch.Tensor]) -> bytes:
    """Tells two models of the same shape apart by any bit of their weights."""
    found = hashlib.sha256()
    for value in state.values():
        found.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.digest()


def require_settings(path: str, settings: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raises SIVTError where a model's settings lack one: its default of today need not be what it was trained with."""
    if lost := sorted(set(names) - settings.keys()):
        raise SIVTError(
            f"Checkpoint {path}: made by another version of sivt_lightning, which did not say {', '.join(lost)}. "
            "Train the model again."
        )


def given_option(args: Sequence[str], name: str) -> str | None:
    """The last value given for an option, as `--name value` or `--name=value`: a checkpoint's path before parsing."""
    value = None
    for position, argument in enumerate(args):
        if argument == name and position + 1 < len(args):
            value = args[position + 1]
        elif argument.startswith(f"{name}="):
            value = argument.split("=", 1)[1]
    return value
