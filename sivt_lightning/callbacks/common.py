"""What the callbacks share: gathering over processes, and what none of them may do."""

from collections.abc import Iterable
from pathlib import Path

from sivt_lightning.errors import SIVTError
from sivt_lightning.processes import gather as gather


def spare(photos: Iterable[Path], files: Iterable[Path]) -> None:
    """Raises SIVTError where one of the files to be written would replace a photo."""
    if lost := set(photos) & set(files):
        raise SIVTError(f"The results would overwrite the photo {min(lost)}. Name another folder with --output.")


NOT_FINITE = (
    "not a finite number: the model diverged in training, or the precision is too narrow for it. "
    "Train with a lower learning rate, or run with --trainer.precision 32-true."
)
