"""Photos that people have marked on the page of `sivt serve`."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.state.reading import has_photo, marked_parts

Defects = dict[str | None, list[Path]]  # by product, None where it is to be recognised


class Marked(NamedTuple):
    """What a server's folder says of its photos."""

    good: list[Sample]
    defects: Defects
    false_alarms: Counter[str]  # of the good ones those that had not passed, by product
    left_out: list[str]  # a sentence for each reason

    def samples(self) -> list[Sample]:
        """Good ones for a training, and for a test the defects whose product is known."""
        defects = [
            Sample(path, name, anomalous=True, defect="defect", split="test")
            for name, paths in self.defects.items()
            if name is not None
            for path in paths
        ]
        return [*self.good, *defects]


def read_marked(folder: Path, product: str | None = None) -> Marked:
    """Photos with a mark that counts, by the product as which they were judged, or all of the `product`.

    Raises SIVTError where nothing is marked there, or the folder cannot be read.
    """
    parts = marked_parts(folder)
    if not parts:
        raise SIVTError(f"{folder} has no photo that is marked. Mark some on the page of `sivt serve`.")
    marked = Marked([], {}, Counter(), [])
    gone = nameless = 0
    for part in parts:
        photo, name = has_photo(folder, part), product or part.product
        if part.mark is None or photo is None:
            gone += 1
        elif part.mark.says == "defect":
            marked.defects.setdefault(name, []).append(photo)
        elif name is None:
            nameless += 1
        else:
            marked.good.append(Sample(photo, name))
            marked.false_alarms[name] += part.verdict != "normal"
    if gone:
        marked.left_out.append(f"{gone} marked photos are left out: somebody has deleted them from {folder}.")
    if nameless:  # the product that they look most like may be a wrong one, whose threshold they would spoil
        marked.left_out.append(
            f"{nameless} photos marked good are left out, since none of the products was recognised in them. Where all "
            "marks are of one product, `sivt calibrate --category` tells it."
        )
    return marked


def need_good(marked: Marked, folder: Path) -> None:
    """Raises SIVTError where nothing is marked good."""
    if not marked.good:
        reasons = " ".join([f"{folder} has no photos that are marked good.", *marked.left_out])
        raise SIVTError(f"{reasons} Mark false alarms on the page of `sivt serve`, and parts that rightly passed.")
