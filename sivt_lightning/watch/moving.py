"""Where a photo goes once it has its line."""

import contextlib
import os
from pathlib import Path

from sivt_lightning.errors import SIVTError
from sivt_lightning.watch.whole import look_at

FOLDERS = {"normal": "ok", "anomalous": "ng", "unknown": "unknown", None: "unknown"}  # None: it could not be read


class Places:
    """The folders ok/, ng/ and unknown/ in a folder of photos. Raises SIVTError where they cannot be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in dict.fromkeys(FOLDERS.values()):
            try:
                (folder / name).mkdir(exist_ok=True)
            except OSError as error:
                raise SIVTError(
                    f"Cannot make {folder / name}: {error.strerror}. Let this user write there, or leave out --move."
                ) from error

    def target(self, name: str, verdict: str | None, identity: str) -> str:
        """Where it goes, within the folder: under its name, or one made of its own where that is taken."""
        place = FOLDERS[verdict]
        if os.path.lexists(self.folder / place / name):
            path = Path(name)
            name = f"{path.stem}-{identity[:12]}{path.suffix}"
        return f"{place}/{name}"

    def move(self, name: str, target: str) -> None:
        """Raises OSError."""
        os.rename(self.folder / name, self.folder / target)  # noqa: PTH104  Windows does not replace what is there

    def finish(self, name: str, target: str, stamp: tuple[int, int]) -> bool:
        """Moves what a kill has left with its line, but unmoved; a later photo of that name stays. False: it failed."""
        seen = look_at(self.folder / name)
        if seen is None or seen.stamp != stamp or os.path.lexists(self.folder / target):
            return True
        with contextlib.suppress(OSError):
            self.move(name, target)
            return True
        return False

    def keep(self) -> None:
        """Has the disk keep all moves so far, where the system can be asked to."""
        if hasattr(os, "O_DIRECTORY"):
            for place in (*dict.fromkeys(FOLDERS.values()), "."):
                with contextlib.suppress(OSError):
                    folder = os.open(self.folder / place, os.O_RDONLY | os.O_DIRECTORY)
                    try:
                        os.fsync(folder)
                    finally:
                        os.close(folder)
