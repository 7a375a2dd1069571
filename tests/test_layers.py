"""The architecture: packages in the order of the data's way, no circles, general code names no member."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# a package imports from the lines above its own, and from itself
ORDER = """
    errors
    runtime
    spec
    metrics rl
    plots tracking
    data
    tasks
    models training config
    analysis comparison
    experiment pages
    inference sweeps
    commands api
    train predict evaluate inspect compare rerun report export runs sweep __main__
"""
LEVEL = {name: level for level, line in enumerate(ORDER.split("\n")) for name in line.split()}
# libraries that one place knows
ONLY_IN = {
    "mlflow": {"tracking", "inference", "runtime"},
    "matplotlib": {"plots"},
    "hydra": {"config", "experiment", "sweeps", "commands", "runtime"},
    "omegaconf": {"config", "experiment", "sweeps", "commands"},
}
FILES = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in sorted((ROOT / "src").rglob("*.py"))}
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}


def package(path: Path) -> str:
    return path.parts[1].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of all imports of a file, also those inside functions."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_follow_the_order(path: Path) -> None:
    own = package(path)
    for name in imported(FILES[path]):
        top, *rest = name.split(".")
        if top == "src" and rest and own != "__init__":
            assert rest[0] == own or LEVEL[rest[0]] < LEVEL[own], f"{own} may not import {name}"
        for library, places in ONLY_IN.items():
            assert top != library or own in places, f"{library} is imported in {own}, allowed in {places}"


def test_every_package_has_its_place() -> None:
    assert {package(path) for path in FILES} - {"__init__"} == set(LEVEL)


def test_no_circle_of_files() -> None:
    """Imports inside functions count: a circle that is put off is a circle."""
    graph = {}
    for name, path in MODULES.items():
        targets = {one if one in MODULES else one.rpartition(".")[0] for one in imported(FILES[path])}
        lazily = _type_checking(FILES[path])
        graph[name] = {one for one in targets if one in MODULES and one != name and one not in lazily}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def _type_checking(tree: ast.AST) -> set[str]:
    """Modules that are imported for annotations alone."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            names |= {one for name in imported(node) for one in (name, name.rpartition(".")[0])}
    return names


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_open_with_their_purpose(path: Path) -> None:
    assert ast.get_docstring(FILES[path]), "the first line states the file's purpose"
