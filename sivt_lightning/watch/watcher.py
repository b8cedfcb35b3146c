"""Each photo that arrives in a folder, judged once: found, read, judged, logged, moved."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from uuid import uuid4

from sivt_lightning.data.folders import IMAGE_SUFFIXES
from sivt_lightning.errors import SIVTError, first_line
from sivt_lightning.files import escaped
from sivt_lightning.watch.arrivals import PARTS, Arrivals
from sivt_lightning.watch.moving import Places
from sivt_lightning.watch.notices import say
from sivt_lightning.watch.record import Record
from sivt_lightning.watch.waiting import Photo, Waiting
from sivt_lightning.watch.whole import LARGEST, NotWhole, look_at, read_whole

if TYPE_CHECKING:
    from sivt_lightning.inference.prediction import Prediction

AGAIN = 5.0  # seconds between two looks through the folder, for what nobody has told of
SHARE_OF_TIME = 20  # a look that takes long is had as much more rarely
SLICE = 500  # names looked at between two photos
IDLE = 0.5  # seconds
SUFFIXES = [[suffix] for suffix in IMAGE_SUFFIXES]


@runtime_checkable
class Judging(Protocol):
    """What a Predictor does."""

    def prepare(self, image: bytes) -> Any: ...

    def predict(self, images: list[Any]) -> "list[Prediction]": ...


@dataclass(frozen=True)
class Asked:
    """How a folder is watched.

    Args:
        settle: seconds that a photo must be as it is before it is read.
        give_up: seconds after its last change that a file may be without a picture that can be read.
        move: whether photos go into ok/, ng/ and unknown/.
        poll: seconds between two looks of watchfiles at the folder; None where the system tells of changes.
    """

    settle: float = 0.1
    give_up: float = 5.0
    move: bool = False
    poll: float | None = None


def is_photo(name: str) -> bool:
    """Whether a file of this name is judged.

    >>> [is_photo(name) for name in ("a.PNG", ".a.png", "a.png.part", "a.tmp.png", "a.txt")]
    [True, False, False, False, False]
    """
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    return not name.startswith(".") and suffixes[-1:] in SUFFIXES and not PARTS & {*suffixes}


class Watcher:
    """Judges what lies in a folder, and what arrives there, until it is told to end.

    Args:
        ring: called after each line, for whoever sends it.

    Raises SIVTError where its sub-folders cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        judging: Judging,
        record: Record,
        asked: Asked,
        ring: Callable[[], None] | None = None,
    ) -> None:
        self.folder, self.judging, self.record, self.ring = folder, judging, record, ring
        self.waiting = Waiting(asked.settle, asked.give_up)
        self.places = Places(folder) if asked.move else None
        self.arrivals = Arrivals(folder, is_photo, asked.poll)
        self.counts = Counter[str]()
        self.scan: Iterator[os.DirEntry] | None = None
        self.scan_took, self.next_scan = 0.0, 0.0
        self.unsure = True  # whether there are more than wait, of which some may have come before these
        self.to_keep = True  # whether photos were moved since the disk was asked to keep that

    def end(self) -> None:
        """After the photo at hand. A signal's handler may call it."""
        self.arrivals.end()

    def run(self) -> None:
        """Until `end`. Raises SIVTError where the log cannot be written."""
        self._finish_moves(True)
        self.arrivals.start()
        seconds = 0.0
        while True:
            names, look_through = self.arrivals.take(seconds)
            if self.arrivals.ended.is_set():
                return
            for name in names:
                self._look(name)
            now = time.monotonic()
            if look_through or (self.waiting.full and not self.waiting):
                self.next_scan = now
            if self.scan is None and now >= self.next_scan:
                self._begin_scan()
            self._scan_some()
            now = time.monotonic()
            if self.scan is not None and self.unsure:
                seconds = 0.0
            elif photo := self.waiting.next(now):
                self._take(photo, now)
                seconds = 0.0
            else:
                seconds = 0.0 if self.scan else self.waiting.pause(now, IDLE)

    def _look(self, name: str) -> None:
        seen = look_at(self.folder / name)
        if seen is None:
            self.waiting.drop(name)
        elif not self.record.has(name, seen.stamp):
            self.waiting.see(name, seen, time.monotonic())

    # --- what is in the folder, whoever has told of it

    def _begin_scan(self) -> None:
        self.unsure |= self.waiting.full
        self.waiting.full = False
        self.scan_took, self.next_scan = 0.0, float("inf")
        try:
            self.scan = os.scandir(self.folder)
        except OSError:  # of a share that has gone, of which `arrivals` speaks
            self.next_scan = time.monotonic() + AGAIN

    def _scan_some(self) -> None:
        """A slice at a time: a folder of a hundred thousand photos takes a second, in which others arrive."""
        if self.scan is None:
            return
        start = time.monotonic()
        try:
            entries = list(islice(self.scan, SLICE))
        except OSError:
            entries = []
        for entry in entries:
            if is_photo(entry.name):
                self._look(entry.name)
        self.scan_took += time.monotonic() - start
        if not entries:
            self.scan, self.unsure = None, False
            again = time.monotonic() + max(AGAIN, SHARE_OF_TIME * self.scan_took)
            self.next_scan = min(again, self.next_scan)  # one may have been asked for meanwhile
            self._finish_moves()

    # --- one photo

    def _take(self, photo: Photo, now: float) -> None:
        """Judges it, if it is whole; waits for it, if not."""
        start = time.perf_counter()
        late = now - photo.since >= self.waiting.give_up
        busy, error = False, ""
        try:
            if photo.seen.stamp.size > LARGEST:
                self._judged(photo, None, f"The image cannot be read: it has more than {LARGEST:,} bytes.", start)
                return
            prepared = self.judging.prepare(read_whole(self.folder / photo.name, photo.seen, late))
        except NotWhole:
            busy = True
        except FileNotFoundError:
            self.waiting.drop(photo.name)
            return
        except OSError as problem:
            error = f"The image cannot be read: {problem.strerror}. Check its permissions and its disk."
        except SIVTError as problem:
            error = str(problem)
        else:
            self._judged(photo, *self._predicted(prepared), start)
            return
        self._look(photo.name)  # which lets it settle anew, where it has changed
        if not self.waiting.refuse(photo, busy, time.monotonic()) and error:
            self._judged(photo, None, error, start)

    def _predicted(self, prepared: Any) -> "tuple[Prediction | None, str]":
        """The verdict, or why there is none: whatever a runtime raises, the next photo is judged."""
        try:
            return self.judging.predict([prepared])[0], ""
        except SIVTError as problem:
            return None, str(problem)
        except Exception as problem:
            return None, f"The model failed on this image: {first_line(problem)}."

    def _judged(self, photo: Photo, prediction: "Prediction | None", error: str, start: float) -> None:
        """The line first: whatever happens to the photo afterwards, it has been judged."""
        identity = uuid4().hex
        verdict = prediction.verdict if prediction else None
        target = self.places.target(photo.name, verdict, identity) if self.places else None
        self.record.add(
            {
                "id": identity,
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "path": escaped(photo.name),
                **told(prediction),
                "error": " ".join(error.split()) or None,
                "moved_to": escaped(target) if target else None,
                **photo.seen.stamp._asdict(),
                "ms": round(1000 * (time.perf_counter() - start), 1),
            }
        )
        self.waiting.drop(photo.name)
        self.counts[verdict or "unreadable"] += 1
        if self.ring is not None:
            self.ring()
        if self.places and target:
            try:
                self.places.move(photo.name, target)
            except OSError as problem:  # it is tried again; its line is there
                say(f"{self.folder / photo.name} cannot be moved to {target}: {problem.strerror}.")
                return
            self.record.moved(photo.name)
            self.to_keep = True

    def _finish_moves(self, after_start: bool = False) -> None:
        """What was logged and not moved; of what was moved the disk is asked to keep it, before it is forgotten.

        After a power cut the disk may have forgotten a move, too.
        """
        if self.places is None:
            return
        for name, stamp, target in self.record.moves(after_start):
            if self.places.finish(name, target, stamp):
                self.record.moved(name)
        if self.to_keep:
            self.places.keep()
            self.record.forget_moved()
            self.to_keep = False


def told(prediction: "Prediction | None") -> dict[str, Any]:
    """What a line says of a verdict, by the names that the server and `predictions.csv` have; nulls for none."""
    keys = ("verdict", "is_anomalous", "score", "threshold", "product", "calibrated", "pixel_threshold")
    if prediction is None:
        return dict.fromkeys((*keys, "width", "height"), None) | {"regions": [], "note": None}
    regions = [asdict(one) for one in prediction.regions]
    size = dict(zip(("width", "height"), prediction.size, strict=True))
    return (
        {key: getattr(prediction, key) for key in keys} | size | {"regions": regions, "note": prediction.note or None}
    )
