"""What the parsers of all verbs have in common: wrong usage is one sentence, with the nearest name there is."""

import json
import re
from argparse import ArgumentError
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from sivt_lightning.cli.help import HELP, Formatter
from sivt_lightning.cli.parser_inside import options_in
from sivt_lightning.errors import SIVTError, did_you_mean

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
    check_configs(args)
    with explained(parser.prog, options_of(parser)):
        return parser.parse_args(list(args))


def joined(args: Sequence[str], option: str) -> list[str]:
    """The arguments with all values of an option as one list, as for `--option *.png`, which a shell has written out.

    >>> joined(["predict", "--photos", "a.png", "b.png", "--output", "there"], "--photos")
    ['predict', '--photos=["a.png", "b.png"]', '--output', 'there']
    >>> joined(["predict", "--photos", "a.png"], "--photos")
    ['predict', '--photos', 'a.png']
    """
    values, rest, taking, place = list[str](), list[str](), False, 0
    for argument in args:
        name, equals, value = argument.partition("=")
        if name == option:
            taking, place = True, place or len(rest)
            values += [value] if equals else []
        elif taking and not argument.startswith("-"):
            values.append(argument)
        else:
            taking = False
            rest.append(argument)
    bracketed = any(value.startswith("[") and Path(value).exists() for value in values)  # YAML would take it for a list
    if len(values) < 2 and not bracketed:
        return list(args)
    return [*rest[:place], f"{option}={json.dumps(values)}", *rest[place:]]


def given_option(args: Sequence[str], name: str) -> str | None:
    """The last value given for an option, as `--name value` or `--name=value`: a checkpoint's path before parsing."""
    value = None
    for position, argument in enumerate(args):
        if argument == name and position + 1 < len(args):
            value = args[position + 1]
        elif argument.startswith(f"{name}="):
            value = argument.split("=", 1)[1]
    return value


def check_configs(args: Sequence[str]) -> list[str]:
    """The settings of a model that config files hold, such as "model.width".

    Raises UsageError where a file is no text in UTF-8, as some editors write it, or holds no settings.
    """
    of_model = list[str]()
    for option, value in zip(args, [*args[1:], ""], strict=False):
        name, _, inline = option.partition("=")
        path = Path(inline or value)
        if name in ("--config", "-c") and path.is_file():
            try:
                settings = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
            except UnicodeDecodeError as error:
                raise UsageError(f"config {path} is no text in UTF-8: save it as UTF-8 in your editor.") from error
            except yaml.YAMLError as error:
                raise UsageError(f"config {path} is no YAML: {' '.join(str(error).split())}.") from error
            if not isinstance(settings, dict):
                what = "is empty" if settings is None else "holds no settings"
                raise UsageError(f"config {path} {what}: write them as in `trainer: {{max_epochs: 10}}`.")
            model = settings.get("model")
            of_model += [f"model.{key}" for key in model] if isinstance(model, dict) else []
    return of_model


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
    every = [option for action in options_in(parser) for option in action.option_strings]
    return [option for option in every if option.startswith("--") and not option.endswith("+")]


def explanation(complaint: str, known: Iterable[str]) -> str:
    '''The complaint in one line, with what was perhaps meant.

    >>> explanation("""Parser key "what": Expected a typing.Literal['check', 'list']. Got value: look""", [])
    "what is look, but must be one of 'check', 'list'."
    >>> explanation("unrecognized arguments: --data.rot photos", ["--data.root", "--model.width"])
    'There is no option --data.rot: did you mean --data.root?'
    >>> union = "Does not validate against any of the Union subtypes Subtypes: [<class 'float'>, <class 'NoneType'>]"
    >>> explanation(f'Parser key "false_alarms": {union} Errors: - Expected a number Given value: five', [])
    'false_alarms is five, but must be of type float, or null.'
    '''
    complaint = " ".join(complaint.split()).rpartition(" failed: ")[2]  # a check of ours speaks for itself
    if sentence := _of_list(complaint):
        return sentence
    value = re.fullmatch(r"Parser key \"([\w.]+)\": Expected a <class '(\w+)'>\. Got value: (.*)", complaint)
    if value is not None:
        if value[2] == "float" and value[3].lower() == "nan":  # YAML writes it .nan, and takes this for a word
            return f"{value[1]} is nan, which is no number: give a positive number."
        return f"{value[1]} is {value[3]}, but must be of type {value[2]}."
    word = re.fullmatch(r"Parser key \"([\w.]+)\": Expected a typing\.Literal\[(.*)\]\. Got value: (.*)", complaint)
    if word is not None:
        return f"{word[1]} is {word[3]}, but must be one of {word[2]}."
    if sentence := _of_union(complaint):
        return sentence
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


def _of_union(complaint: str) -> str:
    """What an option takes that may be null, or "".

    >>> union = 'Parser key "by": Does not validate against any of the Union subtypes Subtypes: '
    >>> _of_union(f"{union}[typing.Literal['one', 8], <class 'NoneType'>] Errors: - Expected Given value: two")
    "by is two, but must be one of 'one', 8, or null."
    """
    value = re.fullmatch(
        r"Parser key \"([\w.]+)\": Does not validate against any of the Union subtypes "
        r"Subtypes: \[(?:typing\.Literal\[(.*?)\]|((?:<class '\w+'>, )*<class '\w+'>)), <class 'NoneType'>\] "
        r"Errors: .* Given value: (.*)",
        complaint,
    )
    if value is None:
        return ""
    name, choices, classes, given = value.groups()
    taken = f"one of {choices}" if choices else "of type " + " or ".join(re.findall(r"\w+(?=')", classes))
    return f"{name} is {given}, but must be {taken}, or null."


def _of_list(complaint: str) -> str:
    """How to write the list that an option takes, or "".

    >>> _of_list('''Parser key "batch_sizes": Expected a <class 'list'>. Got value: 8''')
    'batch_sizes is 8, but must be a list: --batch_sizes [8].'
    """
    said = re.fullmatch(
        r"Parser key \"([\w.]+)\": (?:Expected a <class '(?:list|collections\.abc\.Sequence)'>\. Got value: (.*)"
        r"|Does not validate against any of the Union subtypes Subtypes: "
        r"\[(?:list\[str\]|collections\.abc\.Sequence\[int\]).* Given value: (.*))",
        complaint,
    )
    if said is None:
        return ""
    name, value = said[1], said[2] or said[3]
    if value.startswith("[") and "Sequence[int]" in complaint:
        return f"{name} is {value}, but must be a list of whole numbers, as in [1, 2]."
    if value.startswith("["):  # 01 was read as the number 1
        return (
            f"{name} is {value}, but must be a list of names: put those that look like numbers in quotes, "
            f'as in ["01", "02"]; as an option --{name} \'["01", "02"]\'.'
        )
    return f"{name} is {value}, but must be a list: --{name} [{value}]."
