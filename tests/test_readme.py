"""What the README promises exists: its commands, settings and files."""

import re
import shlex
from pathlib import Path

import pytest

from sivt_lightning.cli import main

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.S)).replace("\\\n", " ")
VERBS = "fit|test|predict|demo-data|compare|experiment|benchmark|export|serve"
COMMANDS = re.findall(rf"^.*?\bsivt(?:_lightning)? ((?:{VERBS})\b.*)$", SHELL, re.M)


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    return capsys.readouterr().out


def test_every_option_of_a_command_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        verb, *arguments = shlex.split(command, comments=True)
        known = help_of(verb, capsys)
        for option in (argument.split("=")[0] for argument in arguments if argument.startswith("--")):
            assert re.search(rf"{re.escape(option)}[ \n\]]", known), f"{command}: {option}"


def test_every_setting_named_exists(capsys: pytest.CaptureFixture[str]) -> None:
    known = help_of("fit", capsys)
    settings = set(re.findall(r"\b(?:model|data|trainer|threshold|panel|synthetic)\.(?!xml)[a-z_]+", README))
    assert len(settings) > 15
    assert {setting for setting in settings if f"--{setting}" not in known} == set()


def test_every_file_named_exists() -> None:
    named = set(re.findall(r"`((?:sivt_lightning|configs)/[\w/.]+)`", README)) | set(
        re.findall(r"\]\(((?:\.\w|docs/)[^)#]+)\)", README)
    )
    assert named
    assert {name for name in named if not (REPOSITORY / name).exists()} == set()
