"""What the parsers of all verbs have in common: wrong usage is one sentence, with the nearest name there is."""

import re
from argparse import ArgumentError
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentParser

from sivt_lightning.errors import SIVTError, did_you_mean
from sivt_lightning.help import HELP, Formatter

# A shortened option would be taken for another as soon as there is one more: --data.rot for --data.rotation.
SETTINGS: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}


class UsageError(SIVTError):
    """Arguments that a parser refuses."""


def verb_parser(verb: str) -> ArgumentParser:
    """Of a verb that is no Trainer method."""
    return ArgumentParser(prog=f"sivt {verb}", **help_settings(verb), **SETTINGS)


def help_settings(verb: str) -> dict[str, Any]:
    """What makes a parser's --help begin with what matters."""
    return {"usage": HELP[verb].usage, "description": HELP[verb].description(), "formatter_class": Formatter}


def parse(parser: ArgumentParser, args: Sequence[str]) -> Any:
    """The settings. Raises UsageError."""
    with explained(parser.prog, options_of(parser)):
        return parser.parse_args(list(args))


@contextmanager
def explained(program: str, known: Iterable[str]) -> Iterator[None]:
    """Turns a parser's complaint into a UsageError; `known` are the words that might have been meant."""
    try:
        yield
    except ArgumentError as error:
        program = f"{program.split()[0]} {program.split()[-1]}"  # argparse puts the usage of sivt in between
        raise UsageError(f"{explanation(str(error), known)} `{program} --help` lists what there is.") from error


def options_of(parser: ArgumentParser) -> list[str]:
    """Every --option that the parser knows, apart from those for adding to a list."""
    every = [option for action in parser._actions for option in action.option_strings]
    return [option for option in every if option.startswith("--") and not option.endswith("+")]


def explanation(complaint: str, known: Iterable[str]) -> str:
    """The complaint in one line, with what was perhaps meant.

    >>> explanation("unrecognized arguments: --data.rot photos", ["--data.root", "--model.width"])
    'There is no option --data.rot: did you mean --data.root?'
    """
    complaint = " ".join(complaint.split()).rpartition(" failed: ")[2]  # a check of ours speaks for itself
    value = re.fullmatch(r"Parser key \"([\w.]+)\": Expected a <class '(\w+)'>\. Got value: (.*)", complaint)
    if value is not None:
        return f"{value[1]} is {value[3]}, but must be of type {value[2]}."
    lacking = re.fullmatch(r"[Aa]rgument (?:.*/)?(--[\w.-]+): expected one argument", complaint)
    if lacking is not None:
        return f"{lacking[1]} expected one argument: one that begins with a dash is given as {lacking[1]}=-NAME."
    unknown = re.search(r"unrecognized arguments: .*?(--[\w.-]+)", complaint)
    unknown = unknown or re.search(r"does not accept option '([\w.]+)'", complaint)
    if unknown is None:
        return f"{complaint[:1].upper()}{complaint[1:]}{'' if complaint.endswith('.') else '.'}"
    name = unknown[1]
    meant = did_you_mean(f"--{name.removeprefix('--')}", known, 2)
    if not name.startswith("--"):  # it stands in a config file
        meant = meant.replace("--", "")
    return f"There is no option {name}" + (f": {meant}" if meant else ".")
