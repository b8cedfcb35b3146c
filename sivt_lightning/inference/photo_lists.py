"""Photos of defects, and lists of photos with what they show, as report.html saves them."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from sivt_lightning.data.asked import named_on_the_way, predict_samples
from sivt_lightning.data.folders import one_look
from sivt_lightning.data.lists import anomalous_of, is_list, once, read_table
from sivt_lightning.data.samples import Sample
from sivt_lightning.data.urls import path_of
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import unguarded
from sivt_lightning.inference.marked_photos import Defects, read_marked
from sivt_lightning.state.reading import is_state

EXAMPLE = "its first line has to name the columns path, product and label, as report.html saves them."


class Listed(NamedTuple):
    """What a list says of its photos."""

    good: list[Sample]
    defects: Defects


def read_list(file: Path, product: str | None = None) -> Listed:
    """A list of photos: path, product, and a label: "good", "defect", or empty for one of which nothing is known.

    Args:
        product: of all photos, whatever the list says.

    Raises SIVTError, with the number of the line, where it says something else, or has no good ones.
    """
    listed = _read(file, product)
    if not listed.good:
        raise SIVTError(f"{file}: none of its photos has the label good.")
    return listed


@one_look()
def _read(file: Path, product: str | None) -> Listed:
    table = read_table(file, EXAMPLE, ("path", "label"))
    good: list[Sample] = []
    defects: Defects = {}
    understood = [(row, anomalous_of(table, row)) for row in table.rows]
    photos = [(row, table.place(row, row.path), bad) for row, bad in understood if bad is not None]
    once(table, [(row, photo) for row, photo, _ in photos])
    for row, photo, bad in photos:
        name = product or unguarded(row.category) or None
        if bad:
            defects.setdefault(name, []).append(photo)
        elif name is None:
            raise table.fault(row, "its product is not said. Name it there, or with --category.")
        else:
            good.append(Sample(photo, name))
    return Listed(good, defects)


def defects_of(folder: str, product: str | None, products: Collection[str]) -> Defects:
    """All photos of a folder, or defects of a list or of a server's marks.

    They are of the `product`, or of that whose name a folder on the way has.

    Raises SIVTError where there are none.
    """
    if is_list(folder) or is_state(path_of(folder)):
        listed = (_read if is_list(folder) else read_marked)(path_of(folder), product).defects
        if not listed:
            raise SIVTError(f"{folder}: none of its photos has the label defect.")
        return listed
    if not path_of(folder).exists():
        raise SIVTError(f"{folder} does not exist. Name a folder of photos of defects, or a list, with --defects.")
    asked, defects = predict_samples([path_of(folder)]), Defects()
    for sample in asked.samples:
        own = named_on_the_way(asked.base.resolve().name, sample.path.relative_to(asked.base), products)
        defects.setdefault(product or own, []).append(sample.path)
    return defects
