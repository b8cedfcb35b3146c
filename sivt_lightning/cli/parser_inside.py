"""The inside of a parser, all that is used of it, as in jsonargparse 4.53: its options and commands."""

from typing import Any

from jsonargparse import ArgumentParser


def options_in(parser: ArgumentParser) -> list[Any]:
    """What stands for each option: it has `option_strings` and `help`."""
    return parser._actions


def verbs_in(parser: ArgumentParser) -> list[Any]:
    """What stands for each command in the list of commands: it has `dest`, its name, and `help`."""
    verbs: Any = parser._subcommands_action
    return verbs._choices_actions
