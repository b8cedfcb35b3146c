"""A part that was judged, and what a person says of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

Says = Literal["good", "defect"]


class Mark(NamedTuple):
    """What a person says that a photo shows."""

    says: Says
    who: str
    time: str


class Count(NamedTuple):
    """Parts of an hour (UTC, such as 2026-11-27T18) that were judged alike."""

    hour: str
    product: str | None
    verdict: str

    @classmethod
    def at(cls, time: str, product: str | None, verdict: str) -> "Count":
        """Of a time as it is kept."""
        return cls(time[: len("2026-11-27T18")], product, verdict)


@dataclass(frozen=True)
class Part:
    """A part that was judged.

    Args:
        id: 32 digits that nobody can guess, of which its files' names are made.
        time: ISO, UTC.
        name: of the file, as the client told it: data, never a path; None where it told none.
        product: recognised or told; None where it is unknown.
        calibrated: log10 N, where about 1 of N good parts of its product scores as high or higher; or None.
        model: identity of the one that judged it.
        suffix: of the photo's file, without a dot.
    """

    id: str
    time: str
    name: str | None
    product: str | None
    verdict: str
    score: float
    threshold: float
    calibrated: float | None
    model: str
    suffix: str
    mark: Mark | None = None

    @property
    def file(self) -> str:
        """Of its photo."""
        return f"{self.id}.{self.suffix}"


def now() -> str:
    """As times are kept."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
