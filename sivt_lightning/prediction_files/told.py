"""Which threshold each photo is held against."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from sivt_lightning.errors import SIVTError
from sivt_lightning.inference.thresholds import By, Threshold, Thresholds


class Choice(NamedTuple):
    """What is chosen for a list of photos."""

    categories: list[str | None]  # of each photo; None for that of all categories
    thresholds: list[Threshold]  # of each photo
    doubt: str  # what to say of how much the thresholds promise, or ""


def choose(
    paths: Sequence[PurePosixPath],
    base_name: str,
    thresholds: Thresholds,
    given: float | None,
    by: By,
    category: str | None,
) -> Choice:
    """For photos at these places in a folder of this name.

    Args:
        thresholds: the model's.
        given: the threshold of scores, instead of the model's.
        by: "category" takes that whose name a folder on the photo's path has.
        category: is taken for all.

    Raises SIVTError where a photo has none.
    """
    own = category is None and by == "category"
    names = [_category(path, base_name, thresholds) if own else category for path in paths]
    chosen = [thresholds.of(name, given) for name in names]
    return Choice(names, chosen, "" if given is not None else thresholds.doubt(names))


def _category(path: PurePosixPath, base_name: str, thresholds: Thresholds) -> str:
    folders = [base_name, *path.parts[:-1]]
    category = next((folder for folder in folders if folder in thresholds.categories), None)
    if category is None:
        raise SIVTError(
            f"{path}: none of its folders ({', '.join(folders)}) is a category that the model was trained on "
            f"({', '.join(sorted(thresholds.categories))}). Name one with --category, or use --threshold_by pooled."
        )
    return category
