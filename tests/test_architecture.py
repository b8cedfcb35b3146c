"""Who may import whom: every edge between two parts of the package is on a list, and a breach in any form is caught."""

import ast
import functools
import importlib
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sivt_lightning"
NAME = PACKAGE.name
SCRIPTS = sorted(file for folder in ("benchmarks", "docs") for file in (PACKAGE.parent / folder).glob("*.py"))

# What a part, or one module of it, may import: other parts, "lightning", and "?" for names known only as it runs.
ALLOWED = {
    "__init__": "errors inference ?",  # loads what it is asked for
    "__main__": "cli",
    "benchmark": "data errors features inference model seeding system training",
    "check": "data errors files inference model report seeding",
    "cli": "errors files",
    "cli.__init__": "?",  # the file of a command
    "cli.benchmark": "benchmark data inference report training",
    "cli.calibrate": "data inference state",
    "cli.check": "data golden report",
    "cli.compare": "evaluation report",
    "cli.data": "data inference state",
    "cli.data_check": "check data inference report",
    "cli.demo_data": "data",
    "cli.experiment": "data experiment",
    "cli.export": "export inference",
    "cli.fit": "inference lightning system training",
    "cli.lightning_hooks": "lightning",
    "cli.lightning_cli": "data inference lightning model training",
    "cli.photo_table": "data lightning report",
    "cli.serve": "serve state system",
    "cli.verdict_options": "data inference",
    "cli.watch": "secret system watch",
    "cli.trained": "data evaluation inference lightning prediction_files training",
    "data": "errors seeding",
    "data.layouts.listed": "files",
    "data.lists": "files",
    "data.datamodule": "features lightning",
    "data.kept": "features",
    "data.loaders": "features system",
    "data.roi": "processes",
    "data.survey": "processes",
    "data.tiled": "processes",
    "evaluation": "data errors evaluation.metrics files inference prediction_files processes report",
    "evaluation.callback": "lightning",
    "evaluation.comparison": "model",
    "evaluation.labelled_report": "model",
    "evaluation.trained_model": "lightning model",
    "experiment": "data errors files inference model report",
    "export": "errors files inference model ?",  # ? packages of a format
    "features": "errors processes system",
    "features.key": "inference model",
    "files": "errors",
    "golden": "errors files inference system",
    "inference": "errors model",
    "inference.about": "data",
    "inference.calibrated": "files",
    "inference.good_photos": "data state",
    "inference.marked_photos": "data state",
    "inference.photo_lists": "data files state",
    "inference.inspection": "data",
    "inference.photos": "data",
    "inference.prediction": "data",
    "inference.predictor": "data system",
    "inference.recalibration": "data",
    "inference.runtimes": "?",  # the package of a format
    "inference.side_car": "data",
    "inference.thresholds": "data",
    "model": "errors seeding",
    "model.detector": "model.scoring",
    "model.scoring": "model",
    "prediction_files": "data errors files inference processes report system",
    "prediction_files.progress_bar": "lightning",
    "prediction_files.writer": "lightning",
    "processes": "errors",
    "report": "files",
    "secret": "errors",
    "serve": "data errors files inference secret state system",
    "serve.front_page": "report",
    "state": "database errors files",
    "state.kept_parts": "data",
    "state.reading": "data",
    "watch": "data database errors files inference",
    "training": "data errors evaluation.metrics features files inference lightning model processes report seeding",
}
WITHIN = ("evaluation.metrics", "model.scoring")  # parts that lie in another one, and are apart all the same
APART = {"model", "evaluation.metrics", "data", "report"}  # import none of one another
WITHOUT_LIGHTNING = (
    "cli data.dataset evaluation.comparison evaluation.metrics.ranking files inference.drifts inference.predictor "
    "model.detector report.page serve.app"
)


def module_of(path: Path, package: Path) -> str:
    """Its name within the package, "model.__init__" for a folder's own."""
    return ".".join(path.relative_to(package).with_suffix("").parts)


def part_of(module: str) -> str:
    """The part that a module belongs to, or "__init__" for the package itself."""
    inner = [part for part in WITHIN if module == part or module.startswith(f"{part}.")]
    return inner[0] if inner else module.split(".")[0] or "__init__"


@functools.cache
def imported(code: str, here: tuple[str, ...]) -> set[str]:
    """Full names of all that code in a folder imports, however it does; "?" for one not known before it runs."""
    return set(_imported(code, here))


def _imported(code: str, here: tuple[str, ...]) -> Iterator[str]:
    nodes = list(ast.walk(ast.parse(code)))
    aliases = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    loaders = {"__import__", "import_module", *(a.asname for a in aliases if a.name == "import_module")}
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), here)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in loaders:
            given = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "name")]
            known = [part.value for part in given if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            yield _absolute(known[0], here) if known else "?"
        elif isinstance(node, ast.Constant) and re.fullmatch(rf"{NAME}(\.\w+)+", str(node.value)):
            yield str(node.value)  # for whatever takes a module by its name


def _absolute(name: str, here: tuple[str, ...]) -> str:
    """The full name of a module that may be named relative to a folder."""
    inner = name.lstrip(".")
    up = len(name) - len(inner)
    return ".".join([*here[: len(here) - up + 1], *([inner] if inner else [])]) if up else name


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def edges(package: Path) -> set[tuple[str, str]]:
    """(module, part of the package that it imports), and (module, "lightning")."""
    drawn = set()
    for path in package.rglob("*.py"):
        module = module_of(path, package)
        here = (NAME, *path.relative_to(package).parent.parts)
        for name in imported(path.read_text(encoding="utf-8"), here):
            first, _, rest = name.partition(".")
            if first == NAME:
                if part_of(rest) != part_of(module):
                    drawn.add((module, part_of(rest)))
            elif first in ("lightning", "pytorch_lightning", "lightning_fabric"):
                drawn.add((module, "lightning"))
            elif first == "?":
                drawn.add((module, "?"))
    return drawn


def allowances() -> set[tuple[str, str]]:
    return {(importer, part) for importer, parts in ALLOWED.items() for part in parts.split()}


def covers(allowance: tuple[str, str], edge: tuple[str, str]) -> bool:
    importer, module = allowance[0], edge[0]
    return allowance[1] == edge[1] and (module == importer or module.startswith(f"{importer}."))


def breaches(package: Path) -> list[tuple[str, str]]:
    """Edges that are not on the list, and entries of the list that no edge needs."""
    drawn, listed = edges(package), allowances()
    unlisted = [edge for edge in drawn if not any(covers(entry, edge) for entry in listed)]
    unneeded = [entry for entry in listed if not any(covers(entry, edge) for edge in drawn)]
    return sorted(unlisted + unneeded)


def test_every_import_is_on_the_list_and_every_entry_is_needed() -> None:
    assert breaches(PACKAGE) == []


def test_the_list_keeps_the_rules() -> None:
    for importer, part in allowances():
        assert not {part_of(importer), part} <= APART, f"{importer} imports {part}"
        assert part != "model.scoring" or importer == "model.detector", f"{importer} imports {part}"
        assert importer != "errors"


def planted_in(copy: Path) -> set[tuple[str, str]]:
    """Breaches of a copy that the package itself, where it has any, does not have."""
    return {*breaches(copy)} - {*breaches(PACKAGE)}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / NAME, ignore=shutil.ignore_patterns("__pycache__", "page")))


@pytest.mark.parametrize(
    ("planted", "part"),
    [
        ("from sivt_lightning.report.tables import FIGURES", "report"),
        ("from sivt_lightning.report import tables", "report"),
        ("from sivt_lightning import report", "report"),
        ("from sivt_lightning import *", "*"),
        ("import sivt_lightning", "__init__"),
        ("import sivt_lightning.report.tables as tables", "report"),
        ("import math, sivt_lightning.report", "report"),
        ("from ..report import tables", "report"),
        ("from ..report.tables import FIGURES as names", "report"),
        ("from .. import report", "report"),
        ("def late():\n    from sivt_lightning import report", "report"),
        ("try:\n    from ..report import tables\nexcept ImportError:\n    pass", "report"),
        ("import importlib\nimportlib.import_module('sivt_lightning.report')", "report"),
        ("from importlib import import_module\nimport_module('..report', __package__)", "report"),
        ("from importlib import import_module as load\nload(name='..report', package=__package__)", "report"),
        ("__import__('sivt_lightning.report')", "report"),
        ("import pkgutil\npkgutil.resolve_name('sivt_lightning.report')", "report"),
        ("import importlib\nimportlib.import_module('sivt_' + 'lightning.report')", "?"),
        ("from sivt_lightning.model.scoring import anomaly_map", "model.scoring"),
        ("from sivt_lightning.model import scoring", "model.scoring"),
        ("from sivt_lightning.evaluation.metrics.ranking import PixelRanking", "evaluation.metrics"),
        ("import lightning", "lightning"),
        ("from lightning.pytorch import Trainer", "lightning"),
        ("import pytorch_lightning as pl", "lightning"),
    ],
)
def test_a_breach_is_caught(planted: str, part: str, copy: Path) -> None:
    file = copy / "model" / "partition.py"
    file.write_text(f"{file.read_text()}\n\n{planted}\n")
    assert planted_in(copy) == {("model.partition", part)}


def test_a_new_module_has_to_be_listed(copy: Path) -> None:
    (copy / "extra").mkdir()
    (copy / "extra" / "deep.py").write_text("from ..errors import SIVTError\n")
    assert planted_in(copy) == {("extra.deep", "errors")}


def test_an_entry_that_nothing_needs_any_more_is_caught(copy: Path) -> None:
    file = copy / "model" / "scoring.py"
    file.write_text(re.sub(r"from sivt_lightning\.model\..*", "", file.read_text()))
    assert planted_in(copy) == {("model.scoring", "model")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_take_from_the_package_what_is_there(script: Path) -> None:
    """No test runs them all."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("sivt_lightning"):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_no_two_files_have_one_name() -> None:
    names = Counter(path.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_importing_the_package_does_not_import_lightning_or_torch() -> None:
    code = "import sys, sivt_lightning; assert not {'lightning', 'torch'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_works_without_training_does_not_import_lightning() -> None:
    code = f"""
import importlib, sys
for name in {WITHOUT_LIGHTNING.split()}:
    importlib.import_module("sivt_lightning." + name)
    assert "lightning" not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True)
