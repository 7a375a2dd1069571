"""Runs no command can use: unknown, ambiguous, foreign, without weights, of code that is gone, on a dead server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import Lab

SMALL = ["model=fnn", "data=iris", "trainer.max_epochs=1", "tracking.system_metrics=false"]
COMMANDS = {
    "evaluate": ["resamples=0"],
    "predict": ["data.path=new.csv"],
    "export": ["format=safetensors"],
    "rerun": ["here=true"],
    "report": ["output=page.html"],
}
WITHOUT_WEIGHTS = ("evaluate", "predict", "export")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Any]:
    """A place with one good run."""
    lab = Lab(tmp_path_factory.mktemp("runs"))
    assert lab.train(*SMALL).code == 0
    (run,) = lab.runs()
    return lab, run


def refused(lab: Lab, command: str, reference: str, env: dict[str, str] | None = None) -> str:
    """The one line that a command says."""
    before = set(lab.folder.iterdir())
    done = lab.run(command, f"run={reference}", *COMMANDS[command], env=env)
    assert done.code == 2 and len(done.err.splitlines()) == 1 and done.err.startswith("error: "), (command, done)
    assert {path for path in set(lab.folder.iterdir()) - before if not path.name.startswith(".")} == set()
    return done.err.removeprefix("error: ").rstrip("\n")


def copied(lab: Lab, run: Any, target: str | None = None) -> str:
    """Another run of the same kind, its model's class by this name."""
    other = lab.client.create_run(run.info.experiment_id, tags=dict(run.data.tags))
    lab.client.set_terminated(other.info.run_id)
    folder = lab.artifacts(other.info.run_id)
    shutil.copytree(lab.artifacts(run.info.run_id), folder, dirs_exist_ok=True)
    if target is not None:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["model"]["_target_"] = target
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        weights = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
        weights["labbook"]["config"]["model"]["_target_"] = target
        torch.save(weights, folder / "checkpoints/best.ckpt")
    return other.info.run_id


# one that reads weights, and one that does not
FAST = ("predict", "rerun")


@pytest.mark.parametrize(
    "command", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_an_unknown_run_and_an_ambiguous_one(kept, command: str) -> None:
    lab, run = kept
    line = refused(lab, command, "zzzz")
    assert line.startswith(f"run 'zzzz' is not in {lab.uri} (there are: ")
    for _ in range(17 - len(lab.runs())):  # of 17 ids two begin with the same of 16 signs
        lab.client.create_run(run.info.experiment_id, tags=dict(run.data.tags))
    first = [one.info.run_id[0] for one in lab.runs()]
    twice = next(sign for sign in first if first.count(sign) > 1)
    assert f"'{twice}'" in (line := refused(lab, command, twice)) and line.count(f" {twice}") >= 2


@pytest.mark.parametrize("command", WITHOUT_WEIGHTS)
@pytest.mark.slow
def test_a_run_without_weights_and_one_of_another_project(kept, command: str) -> None:
    lab, run = kept
    without = copied(lab, run)
    shutil.rmtree(lab.artifacts(without) / "checkpoints")
    line = refused(lab, command, without)
    assert line.endswith(
        "has no artifact checkpoints/best.ckpt: it is FINISHED and has no weights of a validated epoch"
    )
    foreign = lab.client.create_run(run.info.experiment_id).info.run_id
    lab.client.set_terminated(foreign)
    line = refused(lab, command, foreign)
    assert line.endswith("has no artifact checkpoints/best.ckpt: it was not made by this project")


def test_a_run_of_another_project_is_not_run_again(kept) -> None:
    lab, run = kept
    foreign = lab.client.create_run(run.info.experiment_id).info.run_id
    lab.client.set_terminated(foreign)
    assert refused(lab, "rerun", foreign).endswith("has no artifact config.yaml: it was not made by this project")


@pytest.mark.parametrize("target", [pytest.param("src.models.gone.Net", marks=pytest.mark.slow), "os.system"])
def test_a_model_that_this_code_does_not_have(kept, target: str) -> None:
    lab, run = kept
    other = copied(lab, run, target)
    gone = target.startswith("src.")
    reason = "cannot be imported from this code" if gone else "is not of this project"
    for command in WITHOUT_WEIGHTS:
        line = refused(lab, command, other)
        assert line.startswith(f"{lab.artifacts(other)}/checkpoints/best.ckpt: {target} {reason}")
    reason = "does not exist: src.models has no gone" if gone else "is not used in conf/ or experiments/"
    assert refused(lab, "rerun", other).startswith(f"model._target_: {target} {reason}")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_is_down(tmp_path: Path, command: str) -> None:
    env = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    line = refused(Lab(tmp_path), command, "last", env)
    assert line.startswith("tracking server http://127.0.0.1:9 cannot be reached (") and "start it" in line
