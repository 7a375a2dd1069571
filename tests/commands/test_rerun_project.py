"""Runs of a user's own project in a git repository: which code is recorded, and a run again with its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.own_project import QUICK, Project, new_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one commit, in a folder of a larger repository; and a run of it with uncommitted changes."""
    place = tmp_path_factory.mktemp("place")
    Project(place).git("init", "-q")
    made = new_project(place)
    made.git("add", "-A")
    made.git("commit", "-qm", "first")
    made.write("mylab/extra.py", "SIZE = 3\n")
    done = made.run("train", "experiment=first", *QUICK)
    assert done.returncode == 0, done.stderr
    return made


def slower(project: Project) -> None:
    """Change the model so that figures differ."""
    file = project.folder / "mylab" / "models" / "small.py"
    file.write_text(file.read_text().replace("super().__init__()\n", "super().__init__()\n        torch.rand(1)\n"))
    file.write_text(
        file.read_text().replace("from torch import Tensor, nn", "import torch\nfrom torch import Tensor, nn")
    )


def test_the_commits_of_the_project_and_of_labbook_are_recorded(project: Project) -> None:
    (run,) = project.runs()
    tags, files = run.data.tags, Path(run.info.artifact_uri)
    assert tags["labbook.project"] == "mylab" and tags["mlflow.source.git.commit"] == project.git("rev-parse", "HEAD")
    assert tags["labbook.git_dirty"] == "true" and "SIZE = 3" in (files / "changes.patch").read_text()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert tags["labbook.commit"] == head and tags["labbook.version"].count(".") == 2
    assert (tags["labbook.dirty"] == "true") == (files / "labbook.patch").exists()


def test_a_run_again_has_the_code_of_its_project(project: Project) -> None:
    run = project.runs()[0].info.run_id
    slower(project)
    project.git("add", "-A")
    project.git("commit", "-qm", "second")
    (project.folder / "notes").mkdir(exist_ok=True)
    done = project.run("rerun", f"run={run}", "verify=true", at="notes")
    assert done.returncode == 0, done.stderr
    commit = project.git("rev-parse", "HEAD~1")[:12]
    assert f"with the code of commit {commit}\n" in done.stdout and "identical: " in done.stdout
    again, first = project.runs()
    assert again.data.tags["labbook.project"] == "mylab"
    for name in ("mlflow.source.git.commit", "labbook.commit"):
        assert again.data.tags[name] == first.data.tags[name]
    assert "labbook-code" not in project.git("worktree", "list")
    here = project.run("rerun", f"run={run}", "verify=true", "here=true")
    assert here.returncode == 1 and "the likeliest cause: commit " in here.stderr, here.stderr
    outside = Project(project.folder.parent).run(
        "rerun", f"run={run}", f"tracking.uri=sqlite:///{project.folder}/mlflow.db"
    )
    line = f"error: run {run[:8]} was made in the project mylab: run it again there, or with LABBOOK_PROJECT=FOLDER"
    assert (outside.returncode, outside.stderr.strip()) == (2, line)
