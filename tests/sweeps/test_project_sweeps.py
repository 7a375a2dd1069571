"""Sweeps of a user's own project: wherever launcher and jobs start, they are of that project."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest

from src.sweeps.jobs.ledger import Ledger
from tests.own_project import QUICK, Project, new_project
from tests.sweeps.launchers.test_clusters import RAY_ENV, SlurmCluster, slurm_cluster  # noqa: F401 (a fixture)

GRID = ("-m", "experiment=first", *QUICK)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = new_project(tmp_path_factory.mktemp("place"))
    (made.folder / "notes").mkdir()
    return made


def ledgers(project: Project) -> list[Ledger]:
    """Its sweeps, the latest last."""
    return [Ledger(folder).read() for folder in sorted((project.folder / "mlruns" / "sweeps").glob("2*"))]


def test_sweeps_of_two_projects_of_one_name_at_once_stay_apart(project: Project, tmp_path: Path) -> None:
    other = new_project(tmp_path)
    file = other.folder / "conf" / "model" / "small.yaml"
    file.write_text(file.read_text().replace("32", "5"))
    processes = [one.start("train", *GRID, "seed=1,2", "n_jobs=2") for one in (project, other)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    for one, width in ((project, "32"), (other, "5")):
        runs = one.runs()
        assert [run.data.params["model.hidden"] for run in runs] == [width, width]
        assert {run.data.tags["labbook.project"] for run in runs} == {"mylab"}


def test_a_sweep_whose_launcher_was_killed_goes_on_from_any_folder_of_its_project(project: Project) -> None:
    process = project.start("train", *GRID, "seed=3,4,5", "n_jobs=1", at="notes")

    before, end = len(project.runs()), time.monotonic() + 120
    while not any(len(one.jobs) == 3 and "finished" in one.counts() for one in ledgers(project)):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.communicate()
    sweep = ledgers(project)[-1]
    assert sweep.about["project"] == str(project.folder)
    uri = f"tracking.uri=sqlite:///{project.folder}/mlflow.db"
    outside = Project(project.folder.parent).run("sweep", "resume", sweep.id, uri)
    where = f"in the project {project.folder}: go on with it there, or with LABBOOK_PROJECT={project.folder}"
    assert (outside.returncode, outside.stderr.strip()) == (2, f"error: sweep {sweep.id} was begun {where}")
    done = project.run("sweep", "resume", sweep.id, at="tests")
    assert done.returncode == 0 and "3 finished" in done.stdout, done.stderr
    assert len(project.runs()) >= before + 3


def from_elsewhere(project: Project, place: Path, *launcher: str, **env: str) -> None:
    elsewhere = Project(place, LABBOOK_PROJECT=str(project.folder), **env)
    done = elsewhere.run("train", *GRID, *launcher)
    outputs = "\n".join(job.output.read_text() for job in ledgers(project)[-1].jobs if job.output.exists())
    assert done.returncode == 0 and "1 finished" in done.stdout, done.stderr + outputs
    assert not list(place.glob("ml*"))


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: the extra ray")
def test_jobs_of_ray_are_of_the_project_of_their_launcher(project: Project, tmp_path: Path) -> None:
    from_elsewhere(project, tmp_path, "hydra/launcher=ray", "seed=6", **RAY_ENV)


def test_jobs_of_slurm_are_of_the_project_of_their_launcher(
    project: Project,
    tmp_path: Path,
    slurm_cluster: SlurmCluster,  # noqa: F811
) -> None:
    from_elsewhere(project, tmp_path, "hydra/launcher=slurm", "seed=7", **slurm_cluster.env)
