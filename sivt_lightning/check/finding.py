"""What a check has to say of photos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal[
    "unreadable",
    "same file",
    "mask",
    "no training",
    "same picture",
    "unlike its product",
    "light",
    "size",
    "few photos",
]
FAULTS: tuple[Kind, ...] = ("unreadable", "same file", "mask", "no training")  # which make results wrong
REMARKS: tuple[Kind, ...] = ("same picture", "unlike its product", "light", "size", "few photos")  # for a person to see
KINDS = (*FAULTS, *REMARKS)


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
