"""A project of one's own, from an empty folder: in real processes that start in it and below it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        self.env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "150"}

    def run(self, entry: str, *arguments: str, at: str = ".") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", f"src.{entry}", *arguments]
        return subprocess.run(command, cwd=self.folder / at, env=self.env, capture_output=True, text=True)


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
        (["My-lab"], "name=My-lab: the name of a package: small letters, digits and _, such as mylab"),
        (["class"], "name=class: the name of a package: small letters, digits and _, such as mylab"),
        (["torch"], "name=torch: there is a package of that name already, which yours would hide"),
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
