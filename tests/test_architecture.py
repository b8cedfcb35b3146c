"""The rules of who may import whom, and that importing the package stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sivt_lightning"
FILES = sorted(PACKAGE.rglob("*.py"))
PARTS = {"model", "loss", "scoring", "metrics", "data", "report"}
LIGHTNING = {"module", "data.datamodule", "callbacks", "cli"}
WIRING = {
    "cli",
    "module",
    "callbacks",
    "predictor",
    "export",
    "benchmark",
    "compare",
    "experiment",
    "serve",
    "__main__",
}
LEAVES = {"errors", "distance", "seeding", "allocator", "precision"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_layers(path: Path) -> None:
    name = module_name(path)
    part = name.split(".")[0]
    for imported in imports(path):
        if imported.split(".")[0] in {"lightning", "pytorch_lightning"}:
            assert any(name == allowed or name.startswith(f"{allowed}.") for allowed in LIGHTNING), name
        if not imported.startswith("sivt_lightning."):
            continue
        other = imported.removeprefix("sivt_lightning.").split(".")[0]
        if other == part or other in LEAVES or part in WIRING:
            continue
        assert part not in LEAVES, f"{name} imports {imported}: it is below everything"
        allowed = name == "model.detector" and other == "scoring"
        assert allowed or not (part in PARTS and other in PARTS), f"{name} imports {imported}"


def test_importing_the_package_does_not_import_lightning_or_torch() -> None:
    code = "import sys, sivt_lightning; assert not {'lightning', 'torch'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)
