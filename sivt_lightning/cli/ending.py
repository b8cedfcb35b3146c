"""How a command ends: a sentence and an exit code for what was raised, unless it is a fault of the program."""

import errno
import os
import sys
import traceback
from typing import Any

from sivt_lightning.cli.arguments import UsageError
from sivt_lightning.errors import Agreed, Finished, SIVTError, Stopped, first_line
from sivt_lightning.files import DISK_FULL

WRONG_USAGE = 2
REFUSED = {  # by the system: no fault of the program's
    **dict.fromkeys((errno.EACCES, errno.EPERM), "Give this user the right to it, or name another."),
    **dict.fromkeys((errno.EROFS, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR), "Name another."),
}


def ending(error: BaseException, first: bool) -> tuple[str, int] | None:
    """What to say and the exit code; None for a fault of the program, which a traceback tells more of.

    Args:
        first: whether this process is the only one, or the first of several.
    """
    if isinstance(error, (Stopped, Agreed, Finished)) and not first:
        # One process alone says so and fails: Lightning would take it for a crash of the others.
        return "", 0
    if isinstance(error, Finished):
        return str(error), 0
    kinds = {kind.__name__ for kind in type(error).__mro__}  # Lightning's by their names: it need not be loaded
    if isinstance(error, (Stopped, KeyboardInterrupt)) or "SIGTERMException" in kinds:
        return f"sivt: {str(error) or 'Stopped.'}", 1
    if isinstance(error, SIVTError):
        return f"sivt: error: {error}", WRONG_USAGE if isinstance(error, UsageError) else 1
    if isinstance(error, OSError):
        remedy = "Make room." if error.errno in DISK_FULL else REFUSED.get(error.errno or 0)
        return (f"sivt: error: {error.filename or 'The disk'}: {error.strerror}. {remedy}", 1) if remedy else None
    if isinstance(error, UnicodeDecodeError):
        return f"sivt: error: A text file is no UTF-8 ({error}): save it as UTF-8.", 1
    if "MisconfigurationException" in kinds:
        return f"sivt: error: {str(error) or first_line(error)}", 1
    if _is_refused_by_lightning(error):
        # What follows a first sentence is advice for those who write code.
        return f"sivt: error: trainer: {first_line(error).partition('. ')[0]}.", 1
    if _is_of_another(error):
        return "sivt: error: Another process of this training has ended: what it said is the reason.", 1
    return None


def _is_refused_by_lightning(error: BaseException) -> bool:
    """Whether it is Lightning's own, which finds some settings wrong only once it knows the data; none of ours."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    place = frames[-1].f_globals.get("__name__", "") if frames else ""
    return isinstance(error, ValueError) and place.startswith("lightning.")


def _is_of_another(error: BaseException) -> bool:
    group = _process_group()
    if group is None or group.get_world_size() == 1:
        return False
    # gloo raises plain RuntimeErrors, which name its source files
    return isinstance(error, group.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def leave_processes() -> None:
    """Leaves the group of this training's processes: its threads, left running, can abort an interpreter that exits."""
    if (group := _process_group()) is not None:
        group.destroy_process_group()


def _process_group() -> Any:
    """torch.distributed, where a command has loaded it and made a group of processes; else None."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def is_first() -> bool:
    """Whether this process has rank 0 of all machines, which the environment says before any process group does."""
    lightning: Any = sys.modules.get("lightning.pytorch.utilities.rank_zero")
    rank = getattr(getattr(lightning, "rank_zero_only", None), "rank", 0)
    machine = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return rank == 0 and machine in ("", "0")
