"""Reading a checkpoint as data: plain tensors and values, never code."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.formats import DATA_BEFORE, format_of
from sivt_lightning.model.settings import stored_settings

MAPPINGS = {"state_dict", "hyper_parameters", "datamodule_hyper_parameters"}
CONTENTS = {*MAPPINGS, "thresholds", "precision"}


def same_setting(one: Any, other: Any) -> bool:
    """Whether two settings are equal, where a checkpoint may hold a tuple and a parsed setting is a list."""
    plain = [list(value) if isinstance(value, tuple) else value for value in (one, other)]
    return bool(plain[0] == plain[1])


def read_checkpoint(path: str) -> dict[str, Any]:
    """The contents of a checkpoint written by `sivt fit`; one of an earlier format says what later ones say.

    Raises SIVTError for a URL, a folder, a missing or damaged file, one that holds more than plain data, a foreign one,
    or one of a later format.
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
    damaged = [
        name for name in {*MAPPINGS, "training"} & checkpoint.keys() if not isinstance(checkpoint[name], Mapping)
    ]
    if damaged:
        raise SIVTError(f"Checkpoint {path}: its {', '.join(sorted(damaged))} is damaged. Give another.")
    number = format_of(checkpoint, f"Checkpoint {path}")
    settings = stored_settings(checkpoint["hyper_parameters"], number, f"Checkpoint {path}")
    checkpoint["hyper_parameters"] = asdict(settings)
    checkpoint["datamodule_hyper_parameters"] = DATA_BEFORE | checkpoint["datamodule_hyper_parameters"]
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
    digest = hashlib.sha256()
    for value in state.values():
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()
