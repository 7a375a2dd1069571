"""What the code of commit 3f48f33 wrote, before modules and options moved, serves as it did: every family's checkpoint
answers and is gone on with, the same seed gives the same bits, commands work on its runs and its cut sweeps.

tests/fixtures/before_move/make.py made it all. On the kind of machine that it ran on bits are compared, on any other
one figures that should be near each other.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import os
import platform
import re
import shutil
import subprocess
import tarfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

# all that is taken from the project itself: what a move has to look at here
from src.config import compose, compose_saved
from src.experiment.assemble import assemble
from src.experiment.run import quieten
from src.models.load import load_model
from src.runtime.signals import Signals
from tests.conftest import ROOT, Lab
from tests.sweeping import Sweep

COMMIT = "3f48f335f1d3174b47b5aadf96a7dabc48f24420"
FIXTURES = Path(os.environ.get("LABBOOK_BEFORE_MOVE") or Path(__file__).parent / "fixtures" / "before_move").absolute()
FAMILIES = json.loads((FIXTURES / "families.json").read_text())
CASES: dict[str, dict[str, Any]] = FAMILIES["cases"]
STORE = json.loads((FIXTURES / "store.json").read_text())
# options that are written otherwise since: {"data.path": "data.file.path"}
RENAMED: dict[str, str] = {
    "model.passes": "model.n_epochs",
    "model.updates": "model.gradient_steps",
    "model.warmup": "model.learning_starts",
}
# a table, texts, boxes, acting and interactions; the others are slow together
FAST = ("fnn_table", "bert", "detector", "policy", "recommender_ranking")
# where another rounding becomes another action, or the nets chase each other
CHAOTIC = ("gan", "gan_conditional", "wgan", "policy", "policy_dqn", "torchvision_detector")
EACH = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in CASES]


@cache
def same_machine() -> bool:
    """Whether bits can be expected to be those of the machine that the files were made on."""
    cpu = platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = re.findall(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        cpu = names[0].strip() if names else cpu
    here = {"capability": torch.backends.cpu.get_cpu_capability(), "cpu": cpu}
    for name in FAMILIES["machine"].keys() - here.keys():
        try:
            here[name] = version(name)
        except PackageNotFoundError:
            return False
    return here == FAMILIES["machine"]


# families ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The working directory, from which the paths of the data are meant."""
    (tmp_path / "data").symlink_to(FIXTURES / "data")
    monkeypatch.chdir(tmp_path)
    # torch and Lightning keep these for the whole process
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    quieten()
    yield tmp_path
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


def checkpoint(name: str, place: Path) -> Path:
    path = place / "last.ckpt"
    path.write_bytes(lzma.decompress((FIXTURES / "families" / f"{name}.xz").read_bytes()))
    return path


def today(overrides: list[str]) -> list[str]:
    """Overrides of before the move, as they are written now."""
    pairs = (text.partition("=") for text in overrides)
    return [f"{RENAMED.get(key, key)}={value}" for key, _, value in pairs]


def ran(parts: Any, folder: Path, start: Path | None = None) -> dict[str, Any]:
    """Trains from the beginning or from a checkpoint, and tests the weights of the end: all that came out."""
    points: list[Any] = []
    parts.recorder.log_points = points.extend
    parts.checkpoint.directory = folder
    model, trainer = parts.model, parts.trainer
    trainer.fit(model, datamodule=parts.data, ckpt_path=start and str(start), weights_only=True)
    state = model.state_dict()
    trainer.test(model, datamodule=parts.data, verbose=False)
    return {
        "history": {name: [list(point) for point in model.history[name]] for name in sorted(model.history)},
        "steps": [[step, value] for name, value, step in points if name == "train/loss_step"],
        "best": [parts.checkpoint.best_epoch, parts.checkpoint.best_score],
        "weights": digest(state),
        "sizes": sized(state),
    }


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 of names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def sized(tensors: dict[str, torch.Tensor]) -> list[float]:
    """How many numbers, and the mean of their absolute values: what can be compared where the bits differ."""
    count = sum(tensor.numel() for tensor in tensors.values())
    return [count, sum(tensor.double().abs().sum().item() for tensor in tensors.values()) / count]


@torch.inference_mode()
def answers(model: Any, data: Any) -> torch.Tensor:
    """What a model says of the first four test rows, or draws."""
    if model.task.name == "generation":
        return model.draw(4, seed=0)
    batch = data.head("test", 4)
    return model(batch["input"]) if model.task.name == "control" else model.predict_step(batch, 0)


def assert_as_before(name: str, got: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each figure of each epoch, the loss of each step, the best epoch and the weights."""
    if same_machine():
        for key in expected:  # as text, in which NaN equals NaN and every bit counts
            assert json.dumps(got[key]) == json.dumps(expected[key]), f"{name}: {key}"
        return
    history, before = got["history"], expected["history"]
    epochs = {metric: [epoch for epoch, _ in points] for metric, points in before.items()}
    assert {metric: [epoch for epoch, _ in points] for metric, points in history.items()} == epochs
    assert [step for step, _ in got["steps"]] == [step for step, _ in expected["steps"]]
    assert got["sizes"] == pytest.approx(expected["sizes"], rel=0.05)
    if name not in CHAOTIC:
        for metric in ("train/loss", "val/loss", "test/loss"):
            assert history[metric][-1][1] == pytest.approx(before[metric][-1][1], rel=0.05, abs=0.05), metric


@pytest.mark.parametrize("name", EACH)
def test_the_same_seed_gives_what_it_gave(name: str, place: Path) -> None:
    parts = assemble(compose(today(CASES[name]["overrides"])), Signals())
    assert parts.data.spec.sha256 == CASES[name]["data"]  # or nothing else can be the same
    assert_as_before(name, ran(parts, place / "checkpoints"), CASES[name]["whole"])


@pytest.mark.parametrize("name", EACH)
def test_an_old_checkpoint_answers_and_is_gone_on_with(name: str, place: Path) -> None:
    path, expected = checkpoint(name, place), CASES[name]
    saved = torch.load(path, weights_only=True)["labbook"]["config"]
    parts = assemble(compose_saved(saved), Signals())
    found = answers(load_model(path), parts.data)
    before = expected["answers"]
    assert list(found.shape) == before["shape"]
    if same_machine():
        assert found.flatten()[:64].tolist() == before["first"]
        assert digest({"answers": found}) == before["sha256"]
    elif name != "torchvision_detector":  # which sorts its boxes by scores that are near each other
        assert found.flatten()[:64].tolist() == pytest.approx(before["first"], rel=1e-3, abs=1e-4)
    assert_as_before(name, ran(parts, place / "checkpoints", path), expected["resumed"])


def test_each_model_that_there_was_has_a_checkpoint() -> None:
    models = {text for case in CASES.values() for text in case["overrides"] if text.startswith("model=")}
    assert len(models) == 21  # in conf/model at that commit
    assert {path.stem for path in (FIXTURES / "families").glob("*.xz")} == CASES.keys()


# runs in a store -----------------------------------------------------------------------------------------------------


def unpacked(name: str, lab: Lab) -> Lab:
    """The lab with a store that was made in /lab, which therefore has to find its files again."""
    with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
        archive.extractall(lab.folder, filter="data")
    shutil.copytree(FIXTURES / "data", lab.folder / "data")
    done = lab.run("runs", "relocate")
    assert done.code == 0 and "from /lab to" in done.out, done.err
    return lab


@pytest.fixture
def store(lab: Lab) -> Lab:
    return unpacked("store", lab)


def latest(lab: Lab) -> Any:
    """The one run that was not there: this machine's clock may go before that of the others."""
    known = set(STORE["runs"].values())
    (run,) = [run for run in lab.runs() if run.info.run_id not in known]
    return run


def succeeds(lab: Lab, entry: str, *arguments: str) -> str:
    done = lab.run(entry, *arguments)
    assert done.code == 0, done.err
    return done.out


def evaluated(lab: Lab, name: str) -> None:
    """Evaluates a run again, and compares its figures with those that it logged."""
    run, before = STORE["runs"][name], STORE["figures"][name]
    succeeds(lab, "evaluate", f"run={run}", "resamples=20", "device=cpu")
    newest = max((lab.artifacts(run) / "evaluations").iterdir(), key=lambda folder: int(folder.name))
    assert newest.name == "2"  # beside the one that there was
    figures = json.loads((newest / "metrics.json").read_text())
    assert figures["metrics"] == (before if same_machine() else pytest.approx(before, rel=0.05, abs=0.05))


def assert_predicted(lab: Lab, name: str) -> None:
    asked, before = STORE["predicted"][name]["asked"], STORE["predicted"][name]["table"]
    succeeds(lab, "predict", f"run={STORE['runs'][name]}", *asked, "device=cpu", "threads=1", "force=true")
    now = (lab.folder / "predicted.csv").read_text()
    assert now == before if same_machine() else len(now.splitlines()) == len(before.splitlines())


def test_a_run_of_before_is_judged(store: Lab) -> None:
    evaluated(store, "table")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(STORE["figures"]))
def test_runs_of_all_kinds_are_judged_and_asked(store: Lab, name: str) -> None:
    evaluated(store, name)
    if name in STORE["predicted"]:
        assert_predicted(store, name)
    if name == "policy":
        succeeds(store, "predict", f"run={STORE['runs'][name]}", "output=episode.csv")
        assert len((store.folder / "episode.csv").read_text().splitlines()) > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["killed", "killed_twice"])
def test_a_run_that_was_killed_before_ends_as_if_it_had_not_been(store: Lab, name: str) -> None:
    run, whole = STORE["runs"][name], STORE["runs"]["images"]
    done = store.train(f"resume={run}")
    assert done.code == 0, done.err
    found = store.client.get_run(run)
    assert found.info.status == "FINISHED" and found.data.tags["labbook.resumes"] == str(1 + (name == "killed_twice"))
    points = {key: [list(point) for point in values] for key, values in store.points(run).items()}
    expected = STORE["points"]
    if not same_machine():
        points, expected = ({key: [step for step, _ in at] for key, at in one.items()} for one in (points, expected))
    else:
        weights = [torch.load(store.artifacts(r) / "checkpoints/last.ckpt", weights_only=True) for r in (run, whole)]
        assert digest(weights[0]["state_dict"]) == digest(weights[1]["state_dict"])
    assert {key: points[key] for key in expected} == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["table", "policy", "texts"])
def test_a_run_of_before_is_run_again(store: Lab, name: str) -> None:
    done = store.run("rerun", f"run={STORE['runs'][name]}", "here=true", *(["verify=true"] if same_machine() else []))
    assert done.code == 0, done.err
    assert "identical: " in done.out or not same_machine()
    again = latest(store)
    assert again.info.status == "FINISHED" and again.data.tags["labbook.rerun_of"] == STORE["runs"][name]


@pytest.mark.slow
def test_a_run_of_before_is_run_again_with_its_own_code(store: Lab) -> None:
    """The modules that it names are those of its commit."""
    if subprocess.run(["git", "-C", str(ROOT), "cat-file", "-e", COMMIT], capture_output=True).returncode:
        pytest.skip(f"the history here does not reach back to {COMMIT[:12]}")
    done = store.run("rerun", f"run={STORE['runs']['table']}", *(["verify=true"] if same_machine() else []))
    assert done.code == 0, done.err


@pytest.mark.slow
def test_a_run_of_before_is_what_another_starts_from(store: Lab) -> None:
    run = STORE["runs"]["table"]
    done = store.train(*today(STORE["overrides"]["table"]), f"init_from={run}", "trainer.max_epochs=1", "seed=1")
    assert done.code == 0, done.err
    newest = latest(store)
    assert newest.data.params["init_from"] == run and newest.info.status == "FINISHED"


@pytest.mark.slow
def test_runs_of_before_are_listed_compared_and_reported(store: Lab) -> None:
    runs = STORE["runs"]
    out = succeeds(store, "runs", "list")
    assert all(run[:8] in out for run in runs.values())
    assert "purpose" in succeeds(store, "runs", "show", runs["table"])
    out = succeeds(store, "compare", f"runs={runs['images']},{runs['killed']}")
    assert runs["images"][:8] in out and runs["killed"][:8] in out
    succeeds(store, "compare", "by=model", "metric=test/loss", "output=board.csv", "resamples=20")
    assert len((store.folder / "board.csv").read_text().splitlines()) > len(STORE["figures"])
    succeeds(store, "report", f"run={runs['images']}", "output=report.md", "evaluate=false")
    assert "cnn" in (store.folder / "report.md").read_text().lower()
    succeeds(store, "runs", "tag", runs["series"], "tags.purpose=old")
    assert store.client.get_run(runs["series"]).data.tags["purpose"] == "old"
    folder = store.artifacts(runs["series"])
    succeeds(store, "runs", "delete", runs["series"])
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pt2", "safetensors"])
def test_models_of_before_are_exported(store: Lab, form: str) -> None:
    succeeds(store, "export", f"run={STORE['runs']['images']}", f"format={form}", f"output=model.{form}")
    assert (store.folder / f"model.{form}").stat().st_size > 1000


# sweeps --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweeps(lab: Lab) -> Sweep:
    unpacked("sweeps", lab)
    for file in (lab.folder / "mlruns" / "sweeps").glob("*/sweep.json"):
        # the folder that a sweep was begun in, which relocating does not know of
        file.write_text(json.dumps(json.loads(file.read_text()) | {"cwd": str(lab.folder)}))
    return Sweep(lab)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["grid", "search"])
def test_a_sweep_that_was_cut_before_is_gone_on_with(sweeps: Sweep, kind: str) -> None:
    search, grid = sweeps.ledgers()  # the newest first
    ledger, count = (search, 5) if kind == "search" else (grid, 6)
    assert [job.number for job in ledger.jobs if job.done] == [0, 1]
    ended = {run.info.run_id: run.info.end_time for run in sweeps.lab.runs() if run.info.status == "FINISHED"}
    code, _, err = sweeps.run("status", ledger.id, entry="sweep")
    assert code == 0, err
    code, _, err = sweeps.run("resume", "last" if kind == "search" else ledger.id, entry="sweep")
    assert code == 0, err
    ledger.read()
    assert len(ledger.jobs) == count and all(job.done for job in ledger.jobs)
    runs = {run.info.run_id: run for run in sweeps.lab.runs()}
    assert all(runs[run].info.end_time == end for run, end in ended.items())  # what had finished was not touched
    assert all(runs[job.state.run].info.status == "FINISHED" for job in ledger.jobs)
    assert len({job.state.run for job in ledger.jobs}) == count
    for entry in (["compare", f"sweep={ledger.id}", "resamples=20"], ["report", f"sweep={ledger.id}", "output=s.md"]):
        code, _, err = sweeps.run(*entry[1:], entry=entry[0])
        assert code == 0, err


@pytest.mark.slow
def test_jobs_that_were_cut_come_out_as_the_same_jobs_alone(sweeps: Sweep) -> None:
    """The configurations that a sweep of before froze give what they gave when nobody cut them."""
    grid = sweeps.ledgers()[1]
    code, _, err = sweeps.run("resume", grid.id, entry="sweep")
    assert code == 0, err
    grid.read()
    job = next(job for job in grid.jobs if job.state.attempts > 1)
    chosen = yaml.safe_load((sweeps.lab.artifacts(job.state.run) / "overrides.yaml").read_text())
    before = {run.info.run_id for run in sweeps.lab.runs()}
    code, _, err = sweeps.run(*today(chosen), "n_jobs=null")
    assert code == 0, err
    (alone,) = {run.info.run_id for run in sweeps.lab.runs()} - before
    one, other = (sweeps.lab.points(run) for run in (alone, job.state.run))
    assert one["val/loss"] == other["val/loss"] and all(math.isfinite(value) for _, value in one["val/loss"])
