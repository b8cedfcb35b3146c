"""Scripts of the repository as modules."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[1]


def script(place: str) -> ModuleType:
    """That at this place in the repository, such as docs/settings.py; like a script it finds those beside it."""
    path = REPOSITORY / place
    sys.path.insert(0, str(path.parent))
    try:
        return importlib.import_module(path.stem)
    finally:
        sys.path.pop(0)
