"""Which names in a folder have changed: what watchfiles tells, from a thread of its own."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread

from watchfiles import Change, watch

from sivt_lightning.errors import first_line
from sivt_lightning.watch.notices import say

MOST = 4_000  # names that are held; of more the folder is looked through, which holds them all
STEP = 5  # milliseconds between two looks into what the system has told
TOGETHER = 20  # milliseconds at most that changes are gathered for
BEAT = 100  # milliseconds after which watchfiles comes back without a change
AGAIN = 1.0  # seconds until a folder that cannot be watched is tried again
SHARES = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "afs",
    "ceph",
    "gluster",
    "lustre",
    "virtiofs",
    "vboxsf",
    "fuse",
    "davfs",
    "drvfs",
)
# Half of a file has such a name, until it is renamed.
PARTS = {".part", ".tmp", ".temp", ".partial", ".filepart", ".crdownload"}


def is_share(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether other computers may write into the folder, of which the system tells nothing."""
    try:
        rows = [line.split() for line in mounts.read_text(errors="surrogateescape").splitlines()]
    except OSError:
        return False
    place, kind = folder.resolve(), ""
    for row in sorted(rows, key=lambda row: len(row[1])):  # the innermost comes last
        if place.is_relative_to(row[1].replace("\\040", " ")):
            kind = row[2]
    return kind.startswith(SHARES)


class Arrivals:
    """Collects the names that have changed in a folder, not in its sub-folders, until they are taken.

    That is a hint, no record: the system tells nothing of a name that is no UTF-8 (watchfiles gives up on it), and
    forgets some where too many come. Then, and whenever the watching had to begin anew, `take` says that the folder
    has to be looked through.

    Args:
        wanted: which names count.
        poll: seconds between two looks of watchfiles at the folder; None where the system tells of changes.
    """

    def __init__(self, folder: Path, wanted: Callable[[str], bool], poll: float | None) -> None:
        self.folder, self.wanted, self.poll = folder, wanted, poll
        self.names, self.look_through = set[str](), True
        self.lock, self.ended = Lock(), Event()
        # Which a signal's handler may ring at any moment, where a lock could be held already.
        self.bell = SimpleQueue[None]()
        self.thread = Thread(target=self._listen, name="arrivals", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def end(self) -> None:
        """No more are waited for. A signal's handler may call it."""
        self.ended.set()
        self.bell.put(None)

    def take(self, seconds: float) -> tuple[set[str], bool]:
        """The names since the last time, after so many seconds where there are none; whether to look through all."""
        with contextlib.suppress(Empty):
            self.bell.get(timeout=seconds)
            while True:
                self.bell.get_nowait()
        with self.lock:
            taken = self.names, self.look_through
            self.names, self.look_through = set(), False
        return taken

    def _listen(self) -> None:
        said = ""
        while not self.ended.is_set():
            try:
                self._watch()
            except Exception as error:
                if "decode" not in str(error):  # which is the word for a name that is no UTF-8
                    if (sentence := self._trouble(error)) != said:
                        say(sentence)
                        said = sentence
                    self.ended.wait(AGAIN)
            self._tell(set(), True)

    def _trouble(self, error: Exception) -> str:
        if not self.folder.is_dir():
            return f"{self.folder} cannot be reached: waiting for it."
        return f"The system tells of no changes in {self.folder} ({first_line(error)}): give --poll 0.05."

    def _watch(self) -> None:
        """Until the folder is another one, or gone."""
        place = os.stat(self.folder).st_ino  # noqa: PTH116
        begun = False
        for changes in watch(
            self.folder,
            watch_filter=self._counts,
            debounce=TOGETHER,
            step=STEP,
            rust_timeout=BEAT,
            yield_on_timeout=True,
            stop_event=self.ended,
            force_polling=self.poll is not None,
            poll_delay_ms=max(1, round(1000 * (self.poll or 0))),
            recursive=False,  # what was moved into sub-folders would be polled for ever
        ):
            if changes or not begun:  # what came before watching began is told by nobody
                self._tell({os.path.basename(path) for _, path in changes}, not begun)  # noqa: PTH119
                begun = True
            elif os.stat(self.folder).st_ino != place:  # noqa: PTH116
                return

    def _counts(self, change: Change, path: str) -> bool:
        return self.wanted(os.path.basename(path))  # noqa: PTH119

    def _tell(self, names: set[str], look_through: bool) -> None:
        with self.lock:
            self.names |= names
            self.look_through |= look_through
            if len(self.names) > MOST:
                self.names, self.look_through = set(), True
        self.bell.put(None)
