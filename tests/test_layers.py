"""The architecture: packages in the order of the data's way, no circles, general code names no member."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import re
from collections.abc import Iterator
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
    models config
    training
    analysis comparison
    experiment pages
    inference sweeps
    commands
    api
    train predict evaluate inspect compare rerun report export runs sweep init __main__
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


# general code names no member -----------------------------------------------------------------------------------------

KNOWS_MEMBERS = {"spec", "data", "tasks", "models"}  # packages
# words that are a member's name and mean something else there
OTHER_MEANINGS = {
    "src/commands/compare.py": {"table"},  # a form of output
    "src/commands/rerun.py": {"environment"},  # of a run: versions of packages
    "src/config/composition.py": {"text"},  # an option of predict
    "src/config/validate.py": {"text"},  # a kind of value
    "src/inference/answers/language.py": {"text"},  # a column
    "src/metrics/modes.py": {"reconstruction"},  # a metric
    "src/tracking/writer/prefork.py": {"environment"},  # of a process
    "src/training/callbacks/log_texts.py": {"table"},  # a part of the callback's state
}
GENERAL = [path for path in FILES if package(path) not in KNOWS_MEMBERS]


def literals(node: ast.AST | None) -> Iterator[str]:
    """Texts that stand in an expression as they are, or in a tuple, a list or a set of it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for element in node.elts:
            yield from literals(element)
    elif isinstance(node, ast.Starred):
        yield from literals(node.value)


def registered(folder: Path) -> dict[str, Path]:
    """Tasks that the files of a folder register, by name."""
    found = {}
    for path in (path for path in FILES if (ROOT / path).is_relative_to(folder)):
        for node in (node for node in ast.walk(FILES[path]) if isinstance(node, ast.ClassDef)):
            for call in (call for call in node.decorator_list if isinstance(call, ast.Call)):
                if isinstance(call.func, ast.Name) and call.func.id == "register_task":
                    found |= dict.fromkeys(literals(call.args[0]), path)
    return found


def modalities() -> set[str]:
    """Names that the classes of src/spec give themselves."""
    return {
        name
        for path in FILES
        if package(path) == "spec"
        for node in ast.walk(FILES[path])
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "modality"
        for name in literals(node.value)
        if name
    }


MEMBER_SPECS = {
    node.name
    for path in FILES
    if package(path) == "spec"
    for node in ast.walk(FILES[path])
    if isinstance(node, ast.ClassDef)
    and {ast.unparse(base) for base in node.bases} & {"InputSpec", "TokenizedSpec", "ImageSpec", "TargetSpec", "Labels"}
}
TASKS = registered(ROOT / "src" / "tasks")
NAMES = TASKS.keys() | modalities()


def containers(trees: list[ast.Module]) -> set[str]:
    """Names of what is asked with `in`."""
    return {
        place.id
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for operator, place in zip(node.ops, node.comparators, strict=True)
        if isinstance(operator, ast.In | ast.NotIn) and isinstance(place, ast.Name)
    }


ASKED = containers(list(FILES.values()))


def asked(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of what something is compared with or looked up by, and of defaults of options."""
    for node in ast.walk(tree):
        places: list[ast.AST | None] = []
        if isinstance(node, ast.Compare):
            places = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            places = [*node.keys]
        elif isinstance(node, ast.MatchValue):
            places = [node.value]
        elif isinstance(node, ast.arguments):
            places = [*node.defaults, *node.kw_defaults]
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in ASKED for t in node.targets):
            places = [node.value]
        for place in places:
            yield from ((node.lineno if hasattr(node, "lineno") else 0, text) for text in literals(place))


def test_members_are_known() -> None:
    assert {"classification", "detection", "ranking", "control", "seq2seq"} < TASKS.keys()
    assert modalities() >= {"table", "image", "audio", "text", "text_pairs", "series", "interactions", "environment"}
    tree = ast.parse('KINDS = ("detection",)\nif a in KINDS or b == "image": x = {"text": 1}\ndef f(kind="audio"): ...')
    KINDS = containers([tree])
    assert {"KINDS"} == KINDS
    assert {text for _, text in asked(tree)} == {"image", "text", "audio"}


@pytest.mark.parametrize("path", GENERAL, ids=str)
def test_general_code_names_no_member(path: Path) -> None:
    """Tasks and modalities bring what general code asks of them: views, answers, abilities, protocols."""
    others = OTHER_MEANINGS.get(str(path), set())
    found = [f"line {line}: {text}" for line, text in asked(FILES[path]) if text in NAMES - others]
    assert not found, f"a member's name decides what is done: {'; '.join(found)}"


@pytest.mark.parametrize("path", [path for path in FILES if package(path) not in KNOWS_MEMBERS], ids=str)
def test_general_code_asks_for_no_spec_of_a_modality_or_a_target(path: Path) -> None:
    """What depends on the modality of data is asked of `src.data.core.modality.modality_of(spec)`."""
    answers_one_task = path.parts[1:3] == ("inference", "answers")
    found = [name for name in imported(FILES[path]) if name.startswith("src.spec.")]
    named = {name.rpartition(".")[2] for name in found} & MEMBER_SPECS
    assert answers_one_task or not named, f"imports {', '.join(named)}"


@pytest.mark.parametrize("path", GENERAL, ids=str)
def test_general_code_looks_for_no_attribute_of_a_member(path: Path) -> None:
    """What only some models, data, tasks or specs can is a protocol, asked for with isinstance."""
    if path.parts[1:3] == ("runtime", "compat"):
        return  # which asks other libraries for what they may have
    member = re.compile(r"\b(\w*model|data|\w*module|task|spec|net|family)\b")
    for node in ast.walk(FILES[path]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            looks = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
            assert not (looks and member.search(ast.unparse(node.args[0]))), f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", [path for path in FILES if package(path) == "tasks"], ids=str)
def test_a_task_names_no_other(path: Path) -> None:
    own = {name for name, place in TASKS.items() if place.parent == path.parent}
    found = [f"line {line}: {text}" for line, text in asked(FILES[path]) if text in TASKS.keys() - own]
    assert not found, "; ".join(found)


def test_words_that_mean_something_else_are_there() -> None:
    for name in OTHER_MEANINGS:
        texts = {text for _, text in asked(FILES[Path(name)])} & NAMES
        assert OTHER_MEANINGS[name] <= texts, f"{name} has no such word: take it out"


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=str)
def test_a_package_gives_out_nothing_else_by_the_name_of_one_of_its_modules(path: Path) -> None:
    """`import src.config.x as x` would be another thing than the module, and which one by the order of imports."""
    found = importlib.import_module(".".join(path.parent.parts))
    modules = {place.stem for place in (ROOT / path.parent).glob("*") if place.suffix == ".py" or place.is_dir()}
    for name in modules & set(getattr(found, "__all__", ())):
        assert inspect.ismodule(getattr(found, name)), name
