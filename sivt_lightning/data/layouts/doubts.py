"""What names of folders and files leave unclear is an error: nothing but good parts is ever trained on."""

from collections.abc import Sequence
from pathlib import Path

from sivt_lightning.data.folders import Contents
from sivt_lightning.data.names import defect_among, mask_among, meaning
from sivt_lightning.errors import SIVTError


def checked(inside: Contents, folder: Path, good: bool) -> Contents:
    """What lies in a folder of good parts, or of a defect. Raises SIVTError where a name in it says otherwise."""
    wrong = {"masks": "masks", "defects": "defects"} if good else {"masks": "masks", "good": "good parts"}
    for place in sorted({photo.parent for photo in inside.photos}):
        for name in place.relative_to(folder.parent).parts:
            if (kind := meaning(name).kind) in wrong:
                counted_as = "good parts" if good else f"the defect {folder.name}"
                raise SIVTError(
                    f"The photos in {place} would count as {counted_as}, but {name} is a name for {wrong[kind]}: move "
                    "them elsewhere (masks: to ground_truth/DEFECT beside train and test), or rename the folder."
                )
    return inside


def refuse_masks(photos: Sequence[Path]) -> None:
    """Raises SIVTError where one is the mask of another."""
    pair = mask_among(photos)
    if pair is not None:
        mask, photo = pair
        raise SIVTError(
            f"{mask} lies among the photos, and by its name it is a mask of {photo.name}, or that photo once more: "
            "move masks elsewhere (for a test: to PRODUCT/ground_truth/DEFECT), and leave one file of each photo. "
            "If it shows something else, rename it."
        )


def refuse_defects(photos: Sequence[Path]) -> None:
    """Raises SIVTError where by their names some of those that would count as good parts show defects."""
    pair = defect_among(photos)
    if pair is not None:
        defect, good = pair
        raise SIVTError(
            f"The photos in {defect.parent} would count as good parts, but the names of {defect.name} and {good.name} "
            "tell two kinds: move those of defects elsewhere (for a test: to PRODUCT/test/DEFECT), or, if all show "
            "good parts, rename them."
        )
