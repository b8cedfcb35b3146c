"""The format of checkpoints and side-cars, which older files keep: what they could not yet say is put in here.

Format 0 said no number. Format 1 says it, as `format_number`. Format 2 has descriptors and, once it is calibrated, a
calibration. Format 3 can say blocks of a vision transformer, and says of what map and image score are made.
Format 4 has a memory bank. Format 5 has regions of interest and format 6 tiles, which an earlier version would take no
notice of.
"""

from collections.abc import Mapping
from typing import Any

from sivt_lightning.errors import SIVTError

FORMAT = 6
# Settings of the data that some format has added, and their values in files that do not say them. Those of the model
# say this of themselves, see `model.settings`.
DATA_BEFORE: dict[str, Any] = {"depth": None, "tiles": "1"}


def format_of(stored: Mapping[str, Any], file: str) -> int:
    """The number that a file says. Raises SIVTError where it is of a later version than this one."""
    number = stored.get("format_number", 0)
    if not isinstance(number, int) or not 0 <= number <= FORMAT:
        raise SIVTError(
            f"{file}: its format is {number}, and this version of sivt_lightning reads up to {FORMAT}. "
            "Use the version that made it, or a later one: pip install --upgrade sivt-lightning."
        )
    return number
