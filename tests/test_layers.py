"""The architecture: imports go one way, models and data know neither Hydra nor MLflow, MLflow lives in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# from the bottom up; a file may import from lower layers and from its own package
LAYERS = [
    ["directions", "errors", "imports", "memory", "spec", "randomness"],
    ["text", "environments"],
    ["tasks"],
    ["metrics"],
    ["models", "data", "tracking", "reports", "training", "optimization"],
    ["sweeps"],
    ["config"],
    ["comparison", "earlier"],
    ["experiment", "trained"],
    ["recommending"],
    ["answering"],
    ["inference"],
    ["bookkeeping", "serving"],
    ["evaluation", "inspection", "outlook", "rerunning", "exporting", "drawing", "playing", "notebook"],
    ["reporting"],
    ["train", "predict", "evaluate", "inspect", "compare", "rerun", "runs", "export", "report"],
    ["sweep", "job"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
ONLY_IN = {
    "mlflow": {"tracking", "serving"},
    "hydra": {"config", "evaluation", "experiment", "inspection", "sweeps"},
    "omegaconf": {
        *(
            "answering",
            "bookkeeping",
            "comparison",
            "config",
            "drawing",
            "earlier",
            "experiment",
            "sweeps",
            "evaluation",
            "inference",
            "inspection",
            "playing",
            "rerunning",
        ),
        *(
            "train",
            "predict",
            "evaluate",
            "inspect",
            "sweep",
            "compare",
            "rerun",
            "runs",
            "export",
            "exporting",
            "report",
            "reporting",
        ),
    },
}
FILES = sorted((ROOT / "src").rglob("*.py"))


def part(path: Path) -> str:
    return path.relative_to(ROOT / "src").parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names of all imports of a file, also those inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    own = part(path)
    if own == "__init__":
        assert imports(path) <= {"importlib.import_module", "typing.Any"}
        return
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "src" and rest:
            assert rest[0] == own or LEVEL[rest[0]] < LEVEL[own], f"{own} may not import {name}"
        for library, places in ONLY_IN.items():
            assert top != library or own in places, f"{library} is imported in {own}, allowed in {places}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_open_with_their_purpose(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "the first line states the file's purpose"
