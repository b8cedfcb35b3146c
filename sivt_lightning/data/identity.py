"""Which images they are, wherever they lie."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sivt_lightning.data.folders import images_in
from sivt_lightning.data.samples import Sample


def digest(samples: Sequence[Sample]) -> str:
    """Equal for equal sets of photos with equal categories, labels and masks; names and places do not count."""
    known = sorted((s.category, s.defect, _bytes_of(s.path), _content(s.mask_path)) for s in samples)
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def split(folder: Path, train: Sequence[Sample], held_out: Sequence[Sample]) -> dict[str, Any]:
    """How many photos of a folder are trained on and held out, and which, by their categories and names."""
    named = [[(s.category, s.path.relative_to(folder).as_posix()) for s in samples] for samples in (train, held_out)]
    names = hashlib.sha256(repr(named).encode()).hexdigest()
    return {"train": len(train), "held_out": len(held_out), "names": names}


def _content(path: Path | None) -> str:
    if path is None:
        return ""
    if path.is_dir():  # of masks
        return "".join(map(_bytes_of, images_in(path)))
    return _bytes_of(path)


def _bytes_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
