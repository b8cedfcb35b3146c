"""Photos of defects, and lists of photos with what they show, as report.html saves them."""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from sivt_lightning.data.asked import named_on_the_way, predict_samples
from sivt_lightning.data.samples import Sample
from sivt_lightning.errors import SIVTError
from sivt_lightning.files import unguarded

LABELS = ("good", "defect", "")  # "" for a photo of which nothing is known
Defects = dict[str | None, list[Path]]  # by product, None where it is to be recognised


class Listed(NamedTuple):
    """What a list says of its photos."""

    good: list[Sample]
    defects: Defects


def is_list(path: str) -> bool:
    """Whether it names a list rather than a folder."""
    return Path(path).suffix.lower() == ".csv"


def read_list(file: Path, product: str | None = None) -> Listed:
    """A CSV table of photos: path (absolute, or as seen from the list), product, label ("good", "defect" or empty).

    Args:
        product: of all photos, whatever the list says.

    Raises SIVTError, with the number of the line, where it says something else, or has no good ones.
    """
    listed = _read(file, product)
    if not listed.good:
        raise SIVTError(f"{file}: none of its photos has the label good.")
    return listed


def _read(file: Path, product: str | None) -> Listed:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            if not {"path", "label"} <= set(reader.fieldnames or []):
                raise SIVTError(
                    f"{file}: its first line has to name the columns path, product and label, with commas between."
                )
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError as error:
        raise SIVTError(f"{file} does not exist. report.html saves such a list.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SIVTError(f"{file} cannot be read as a list of photos ({error}). Save it as CSV in UTF-8.") from error
    good: list[Sample] = []
    defects: Defects = {}
    seen = set[Path]()
    for line, row in rows:
        label, name = row["label"], product or unguarded(row.get("product") or "") or None
        if label not in LABELS:
            raise SIVTError(f"{file}, line {line}: its label is {label!r}; give good or defect, or leave it empty.")
        if not label:
            continue
        photo = file.parent / row["path"]
        if not photo.is_file():  # as report.html writes it, so that no spreadsheet runs it
            photo = file.parent / unguarded(row["path"])
        if not photo.is_file():
            raise SIVTError(f"{file}, line {line}: {photo} is not there. Correct its path, or take the line out.")
        if (same := photo.resolve()) in seen:  # it would count twice, or as good and as a defect
            raise SIVTError(f"{file}, line {line}: {photo} stands in an earlier line, too. Take one out.")
        seen.add(same)
        if label == "defect":
            defects.setdefault(name, []).append(photo)
        elif name is None:
            raise SIVTError(f"{file}, line {line}: its product is not said. Name it there, or with --category.")
        else:
            good.append(Sample(photo, name))
    return Listed(good, defects)


def defects_of(folder: str, product: str | None, products: Collection[str]) -> Defects:
    """All photos of a folder, or defects of a list; of the `product`, or of that whose name a folder on the way has.

    Raises SIVTError where there are none.
    """
    if is_list(folder):
        listed = _read(Path(folder), product).defects
        if not listed:
            raise SIVTError(f"{folder}: none of its photos has the label defect.")
        return listed
    if not Path(folder).expanduser().exists():
        raise SIVTError(f"{folder} does not exist. Name a folder of photos of defects, or a list, with --defects.")
    asked, defects = predict_samples([Path(folder).expanduser()]), Defects()
    for sample in asked.samples:
        own = named_on_the_way(asked.base.resolve().name, sample.path.relative_to(asked.base), products)
        defects.setdefault(product or own, []).append(sample.path)
    return defects
