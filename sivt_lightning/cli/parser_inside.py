"""The inside of a parser, all that is used of it, as in jsonargparse 4.53: its options."""

from typing import Any

from jsonargparse import ArgumentParser


def options_in(parser: ArgumentParser) -> list[Any]:
    """What stands for each option: it has `option_strings` and `help`."""
    return parser._actions
