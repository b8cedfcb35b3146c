"""--help: what a command does, the options that matter first, and examples that can be typed."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from parts import about_of

from sivt_lightning.cli import fit, main, trained
from sivt_lightning.cli.benchmark import parse as parse_benchmark
from sivt_lightning.cli.fit import FitCLI
from sivt_lightning.cli.help import HELP


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"] if verb else ["--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_first_page_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    page = help_of("", capsys)
    for verb, help_text in HELP.items():
        assert re.search(rf"^  {verb} +{re.escape(help_text.line)}$", page, re.M)
    assert "--quiet" in page
    assert "--debug" in page
    assert "optimization routine" not in page, "the Trainer's own words for its methods"


@pytest.mark.parametrize("verb", HELP)
def test_what_matters_comes_first_and_exists(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = help_of(verb, capsys)
    before, _, listed = page.partition("\noptions:\n")
    assert before.startswith(f"usage: {HELP[verb].usage}")
    assert HELP[verb].line in before
    assert 3 <= len(HELP[verb].first) <= 5
    for option, what in HELP[verb].first:
        assert f"  {option:26}{what}" in before, "a line of its own, as it was written"
        known = listed if option.startswith("-") else before.partition("positional arguments:")[2]
        assert re.search(rf"^ +(-\w \w+, )?{re.escape(option)}\b", known, re.M), option
    for example in HELP[verb].examples:
        assert f"\n  {example}\n" in f"{before}\n"
        assert example.startswith(f"sivt {verb} ")
    assert max(map(len, before.splitlines())) <= 120


@pytest.mark.parametrize("example", [example for told in HELP.values() for example in told.examples])
def test_the_options_of_an_example_exist(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, verb, *arguments = shlex.split(example)
    listed = help_of(verb, capsys).partition("\noptions:\n")[2]
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert re.search(rf"^ +(-\w \w+, )?{option}\b", listed, re.M), option


class Parsed(Exception):
    """Nothing is run."""


@pytest.mark.parametrize("example", [example for told in HELP.values() for example in told.examples])
def test_an_example_can_be_typed(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ArgumentParser.parse_args

    def parse(parser: ArgumentParser, *args: Any, **kwargs: Any) -> None:
        whole(parser, *args, **kwargs)
        raise Parsed

    monkeypatch.chdir(Path(__file__).parents[1])  # of configs/
    monkeypatch.setattr(ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(fit, "read_checkpoint", lambda path: {"optimizer_states": [], "global_step": 0})
    monkeypatch.setattr(trained, "read_about", lambda path: about_of(None, 32))
    monkeypatch.setattr(FitCLI, "_take_defaults", lambda *of: None)  # there is no such checkpoint to take them from
    with pytest.raises(Parsed):
        main(shlex.split(example)[1:])


@pytest.mark.parametrize("verb", ["fit", "test", "predict"])
def test_no_option_promises_what_is_not_there(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    page = help_of(verb, capsys)
    assert "Checkpoint of a run: for fit its last.ckpt" in page
    assert "trainer.fit" not in page
    assert "Set to True to use a" not in page


def test_every_command_has_a_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    output = capsys.readouterr().err
    assert all(verb in output for verb in HELP)
    assert parse_benchmark(["--batch_sizes", "[1,8]"]).batch_sizes == [1, 8]
