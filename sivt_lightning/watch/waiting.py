"""Photos that have arrived and are not judged yet: which is next, and when."""

from dataclasses import dataclass

from sivt_lightning.watch.whole import Seen

MOST = 2_000  # photos; of more those that arrived first: the others wait in the folder, where they are found again
BUSY = 0.02  # seconds until a file that is being written is tried again; what cannot be decoded is ever more rarely


@dataclass
class Photo:
    """One that waits. Times are those of a monotonic clock, in seconds."""

    name: str
    seen: Seen
    since: float  # it has been as it is
    due: float  # it is to be read
    refused: int = 0  # times that it was not whole

    def order(self) -> tuple[int, str]:
        """In which photos are judged: as they arrived, at one moment by name."""
        return self.seen.arrived, self.name


class Waiting:
    """Gives each photo time to settle, and keeps their order.

    A photo is due once it has been as it is for `settle` seconds: one that is still written changes, and begins anew.
    Who has come before and settles still is waited for; who was read and was not whole is not.

    Args:
        settle: seconds.
        give_up: seconds without a change after which a file is taken as it is.
    """

    def __init__(self, settle: float, give_up: float) -> None:
        self.settle, self.give_up = settle, give_up
        self.photos = dict[str, Photo]()
        self.full = False  # there are more in the folder, which came after the last of these
        self.last = (0, "")

    def __len__(self) -> int:
        return len(self.photos)

    def see(self, name: str, seen: Seen, now: float) -> None:
        """A photo is in the folder, as it is now."""
        known = self.photos.get(name)
        if known is not None and known.seen == seen:
            return
        photo = Photo(name, seen, now, now + self.settle)
        if self.full and photo.order() > self.last:
            self.photos.pop(name, None)
            return
        self.photos[name] = photo
        if len(self.photos) > 2 * MOST:
            kept = sorted(self.photos.values(), key=Photo.order)[:MOST]
            self.photos, self.full, self.last = {photo.name: photo for photo in kept}, True, kept[-1].order()

    def drop(self, name: str) -> None:
        """It is judged, or gone."""
        self.photos.pop(name, None)

    def refuse(self, photo: Photo, busy: bool, now: float) -> bool:
        """It was not whole: busy being written, or not to be decoded. False where it has had its time."""
        if now - photo.since >= self.give_up:
            return False
        photo.refused += 1
        pause = BUSY if busy else BUSY * 2**photo.refused
        photo.due = min(now + pause, photo.since + self.give_up)
        return True

    def next(self, now: float) -> Photo | None:
        """Who is to be read now."""
        return min((photo for photo in self._heads() if photo.due <= now), key=Photo.order, default=None)

    def pause(self, now: float, most: float) -> float:
        """Seconds until somebody is, at most so many."""
        return min(max(0.0, min((photo.due for photo in self._heads()), default=now + most) - now), most)

    def _heads(self) -> list[Photo]:
        """Who waits for nobody else."""
        first = min((photo for photo in self.photos.values() if not photo.refused), key=Photo.order, default=None)
        return [*([first] if first else []), *(photo for photo in self.photos.values() if photo.refused)]
