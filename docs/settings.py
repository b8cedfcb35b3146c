"""Writes docs/settings.md from the signatures and docstrings of the objects that take the settings.

python docs/settings.py
"""

import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docstring_parser import parse

from sivt_lightning.cli.lightning_cli import VERDICTS
from sivt_lightning.data.datamodule import SIVTDataModule
from sivt_lightning.evaluation.callback import Evaluation
from sivt_lightning.model.settings import ModelSettings
from sivt_lightning.prediction_files.writer import PredictionWriter
from sivt_lightning.training.panel import Panel
from sivt_lightning.training.synthetic_validation import SyntheticValidation

PAGE = Path(__file__).with_name("settings.md")
HEAD = """# Settings

<!-- Written by `python docs/settings.py`: change the docstrings instead. -->

Every setting of this package, as an option (`--model.width 192`) or in a YAML file, where the dots are levels
(`model: {width: 192}`). [Training](training.md#settings-that-matter) says which to change when. What Lightning's
Trainer takes (`--trainer.max_epochs` and its like) and the options of the commands themselves are listed by
`sivt COMMAND --help`.
"""
# Prefix of the options, what takes them, the commands that have them, and what an option of the command itself sets.
SECTIONS: tuple[tuple[str, type, str, set[str]], ...] = (
    ("model", ModelSettings, "The model and its training, of `fit`; a checkpoint keeps them.", {"seed"}),
    ("data", SIVTDataModule, "Photos, of `fit`, `test` and `predict`.", {"seed", "image_size"}),
    ("synthetic", SyntheticValidation, "Validation by synthetic defects, of `fit`.", set()),
    ("panel", Panel, "Pictures for TensorBoard, of `fit`.", set()),
    ("eval", Evaluation, "What `test` computes and draws.", {"output", *VERDICTS}),
    (
        "writer",
        PredictionWriter,
        "What `predict` writes.",
        {"output", *VERDICTS, "category", "smallest_region", "overwrite", "resume"},
    ),
)


def page() -> str:
    """The whole of it."""
    return HEAD + "".join("\n".join(section(*about)) + "\n" for about in SECTIONS)


def section(prefix: str, taker: type, about: str, linked: set[str]) -> Iterator[str]:
    """A heading and a table."""
    said = {one.arg_name: one.description or "" for one in parse(inspect.getdoc(taker) or "").params}
    signature = inspect.signature(taker).parameters
    if said.keys() != signature.keys():
        raise ValueError(f"{taker.__name__}: its docstring names other arguments than it takes")
    yield from ("", f"## {prefix}", "", about, "", "| setting | default | values | |", "|---|---|---|---|")
    for name, parameter in signature.items():
        if name not in linked:
            values, what = values_of(typing.get_type_hints(taker.__init__)[name]), " ".join(said[name].split())
            yield f"| `{prefix}.{name}` | `{shown(parameter.default)}` | {values} | {what} |"


def values_of(kind: Any) -> str:
    """A type in words.

    >>> values_of(typing.Literal["off", "memory"] | None)
    '`off`, `memory` or null'
    """
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(values_of(one) for one in typing.get_args(kind))
    words = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null"}
    return words.get(kind) or f"list of {'numbers' if 'int' in str(kind) else 'names'}"


def shown(value: Any) -> str:
    """A default as it is written in YAML."""
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return str(list(value))
    return re.sub(r"^(True|False)$", lambda word: word[0].lower(), str(value))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
