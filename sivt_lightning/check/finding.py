"""What a check has to say of photos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

Kind = Literal[
    "unreadable",
    "same file",
    "wrong mask",
    "no training",
    "same picture",
    "unlike its product",
    "doubtful mask",
    "light",
    "size",
    "few photos",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
FAULTS = KINDS[:4]  # which make results wrong; the others are for a person to see


class Finding(NamedTuple):
    """One sentence, and the photos that it is about.

    Args:
        category: "" where it is of several.
    """

    kind: Kind
    category: str
    sentence: str
    paths: Sequence[Path] = ()

    @property
    def is_fault(self) -> bool:
        """Whether a training or a test with these photos would give wrong results."""
        return self.kind in FAULTS
