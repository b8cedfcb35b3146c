"""Writes sivt_lightning/cli/options.json, which --help is printed from, out of the parsers that read the options.

python docs/list_options.py
"""

import argparse
import json
import types
import typing
from importlib.metadata import version
from typing import Any
from unittest.mock import patch

from jsonargparse import ArgumentParser

from sivt_lightning import cli
from sivt_lightning.cli.help import OPTIONS
from sivt_lightning.cli.options import FILE, LISTED, TRAINED
from sivt_lightning.cli.parser_inside import options_in


def listing() -> dict[str, Any]:
    """The options of each command, in their order; those of Lightning's Trainer are of the version that is named."""
    return {"lightning": version("lightning"), "commands": {verb: options_of(verb) for verb in LISTED}}


class Found(Exception):
    """The parser of a command."""


def options_of(verb: str) -> list[dict[str, Any]]:
    """Of the parser that would print its help."""

    def stop(parser: ArgumentParser, *args: Any, **kwargs: Any) -> None:
        raise Found(parser)

    with patch.object(ArgumentParser, "print_help", stop):
        try:
            cli.command(verb)(["--help"])
        except Found as found:
            hidden = {"--model"} if verb in TRAINED else set()  # all its settings are those of the model's file
            options = [action for action in options_in(found.args[0]) if is_option(action)]
            return [described(action) for action in options if not hidden & {*action.option_strings}]
    raise RuntimeError(f"sivt {verb} --help prints no help")


def is_option(action: argparse.Action) -> bool:
    """Whether it can be given; settings that are linked to others are among the actions, too."""
    return any(name.startswith("-") for name in action.option_strings)


def described(action: argparse.Action) -> dict[str, Any]:
    """Names, and what is known of values, default and meaning."""
    name = max(action.option_strings, key=len).removesuffix("+")
    option: dict[str, Any] = {"names": list(action.option_strings)}
    kind = getattr(action, "_typehint", None) or action.type
    if kind is not None and not name.endswith(".help"):
        option["type"] = text(kind)
        option["default"] = action.default
    elif action.nargs == 0:
        option["type"] = ""  # takes no value
    option["help"] = " ".join((OPTIONS.get(name) or action.help or "").split())
    return option


def text(kind: Any) -> str:
    """A type as it is shown, words for values that are one of few.

    >>> text(int | None), text(typing.Literal["off", 8]), text(list[str] | None)
    ('int | null', "'off' | 8", 'list[str] | null')
    """
    if typing.get_origin(kind) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(kind)))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " | ".join(map(text, typing.get_args(kind)))
    if typing.get_args(kind):
        return f"{typing.get_origin(kind).__name__}[{', '.join(map(text, typing.get_args(kind)))}]"
    return "null" if kind is type(None) else str(getattr(kind, "__name__", kind))


def lines(found: dict[str, Any]) -> str:
    """As JSON, a line for each option."""
    commands = [
        f' "{verb}": [\n  ' + ",\n  ".join(json.dumps(option) for option in options) + "\n ]"
        for verb, options in found["commands"].items()
    ]
    return f'{{"lightning": "{found["lightning"]}",\n"commands": {{\n' + ",\n".join(commands) + "\n}}\n"


if __name__ == "__main__":
    FILE.write_text(lines(listing()), encoding="utf-8")
