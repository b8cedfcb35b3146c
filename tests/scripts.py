"""Scripts of the repository as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[1]


def script(place: str) -> ModuleType:
    """That at this place in the repository, such as docs/settings.py."""
    specification = importlib.util.spec_from_file_location(Path(place).stem, REPOSITORY / place)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
