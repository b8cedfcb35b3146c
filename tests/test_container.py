"""The Dockerfile: clean by hadolint, and what it starts is what the command line takes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sivt_lightning.cli import main

DOCKERFILE = Path(__file__).parents[1] / "Dockerfile"


def instruction(name: str) -> list[str]:
    """The words of the last such line."""
    return list(json.loads(re.findall(rf"^{name} (\[.*\])$", DOCKERFILE.read_text(), re.M)[-1]))


def test_hadolint_has_nothing_to_say() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("there is no hadolint for this platform")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_it_starts_a_server_that_asks_for_a_token(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = [*instruction("ENTRYPOINT"), *instruction("CMD")]
    assert program == "sivt"
    arguments[arguments.index("8000")] = "0"  # here another program may have the port
    monkeypatch.delenv("SIVT_TOKEN", raising=False)
    assert main(arguments) == 1
    assert "a token is needed" in capsys.readouterr().err
    monkeypatch.setenv("SIVT_TOKEN", "a-secret-of-the-line")
    assert main(arguments) == 1
    assert "/model/model.xml: there is no such file" in capsys.readouterr().err


def test_it_runs_as_nobody_in_particular_and_says_how_it_is() -> None:
    last = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9][0-9]+$", last, re.M)
    assert "HEALTHCHECK" in last
    assert "/ready" in last
