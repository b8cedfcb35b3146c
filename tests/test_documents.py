"""What README.md and docs/ promise exists: their commands, code, settings, files and links."""

import contextlib
import doctest
import io
import os
import re
import shlex
import shutil
import subprocess
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest
from coloured import Coloured, listening
from conftest import TINY, write_tiny_data
from jsonargparse import ArgumentParser
from PIL import Image
from scripts import script

from sivt_lightning import Predictor
from sivt_lightning.cli import main
from sivt_lightning.cli.help import HELP
from sivt_lightning.cli.options import checked
from sivt_lightning.experiment.plan import read_experiment
from sivt_lightning.serve.app import Limits, build_app

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
PAGES = {path.relative_to(REPOSITORY).as_posix(): path for path in (README, *sorted(REPOSITORY.glob("docs/*.md")))}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PROGRAMS = ("sivt", "python", "python3", "pip", "make", "curl", "torchrun", "srun")
RUN = ("test", "predict", "compare", "demo-data")  # on tiny data; other commands take long, and are parsed
RECORDER = '#!/bin/sh\nprintf "%s\\0" "${0##*/}" "$@" >> "$RECORD"\nprintf "\\n\\0" >> "$RECORD"\n'


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, code) of every fenced block."""
    fence = re.compile(rf"^( *)```{language}\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
    return [(name, textwrap.dedent(code[2])) for name, text in TEXTS.items() for code in fence.finditer(text)]


def inline(text: str) -> list[str]:
    """Code within paragraphs."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


done: list[list[str]] = []


class Parsed(BaseException):
    """Nothing is run."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with all that the commands name: photos, a trained and tested model, configs."""
    folder = tmp_path_factory.mktemp("place")
    write_tiny_data(folder / "photos")
    for name, product in (("across", "bolt"), ("down", "label")):
        (folder / "photos" / name).rename(folder / "photos" / product)
    (folder / "datasets").mkdir()
    for name in ("FOLDER", "FOLDER_OF_PHOTOS", "datasets/MVTecAD"):
        (folder / name).symlink_to(folder / "photos")
    for name in ("configs", "benchmarks", "docs", "tests"):
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").touch()
    shutil.copy(next(folder.glob("photos/bolt/test/square/*.png")), folder / "photo.png")
    (folder / "tiny.yaml").write_text(TINY.replace("ROOT", "photos"))
    run = folder / "runs/small/version_0"
    with contextlib.chdir(folder):
        assert main(["fit", "--config", "tiny.yaml", "--name", "small", "--trainer.max_epochs", "1"]) == 0
        assert main(["test", "--ckpt_path", str(run / "checkpoints/best.ckpt")]) == 0
    shutil.copytree(run / "test", run / "test-best-int8-openvino")
    shutil.copy(run / "checkpoints/best.ckpt", folder)
    for copy in ("small/version_1", "other/version_0"):
        shutil.copytree(run, folder / "runs" / copy)
    (folder / "bin").mkdir()
    for name in PROGRAMS:
        (folder / "bin" / name).write_text(RECORDER)
        (folder / "bin" / name).chmod(0o755)
    return folder


def typed(code: str, place: Path) -> list[list[str]]:
    """The commands of a block, as a shell gives them to the programs."""
    record = place / "record"
    record.write_bytes(b"")
    environment = os.environ | {"PATH": str(place / "bin"), "RECORD": str(record)}
    shell = subprocess.run(["/bin/bash", "-euc", code], cwd=place, env=environment, capture_output=True, text=True)
    assert shell.returncode == 0, f"{shell.stderr}\n{code}"
    commands = record.read_bytes().decode().split("\0\n\0")[:-1]
    return [command.split("\0") for command in commands]


def can_be_typed(arguments: list[str], place: Path) -> bool:
    """Whether `sivt` runs these, or its parser takes them; what stands on several pages runs once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        if arguments[0] in ("test", "predict") and any(argument.endswith(".xml") for argument in arguments):
            return bool(checked(arguments[0], arguments[1:]))  # an export, which takes a minute to make
        if arguments[0] in RUN:
            if arguments in done:
                return True
            done.append(arguments)
            shutil.rmtree(place / "predictions", ignore_errors=True)
            return main(arguments) == 0
        whole = ArgumentParser.parse_args

        def parse(parser: ArgumentParser, *args: Any, **kwargs: Any) -> None:
            whole(parser, *args, **kwargs)
            raise Parsed

        patch.setattr(ArgumentParser, "parse_args", parse)
        try:
            main(arguments)
        except Parsed:
            return True
        return False


@pytest.mark.parametrize(("page", "code"), blocks("bash"))
def test_every_command_can_be_typed(page: str, code: str, place: Path) -> None:
    commands = typed(code, place)
    assert commands
    for program, *arguments in commands:
        if program == "srun":
            program, *arguments = arguments
        if program == "torchrun":
            arguments = arguments[arguments.index("-m") :]
        if program == "sivt":
            assert can_be_typed(arguments, place), arguments
        elif arguments[:2] == ["-m", "sivt_lightning"]:
            assert can_be_typed(arguments[2:], place), arguments
        else:
            check_other(program, arguments)


@pytest.mark.parametrize(
    "command",
    [
        "fit --config configs/tiny.yaml --data.root photos",
        "fit --config configs/small.yaml --data.rot photos",
        "predict --ckpt_path worst.ckpt --data.predict_path photos",
        "serve --modell model/model.xml",
        "export --ckpt_path best.ckpt --format tflite",
        "demodata runs/demo_data",
    ],
)
def test_a_wrong_command_is_noticed(command: str, place: Path) -> None:
    assert not can_be_typed(command.split(), place)


def check_other(program: str, arguments: list[str]) -> None:
    """That what another program is asked for is there."""
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    elif program == "pip":
        extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = re.findall(r"(?:sivt-lightning|\.)\[(.*)\]", " ".join(arguments))
        assert {name for names in asked for name in names.split(",")} <= extras.keys()
    elif program == "curl":
        paths = build_app(Coloured(), Limits(), None).openapi()["paths"]
        assert arguments[-1].removeprefix("http://127.0.0.1:8000") in paths
    elif arguments[0] == "-c":
        compile(arguments[1], "-c", "exec")
    else:
        named = arguments[2] if arguments[:2] == ["-m", "pytest"] else arguments[0]
        assert arguments[:2] == ["-m", "venv"] or (REPOSITORY / named).is_file(), arguments


def test_the_job_of_slurm_begins_and_goes_on(place: Path) -> None:
    (job,) = (code for _, code in blocks("bash") if "#SBATCH" in code)
    (first,) = typed(job, place)
    assert first[2:4] == ["fit", "--config"]
    last = place / "runs/mvtec/version_0/checkpoints/last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    (again,) = typed(job, place)
    assert again[2:5] == ["fit", "--ckpt_path", str(last.relative_to(place))]


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_every_piece_of_python_runs(
    page: str, code: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "sys.argv" in code:
        return  # test_export runs it, where there is neither torch nor this package
    monkeypatch.chdir(place)
    with contextlib.ExitStack() as stack:
        if "127.0.0.1:8000" in code:
            predictor = Predictor(place / "best.ckpt", device="cpu")
            host, port = stack.enter_context(listening(Limits(), predictor=predictor))
            code = code.replace("127.0.0.1:8000", f"{host}:{port}")
        exec(compile(code, page, "exec"), {})
    right = Predictor(place / "best.ckpt", device="cpu")(Image.open(place / "photo.png"))
    (arguments,) = re.findall(r"^ *print\((.*)\)", code, re.MULTILINE)
    first, second, _ = re.findall(r'(?:\.|\[")(\w+)', arguments)  # attributes of a prediction, or fields of an answer
    for name, said in zip((first, second), capsys.readouterr().out.split(), strict=False):
        expected = getattr(right, name)
        assert float(said) == pytest.approx(expected) if name == "score" else said == str(expected), name


def test_the_experiment_file_can_be_read(tmp_path: Path) -> None:
    ((_, text),) = blocks("yaml")
    path = tmp_path / "experiments" / "width.yaml"
    path.parent.mkdir()
    path.write_text(text)
    shutil.copy(REPOSITORY / "configs/small.yaml", tmp_path)
    assert list(read_experiment(path).rows) == ["narrow", "shallow"]


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What --help says, by command."""
    said = {}
    for verb in HELP:
        with contextlib.redirect_stdout(io.StringIO()) as screen, pytest.raises(SystemExit):
            main([verb, "--help"])
        said[verb] = screen.getvalue()
    return said


@pytest.mark.parametrize("page", PAGES)
def test_every_option_and_setting_named_exists(page: str, helps: dict[str, str]) -> None:
    scripts = (path.read_text(encoding="utf-8") for path in REPOSITORY.glob("benchmarks/*.*"))
    known = set(re.findall(r"--[\w.-]*\w", "".join((*helps.values(), *scripts)))) | {"--quiet", "--debug"}
    code = [one for one in inline(TEXTS[page]) if not one.startswith("tensorboard ")]
    named = {option for one in code for option in re.findall(r"(?<!\S)--[\w.-]+", one)}
    kinds = "model|data|trainer|threshold|panel|synthetic|eval|writer"
    named |= {f"--{name}" for one in code for name in re.findall(rf"(?<![\w./-])(?:{kinds})\.(?!xml)[a-z_]+", one)}
    assert named - known == set()


def test_every_command_named_in_a_sentence_exists(helps: dict[str, str]) -> None:
    for code in (one for text in TEXTS.values() for one in inline(text) if one.startswith("sivt ")):
        _, verb, *arguments = shlex.split(code)
        if verb not in ("COMMAND", "--help"):
            given = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
            listed = helps[verb] + (helps["fit"] if verb == "benchmark" else "")  # which takes the settings of both
            assert given - {"--help"} <= set(re.findall(r"--[\w.-]*\w", listed)), code


def test_the_front_page_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 200


def test_the_front_page_leads_to_every_page() -> None:
    assert {f"docs/{Path(name).name}" for name in PAGES if name != "README.md"} <= set(LINK.findall(TEXTS["README.md"]))


def anchors(text: str) -> set[str]:
    """Of headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_pictures_are_small_and_shown() -> None:
    pictures = [path for path in (REPOSITORY / "docs").iterdir() if path.suffix in (".jpg", ".png", ".svg")]
    assert max(path.stat().st_size for path in pictures) < 200_000
    links = {Path(link).name for text in TEXTS.values() for link in LINK.findall(text)}
    assert {path.name for path in pictures} <= links


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    links = [link for link in LINK.findall(TEXTS[page]) if not re.match(r"https?:", link)]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (PAGES[page].parent / name).resolve() if name else PAGES[page]
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", PAGES)
def test_every_file_named_exists(page: str) -> None:
    places = "sivt_lightning|configs|benchmarks|docs|tests"
    named = {file for code in inline(TEXTS[page]) for file in re.findall(rf"(?:^|\s)((?:{places})/[\w/.*]+)", code)}
    assert {name for name in named if not list(REPOSITORY.glob(name.replace("NAME", "*").removesuffix("/")))} == set()


def test_the_page_of_the_architecture_names_every_room_and_no_file_that_is_not_there() -> None:
    package, text = REPOSITORY / "sivt_lightning", TEXTS["docs/architecture.md"]
    named = {code for code in inline(text) if re.fullmatch(r"[\w/]+(/|\.py)", code)}
    assert {name for name in named if not any((place / name).exists() for place in (package, REPOSITORY))} == set()
    rooms = {f"{path.name}/" if path.is_dir() else path.name for path in package.iterdir()}
    assert rooms - {"__init__.py", "__main__.py", "__pycache__/", "py.typed"} <= named


def test_the_page_of_settings_is_what_its_script_writes() -> None:
    settings = script("docs/settings.py")
    assert doctest.testmod(settings).attempted
    assert doctest.testmod(settings).failed == 0
    assert settings.page() == TEXTS["docs/settings.md"]
