"""Documentation: links lead somewhere, console blocks compose, the README stays short, the searched words are found."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from src.config import compose, recipes
from src.data.core.modality import modality_of
from src.errors import UserError
from src.spec import Number
from src.tasks import registry

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "experiments" / "README.md",
]
COMMANDS = ("train", "predict", "evaluate", "inspect", "compare", "rerun", "report", "export", "runs", "sweep", "init")
OWN_PAGES = [ROOT / "docs" / "your-own-model.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
LONGEST_CELL = 300  # characters
# what readers look for
WORDS = (
    *("leakage", "reproduce", "resume", "fine-tune", "transfer learning", "hyperparameter", "calibration"),
    *("cross-validation", "checkpoint", "early stopping", "troubleshooting", "licence"),
)
# options that had another name; they may stand in the table of renamed options only
FORMER = ("data.unseen_classes", "least_score=", "draw=", "again=true", "pictures=", "texts=3", "part=val", "top=")

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def prose(text: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^(```.*?^```$|(?: {4}[^\n]*\n)+)", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(path.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[tuple[str, list[str], str]]:
    """Each command of a page's console and shell blocks: its name, its arguments, and the line of output after it."""
    for kind, block in re.findall(r"^```(console|sh)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        lines = re.sub(r" *\\\n *", " ", block).splitlines()
        for number, line in enumerate(lines):
            words = line.removeprefix("$ ") if kind == "console" and line.startswith("$ ") else line
            if (kind == "console") != line.startswith("$ "):
                continue  # output
            found = re.match(r"(?:labbook|python -m src\.)\s*(\w+)(.*)", words)
            if found:
                answer = lines[number + 1] if number + 1 < len(lines) else ""
                yield found[1], shlex.split(found[2], comments=True), answer


def documented() -> list[tuple[Path, str, list[str], str]]:
    """Commands of all pages but those about a project of the reader's own, for which see test_own_pages.py."""
    pages = [path for path in PAGES if path not in OWN_PAGES]
    return [(path, *command) for path in pages for command in commands(path.read_text(encoding="utf-8"))]


def composable(name: str, arguments: list[str]) -> list[str]:
    """A documented command's arguments as those of a configuration."""
    given = [argument for argument in single(arguments) if argument != "..."]
    if name in ("runs", "sweep"):  # an action and a run or sweep stand first
        action, *rest = given or ["list"]
        named = ["run" if name == "runs" else "sweep"] * (bool(rest) and "=" not in rest[0])
        given = [f"action={action}", *(f"{key}={rest.pop(0)}" for key in named), *rest]
    if name == "init":
        given = [f"name={given[0]}", *given[1:]]
    if name == "train" and any(argument.startswith("resume=") for argument in given):
        given = [argument for argument in given if not argument.startswith("resume=")]  # its options are the run's own
    if name == "rerun":
        given = [argument for argument in given if argument.startswith(("run=", "verify=", "here="))]
    return given


def single(arguments: list[str]) -> list[str]:
    """A sweep's arguments as those of its first job."""
    if "-m" not in arguments:
        return arguments
    kept = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if argument == "-m" or key.startswith(("hydra", "study")) or key in ("repeats", "folds"):
            continue
        choices = re.match(r"tag\(log,interval\(([^,]+),|range\((\d+)|([^,\[]+),", value)
        kept.append(f"{key}={next(filter(None, choices.groups()))}" if choices else argument)
    return kept


# the README -----------------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 160


def test_the_readme_names_the_commands_that_set_up() -> None:
    text = README.read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = re.findall(r"\bmake (\w+)", text)
    assert {"train", "test"} <= set(named) <= set(targets)
    assert "python -m src.train model=cnn" in text


def test_the_readme_lists_the_extras_that_there_are() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    table = re.search(r"^\| extra \| for \|\n(.*?)\n\n", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert table is not None
    listed = {name for row in table[1].splitlines()[1:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert listed == set(project["optional-dependencies"]) - {"build"}


def test_the_readme_says_that_there_is_no_licence_yet() -> None:
    assert bool(re.search("No licence", README.read_text(encoding="utf-8"))) != (ROOT / "LICENSE").exists()


# every page -----------------------------------------------------------------------------------------------------------


@page
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


@page
def test_a_table_can_be_read(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("|"):
            assert max(map(len, line.split("|"))) <= LONGEST_CELL, number


@page
def test_tables_have_as_many_cells_in_each_row(path: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", prose(path.read_text(encoding="utf-8")), flags=re.MULTILINE):
        rows = [re.sub(r"`[^`]*`", "", line).count("|") for line in table.splitlines()]
        assert len(set(rows)) == 1, table


@page
def test_files_that_are_named_exist(path: Path) -> None:
    text = prose(path.read_text(encoding="utf-8"))
    places = re.findall(r"`((?:src|conf|tests|benchmarks|docs|experiments|scripts)/[\w/.\-]+)`", text)
    for place in places:
        if path not in OWN_PAGES and not re.search(
            r"/[A-Z]+\b|counting|pointcloud|linear|coins", place
        ):  # placeholders and examples
            assert (ROOT / place).exists(), place


@page
def test_no_place_of_a_machine_is_named(path: Path) -> None:
    assert not re.search(r"(?<![\w.])/(work|root|home|tmp|Users)/", path.read_text(encoding="utf-8"))


@page
def test_former_names_are_gone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = [name for name in FORMER if re.search(rf"(?<![\w.]){re.escape(name)}", text)]
    assert not found
    assert not re.search("foretell|foretold", text)


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*"):
        if path.suffix in (".md", ".ipynb") and path.name != "README.md":
            assert f"({path.relative_to(ROOT / 'docs').as_posix()}" in index, path.name


def test_what_readers_search_for_is_found() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES[:-1]).lower()
    assert not [word for word in WORDS if word not in text]


def test_the_reference_names_every_choice() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    groups = ("model", "data", "optimizer", "scheduler", "trainer", "study", "tracking", "hydra/launcher", "callbacks")
    for group in groups:
        for name in recipes.names(group):
            assert f"`{name}`" in text, f"{group}={name}"


def test_the_results_name_recipes_that_exist() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_]+/[a-z0-9_]+|keras_example)`", text))
    folder = ROOT / "experiments"
    assert named and named <= {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")}


# console blocks -------------------------------------------------------------------------------------------------------


def test_every_command_is_met() -> None:
    everywhere = {name for path in PAGES for name, _, _ in commands(path.read_text(encoding="utf-8"))}
    assert everywhere == set(COMMANDS)
    assert {name for path, name, _, _ in documented() if path == README} >= {"train", "predict", "compare"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_entry(name: str) -> None:
    assert importlib.util.find_spec(f"src.{name}") is not None
    assert (ROOT / "conf" / f"{name}.yaml").is_file() and (ROOT / "conf" / f"{name}.txt").is_file()


def test_the_scripts_are_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {"labbook", "labbook-train"} <= set(scripts)


@pytest.mark.parametrize(
    ("path", "name", "arguments", "answer"),
    [pytest.param(*command, id=f"{command[0].name}: {command[1]} {' '.join(command[2])}") for command in documented()],
)
def test_a_documented_command_composes(path: Path, name: str, arguments: list[str], answer: str) -> None:
    given = composable(name, arguments)
    if any(answer.startswith(f"error: {argument.partition('=')[0]}:") for argument in given):
        with pytest.raises(UserError) as refused:
            compose(given, name)
        assert answer == f"error: {refused.value}"
    else:
        compose(given, name)


def test_a_command_that_would_not_compose_is_noticed() -> None:
    with pytest.raises(UserError):
        compose(single(["-m", "model=fnn,cnn", "model.dept=3,4"]))
    lines = ("$ labbook train model=cnn", "out", "$ python -m src.predict run=last \\", "    data.path=a.csv  # rows")
    text = "```console\n" + "\n".join(lines) + "\n```\n"
    assert list(commands(text)) == [
        ("train", ["model=cnn"], "out"),
        ("predict", ["run=last", "data.path=a.csv"], ""),
    ]


# examples -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def forgets_counting() -> Iterator[None]:
    """The task of the example is known while a test runs only."""
    yield
    registry._registered.pop("counting", None)


@pytest.mark.usefixtures("forgets_counting")
def test_the_examples_of_a_model_a_dataset_and_a_task_work() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {"__name__": "example"}
    for block in re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, "CONTRIBUTING.md", "exec"), found)
    data = found["Coins"]()
    data.setup()
    rows = data.head("train", 3)
    assert data.spec.input.feature_names == ("weight", "diameter")
    assert set(modality_of(data.spec).content(rows["input"])[0]) == {"weight", "diameter"}
    model = found["Linear"](data.spec, registry.make_task(data.spec, found["Linear"].tasks))
    assert model(rows["input"]).shape == (3, 1) and model.task.name == "binary"
    counts = replace(data.spec, tasks=("regression",), target=Number(2.0, 1.0))
    task = registry.make_task(counts, ("counting",))
    loss = task.loss(torch.zeros(3, 1), {"target": torch.tensor([0.0, 1.0, 4.0])})
    assert (loss.item(), task.baseline(torch.zeros(2)).tolist()) == (1.0, [2.0, 2.0])


def test_the_configurations_of_the_examples_name_them() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = re.findall(r"^# (src/\S+)\.py$", text, flags=re.MULTILINE)
    targets = re.findall(r"^_target_: (\S+)$", text, flags=re.MULTILINE)
    assert "src.tasks.make_task" in targets and len(targets) == 3
    modules = {place.replace("/", ".") for place in places}
    assert {target.rpartition(".")[0] for target in targets if target != "src.tasks.make_task"} <= modules
