"""The options of `fit`, `test`, `predict` and `benchmark`, known without what they are made of: that takes seconds.

They are those of Lightning's parser, the model and its data. `python docs/list_options.py` lists them in a file, from
which --help is printed and wrong usage is answered before torch is loaded.
"""

import argparse
import json
import sys
from argparse import ArgumentError
from ast import literal_eval
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union

from jsonargparse import ArgumentParser

from sivt_lightning.cli.arguments import SETTINGS, check_configs, explained, given_option
from sivt_lightning.cli.help import HELP
from sivt_lightning.cli.shipped import with_shipped_configs
from sivt_lightning.errors import SIVTError

FILE = Path(__file__).with_name("options.json")
LISTED = ("fit", "test", "predict", "benchmark")
TRAINED = ("test", "predict")  # which take a model as it is
TITLES = {
    "model": "The model and how it is trained",
    "data": "Photos",
    "trainer": "Lightning's Trainer",
    "threshold": "Thresholds",
    "synthetic": "Validation by synthetic defects",
    "panel": "Pictures for TensorBoard",
    "eval": "What is computed and drawn",
    "writer": "What is written",
}
# By their names in the list; values of other types are checked once the parser is loaded that has them.
TYPES: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "null": None}


def checked(verb: str, args: Sequence[str]) -> list[str]:
    """The arguments, in which shipped configs are files; for --help it is printed, and the program ends.

    Raises SIVTError for what the parser would refuse.
    """
    if {"-h", "--help"} & set(args):
        print(page(verb), end="", flush=True)
        sys.exit(0)
    if verb in TRAINED and given_option(args, "--ckpt_path") is None:
        raise SIVTError(f"`sivt {verb}` needs a trained model: add --ckpt_path runs/.../checkpoints/best.ckpt")
    options = listed(verb)
    known = {name: option for option in options for name in option["names"]}
    words = [name for name in known if name.startswith("--") and not name.endswith("+")]
    with explained(f"sivt {verb}", words):
        for argument, following in zip(args, [*args[1:], "--"], strict=True):
            name, equals, value = argument.partition("=")
            if not name.startswith("--") or name.startswith("--trainer."):  # of which another release may have more
                continue
            if name.partition(".")[0] == "--model" and verb in TRAINED:
                raise _as_trained(name[2:])
            if name not in known:
                raise ArgumentError(None, f"unrecognized arguments: {name}")
            if equals or not following.startswith("--"):
                check_value(name, known[name].get("type", ""), value if equals else following)
    files = with_shipped_configs(args)
    of_model = check_configs(files)
    if of_model and verb in TRAINED:
        raise _as_trained(of_model[0])
    return files


def _as_trained(name: str) -> SIVTError:
    return SIVTError(
        f"{name}: a model and its thresholds are used as they were trained: leave the setting out, or train a model "
        "with it."
    )


def listed(verb: str) -> list[dict[str, Any]]:
    """Names, type, default and help of each option; those that take no value have the type ""."""
    options: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["commands"][verb]
    return options


def check_value(name: str, kind: str, value: str) -> None:
    """Raises ArgumentError where the value is none of a type that is plain, or of a few words."""
    parts = kind.split(" | ")
    plain = [TYPES[part] for part in parts if part in TYPES]
    words = [literal_eval(part) for part in parts if part[:1].isdigit() or part[:1] == "'"]
    if len(plain) + len(words) == len(parts):
        parser = ArgumentParser(**SETTINGS)
        parser.add_argument(name, type=Union[*([Literal[*words]] if words else []), *plain])
        parser.parse_object({name.removeprefix("--"): value})


def page(verb: str) -> str:
    """What `--help` prints."""
    about = HELP[verb]
    parser = argparse.ArgumentParser(
        usage=about.usage,
        description=about.description(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    groups: dict[str, Any] = {"": parser}
    for option in sorted(listed(verb), key=lambda option: option["names"][-1].startswith("--trainer")):
        names = [name for name in option["names"] if not name.endswith("+")]
        place, _, last = names[-1].removeprefix("--").rpartition(".")
        prefix = place.partition(".")[0] or (last if last in TITLES and "type" not in option else "")
        if prefix not in groups:
            groups[prefix] = parser.add_argument_group(TITLES[prefix])
        about_value = f" (type: {option['type']}, default: {_shown(option['default'])})" if option.get("type") else ""
        takes: dict[str, Any] = {"action": "store_true"} if option.get("type") == "" else {"metavar": last.upper()}
        groups[prefix].add_argument(*names, help=(option["help"] + about_value).replace("%", "%%"), **takes)
    return parser.format_help()


def _shown(default: Any) -> str:
    return default if isinstance(default, str) else json.dumps(default)
