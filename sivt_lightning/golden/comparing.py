"""Whether a model says of golden photos what was recorded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sivt_lightning.golden.recorded import Record, Run, Said


@dataclass(frozen=True)
class Compared:
    """One photo, as it was recorded and as it is judged now.

    Args:
        score: difference of the scores as a share of the recorded one.
        map: root mean square of the maps' difference as a share of the recorded one's; 1 where they are of other sizes.
    """

    then: Said
    now: Said
    score: float
    map: float

    @property
    def worst(self) -> float:
        """The larger of both."""
        return max(self.score, self.map)

    def faults(self, tolerance: float) -> list[str]:
        """What is not as it was, in words; none where it agrees."""
        then, now, found = self.then, self.now, list[str]()
        if then.sha256 != now.sha256:
            found.append("its file is another")
        if now.verdict != then.verdict:
            found.append(f"{now.verdict}, was {then.verdict}")
        if now.product != then.product:
            found.append(f"taken for {now.product or 'no product'}, was {then.product or 'none'}")
        if not self.score <= tolerance:  # NaN is not, either
            found.append(f"score {now.score:.4g}, was {then.score:.4g}")
        if not self.map <= tolerance:
            found.append(f"map {self.map:.1%} off")
        return found


def compare(then: Record, now: Record) -> list[Compared]:
    """The worst first; both are of the same photos in the same order."""
    pairs = zip(then.said, now.said, then.maps, now.maps, strict=True)
    found = [
        Compared(old, new, _share(abs(new.score - old.score), abs(old.score)), _maps(before, after))
        for old, new, before, after in pairs
    ]
    return sorted(found, key=lambda one: -one.worst)


def _maps(then: Float[np.ndarray, "_ _"], now: Float[np.ndarray, "_ _"]) -> float:
    if then.shape != now.shape:
        return 1.0
    return _share(float(np.linalg.norm(now - then)), float(np.linalg.norm(then)))


def _share(difference: float, whole: float) -> float:
    return difference / whole if whole else float(difference > 0)


def other_versions(then: Run, now: Run) -> Iterator[str]:
    """What a difference may come from: "pillow 11.0, was 10.4"."""
    for name in sorted({**then.versions, **now.versions}):
        old, new = (run.versions.get(name, "none") for run in (then, now))
        if old != new:
            yield f"{name} {new}, was {old}"


HEADING = ("photo", "verdict", "score", "recorded", "score off", "map off")


def rows(compared: Sequence[Compared]) -> list[list[str]]:
    """Of a table below `HEADING`."""
    return [
        [
            one.then.photo,
            one.now.verdict,
            f"{one.now.score:.4g}",
            f"{one.then.score:.4g}",
            f"{one.score:.2%}",
            f"{one.map:.2%}",
        ]
        for one in compared
    ]
