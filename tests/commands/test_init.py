"""A project of one's own, from an empty folder: in real processes that start in it and below it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src.errors import UserError
from tests.config.test_cli import completions, installed
from tests.conftest import ROOT
from tests.own_project import QUICK, Project

SMALL = "_target_: mylab.models.small.Small"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    place = tmp_path_factory.mktemp("place")
    made = Project(place).run("init", "mylab")
    assert made.returncode == 0 and "next: cd mylab && python -m src.train experiment=first" in made.stdout, made.stderr
    return Project(place / "mylab")


def test_its_recipe_trains_from_any_folder_below_and_its_runs_lie_in_its_root(project: Project) -> None:
    (project.folder / "notes" / "old").mkdir(parents=True)
    done = project.run("train", "experiment=first", "trainer.max_epochs=12", "threads=1", at="notes/old")
    assert done.returncode == 0 and "Small on Rings: classification" in done.stdout, done.stderr
    assert (project.folder / "mlflow.db").is_file() and not (project.folder / "notes" / "old" / "mlflow.db").exists()
    assert f"{project.folder}/mlflow.db" in done.stdout  # the hint opens this store
    evaluated = project.run("evaluate", "run=last", "resamples=0")  # its own code needs no trust=
    assert evaluated.returncode == 0 and "to the last bit" in evaluated.stdout, evaluated.stderr


def test_its_files_are_known_beside_the_built_in_ones(project: Project) -> None:
    typo = project.run("train", "model=smal")
    assert (typo.returncode, typo.stderr) == (2, "error: model=smal: there is no such model (did you mean small?)\n")
    shown = project.run("train", "--help").stdout
    assert "small" in shown and "rings" in shown and "first" in shown and "cnn" in shown
    fits = project.run("inspect", "data=rings", "output=null")
    assert fits.returncode == 0 and "small (classification)" in fits.stdout.replace("fnn, ", ""), fits.stderr


def test_its_own_tests_pass(project: Project) -> None:
    command = [sys.executable, "-m", "pytest", "-q"]
    done = subprocess.run(command, cwd=project.folder, env=project.env, capture_output=True, text=True)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["My-lab"], "name=My-lab: the name of a package: small letters, digits and _, such as my_lab"),
        (["class"], "name=class: the name of a package: small letters, digits and _, such as mylab"),
        (["torch"], "name=torch: there is a package of that name already, which yours would hide"),
        (["conf"], "name=conf: a project has a folder conf/ beside its package, such as mylab"),
        (["data"], "name=data: a project has a folder data/ beside its package, such as mylab"),
        (["src"], "name=src: there is a package of that name already, which yours would hide"),
        (["mylab", "path=/proc/mylab"], "path=/proc/mylab cannot be written: No such file or directory"),
        (["mylab", "path=/dev/null/x"], "path=/dev/null/x cannot be written: Not a directory"),
        ([], "name: has no default, give one: name=... [conf/init.yaml, line 9]"),
    ],
)
def test_what_cannot_be_a_project_is_one_line(tmp_path: Path, arguments: list[str], line: str) -> None:
    done = Project(tmp_path).run("init", *arguments)
    assert (done.returncode, done.stderr) == (2, f"error: {line}\n") and not any(tmp_path.iterdir())


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "thesis.txt").write_text("all of it")
    done = Project(tmp_path).run("init", "mylab")
    assert done.returncode == 2 and "is there and not empty: path=OTHER" in done.stderr
    assert [file.name for file in (tmp_path / "mylab").iterdir()] == ["thesis.txt"]


def test_a_project_lies_in_no_other_one(project: Project) -> None:
    done = project.run("init", "other", at="tests")
    line = (
        f"error: path={project.folder}/tests/other lies in the project {project.folder}: path=OTHER makes one beside it"
    )
    assert (done.returncode, done.stderr.strip()) == (2, line) and not (project.folder / "tests" / "other").exists()


def test_an_empty_folder_becomes_the_project_and_a_plain_one_of_its_name_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "mylab").mkdir()
    command = [sys.executable, "-m", "src.init", "mylab"]  # which looks for packages in this folder too
    env = Project(tmp_path).env
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "next: cd mylab && " in done.stdout, done.stderr
    (tmp_path / "empty").mkdir()
    done = Project(tmp_path / "empty").run("init", "other", "path=.")
    assert done.returncode == 0 and "next: python -m src.train experiment=first" in done.stdout, done.stderr


def test_what_was_written_before_a_failure_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src.commands import init

    templates = shutil.copytree(init.TEMPLATES, tmp_path / "templates")
    (templates / "tests" / "z.txt").mkdir()  # the last one, which cannot be read
    monkeypatch.setattr(init, "TEMPLATES", templates)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    for path in (None, "there", "not/there"):
        with pytest.raises(UserError, match="cannot be written: Is a directory"):
            init.init(OmegaConf.create({"name": "mylab", "path": path}))
    assert not (tmp_path / "mylab").exists() and not any((tmp_path / "there").iterdir())


def test_the_next_command_works_where_only_the_checkout_itself_has_the_code(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", checkout / "conf")
    shutil.copytree(ROOT / "experiments", checkout / "experiments")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    env = Project(tmp_path).env
    del env["PYTHONPATH"]

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        # -S: no site-packages, in which this project may be installed
        wrapper = (
            "import sys, runpy, os; sys.argv.pop(0); runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
        )
        libraries = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        command = [sys.executable, "-S", "-c", f"import sys; sys.path += {libraries!r}; {wrapper}", *arguments]
        return subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)

    made = python("src.init", "mylab")
    assert "next: LABBOOK_PROJECT=mylab python -m src.train experiment=first" in made.stdout, made.stderr
    env["LABBOOK_PROJECT"] = "mylab"
    shown = python("src.train", "experiment=first", "--cfg", "job")
    assert "_target_: mylab.models.small.Small" in shown.stdout, shown.stderr


def test_a_fresh_clone_has_all_that_its_recipe_needs(project: Project, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project.folder, copy, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns", "notes"))
    Project(copy).git("init", "-q")
    Project(copy).git("add", "-A")
    Project(copy).git("commit", "-qm", "first")
    clone = Project(tmp_path / "clone" / "mylab")
    clone.folder.parent.mkdir()
    Project(tmp_path).git("clone", "-q", str(copy), str(clone.folder))
    done = clone.run("train", "experiment=first", *QUICK)
    assert done.returncode == 0, done.stderr
    assert clone.git("status", "--short") == ""  # its store is not for git


def test_its_files_complete_on_the_command_line(project: Project, tmp_path: Path) -> None:
    (project.folder / "notes").mkdir(exist_ok=True)
    for script, module, start in (("labbook", "src.__main__", "train "), ("labbook-train", "src.train", "")):
        environment = installed(tmp_path, script, module)
        lines = [f"{start}model=", f"{start}experiment=", f"{start}model=small model.hid"]
        for folder in (project.folder, project.folder / "notes"):
            models, recipes, options = completions(folder, environment, script, lines)
            assert {"model=small", "model=cnn"} <= set(models) and "experiment=first" in recipes
            assert options == ["model.hidden="]


def test_a_file_of_the_project_stands_before_a_built_in_one(project: Project) -> None:
    own = project.folder / "conf" / "model" / "cnn.yaml"
    own.write_text("_target_: mylab.models.small.Small\nhidden: 5\n")
    shown = project.run("train", "model=cnn", "--cfg", "job").stdout
    own.unlink()
    assert "_target_: mylab.models.small.Small" in shown and "hidden: 5" in shown
    assert "_target_: src.models.CNN" in project.run("train", "model=cnn", "--cfg", "job").stdout


@pytest.mark.parametrize(
    ("file", "text", "argument", "line"),
    [
        ("conf/model/bad.yaml", "a: [1\nb: 2\n", "model=bad", "conf/model/bad.yaml, line 2, column 2: "),
        ("conf/model/bad.yaml", f"{SMALL[:-1]}\n", "model=bad", "mean Small?) [conf/model/bad.yaml, line 1]"),
        ("conf/model/bad.yaml", f"{SMALL}\nhiden: 2\n", "model=bad", "mean hidden?) [conf/model/bad.yaml, line 2]"),
        ("experiments/a/bad.yaml", "trainer: {max_epoch: 2}\n", "experiment=a/bad", "[experiments/a/bad.yaml, line 1]"),
    ],
)
def test_a_mistake_in_a_file_of_the_project_names_it(
    project: Project, file: str, text: str, argument: str, line: str
) -> None:
    project.write(file, text)
    done = project.run("train", argument)
    (project.folder / file).unlink()
    assert done.returncode == 2 and line in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[tool.labbook]\npackages = 'mylab'\n", 'tool.labbook.packages expects a list of names, such as ["mylab"]'),
        ("[tool.labbook]\nimport = [1]\n", 'tool.labbook.import expects a list of names, such as ["mylab"]'),
        ("[tool.labbook]\nimport = ['mylab.no']\n", "tool.labbook.import: mylab.no: ModuleNotFoundError: No module"),
        ("[tool.labbook]\n[tool\n", "pyproject.toml: Expected ']'"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    done = Project(tmp_path).run("inspect", "data=iris", "output=null")
    assert done.returncode == 2 and line in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_the_variable_names_the_project_from_anywhere(project: Project, tmp_path: Path) -> None:
    there = Project(tmp_path, LABBOOK_PROJECT=str(project.folder))
    assert "hidden: 32" in there.run("train", "experiment=first", "--cfg", "job").stdout
    none = Project(project.folder, LABBOOK_PROJECT="")
    assert "there is no such model" in none.run("train", "model=small").stderr
    wrong = Project(project.folder, LABBOOK_PROJECT=str(tmp_path))
    done = wrong.run("train", "model=cnn")
    line = f"error: LABBOOK_PROJECT={tmp_path}: there is no pyproject.toml, so it is no project"
    assert (done.returncode, done.stderr.strip()) == (2, line)


def test_a_model_is_a_file_and_its_yaml(project: Project) -> None:
    text = (project.folder / "mylab/models/small.py").read_text().replace("class Small", "class Other")
    project.write("mylab/models/other.py", text)
    project.write("conf/model/other.yaml", "# Another.\n_target_: mylab.models.other.Other\nhidden: 4\n")
    assert "other" in project.run("train", "--help").stdout
    done = project.run("train", "model=other", "data=iris", *QUICK)
    assert done.returncode == 0 and "Other on " in done.stdout, done.stderr
