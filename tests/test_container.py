"""The Dockerfile, compose file and systemd unit: they are clean, and what they start is what the command line takes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sivt_lightning.cli import main
from sivt_lightning.cli.serve import parse_settings

DOCKERFILE = Path(__file__).parents[1] / "Dockerfile"
SERVICE = Path(__file__).parents[1] / "docs/service"


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


def test_the_compose_file_starts_that_container() -> None:
    service = yaml.safe_load((SERVICE / "compose.yaml").read_text())["services"]["sivt"]
    assert (SERVICE / service["build"]).resolve() == DOCKERFILE.parent
    arguments = instruction("CMD")
    mounted = service["volumes"][0].split(":")[1]
    assert Path(arguments[arguments.index("--model") + 1]).parent == Path(mounted)
    assert service["ports"][0].split(":")[1] == arguments[arguments.index("--port") + 1]
    assert service["environment"] == ["SIVT_TOKEN"]
    assert service["command"][: len(arguments)] == arguments
    settings = parse_settings(service["command"])
    assert service["volumes"][1] == f"state:{settings.state}"
    assert re.search(rf"install --directory --owner=10001 {settings.state}$", DOCKERFILE.read_text(), re.M)


def test_the_unit_is_one_and_starts_the_server(tmp_path: Path) -> None:
    unit = (SERVICE / "sivt.service").read_text()
    program, verb, *arguments = re.findall(r"^ExecStart=(.*)$", unit, re.M)[0].split()
    assert verb == "serve"
    settings = parse_settings(arguments)
    assert settings.model == "/var/lib/sivt-model/model.xml"
    assert settings.state == "/var/lib/" + re.findall(r"^StateDirectory=(.*)$", unit, re.M)[0]
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("there is no systemd on this machine")
    file = tmp_path / "sivt.service"
    file.write_text(unit.replace(program, sys.executable))
    done = subprocess.run([systemd, "verify", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
