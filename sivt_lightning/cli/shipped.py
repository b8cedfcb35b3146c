"""Configs and tables of experiments that come with the package, found by their names."""

from collections.abc import Sequence
from pathlib import Path

from sivt_lightning.cli.arguments import UsageError
from sivt_lightning.errors import SIVTError

PACKAGE = Path(__file__).parents[1]
# A wheel holds the repository's configs/ within the package; in a checkout it lies beside it.
CONFIGS = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"


def with_shipped_configs(args: Sequence[str]) -> list[str]:
    """The arguments with the file of each config that is given by its name. Raises UsageError for one not there."""
    taken = list(args)
    for place, argument in enumerate(args):
        option, equals, value = argument.partition("=")
        if option in ("--config", "-c"):
            if equals:
                taken[place] = f"{option}={named(value, 'config')}"
            elif place + 1 < len(args) and not args[place + 1].startswith("--"):
                taken[place + 1] = named(args[place + 1], "config")
    return taken


def named(value: str, what: str, folder: Path = CONFIGS, error: type[SIVTError] = UsageError) -> str:
    """The path of the file `value`, or else of the shipped one that has this name; YAML itself is left as it is.

    Raises an `error` where there is neither, which names those that are shipped.
    """
    names = sorted(file.stem for file in folder.glob("*.yaml"))
    if Path(value).is_file() or ":" in value:
        return value
    if value in names:
        return str(folder / f"{value}.yaml")
    raise error(f"{what} {value}: there is no such file. By their names there are {', '.join(names)}.")
