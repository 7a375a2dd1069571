"""What a newcomer's first command leaves behind, and what it has to reach."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest
import torch
import yaml

from src.models.load import load_model
from tests.conftest import ROOT, Lab


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> tuple[Lab, str, str]:
    """(lab, run id, output) of the first command with the fewest changes."""
    lab = Lab(tmp_path_factory.mktemp("first"))
    result = lab.train("model=cnn", "trainer.max_epochs=3", "trainer.log_every_n_steps=1", "tags.purpose=demo")
    assert result.code == 0, result.err
    assert result.err == ""
    (run,) = lab.runs()
    return lab, run.info.run_id, result.out


def test_ends_with_results_the_run_and_the_way_to_the_ui(first) -> None:
    _, run_id, out = first
    assert "results" in out and "accuracy" in out and "baseline" in out
    assert f"run {run_id}" in out
    assert f"/#/experiments/1/runs/{run_id}" in out.splitlines()[-1]


def test_everything_is_recorded(first) -> None:
    lab, run_id, _ = first
    run = lab.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.channels"] == "[16, 32, 64]"
    assert run.data.params["optimizer.lr"] == "0.002"
    tags = run.data.tags
    assert tags["purpose"] == "demo"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if commit.returncode == 0:
        assert tags["mlflow.source.git.commit"] == commit.stdout.strip()
        assert tags["labbook.git_dirty"] in ("true", "false")
    for tag in ("config_hash", "seed", "data_sha256", "command", "host", "device", "threads", "cpu"):
        assert tags[f"labbook.{tag}"], tag
    assert len(tags["labbook.data_sha256"]) == len(tags["labbook.config_hash"]) == 64
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "digits"
    assert json.loads(dataset.dataset.profile)


def test_metrics_have_the_names_that_users_expect(first) -> None:
    lab, run_id, _ = first
    points = lab.points(run_id, skip=())
    for name in ("train/loss", "val/loss", "val/accuracy", "val/f1", "val/accuracy_best"):
        assert [step for step, _ in points[name]] == [34, 68, 102], name
    assert [step for step, _ in points["train/loss_step"]] == [step for step, _ in points["lr"]] == [*range(1, 103)]
    for name in (
        "test/loss",
        "test/accuracy",
        "baseline/accuracy",
        "cost/parameters",
        "cost/flops",
        "cost/seconds",
        "cost/energy_joules",
    ):
        assert len(points[name]) == 1, name
    assert points["cost/parameters"] == [(0, 26394)]
    assert points["val/accuracy_best"][-1][1] == max(value for _, value in points["val/accuracy"])
    assert any(name.startswith("system/") for name in points)


def test_files_lie_in_the_run_s_own_folder(first) -> None:
    lab, run_id, _ = first
    folder = lab.artifacts(run_id)
    assert folder == lab.folder / "mlruns" / "1" / run_id / "artifacts"
    for name in ("config.yaml", "overrides.yaml", "environment.txt", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (folder / name).is_file(), name
    for name in ("confusion_matrix", "curve_loss", "curve_accuracy"):
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["channels"] == [16, 32, 64] and config["data"]["seed"] == 0
    overrides = yaml.safe_load((folder / "overrides.yaml").read_text())
    assert "trainer.max_epochs=3" in overrides
    assert f"torch=={torch.__version__.partition('+')[0]}" in (folder / "environment.txt").read_text()
    # beside the store, the run's folder and what the test itself wrote, nothing
    left = {path.name for path in lab.folder.iterdir()}
    assert {name for name in left if not name.startswith((".out", ".err", "mlflow.db"))} == {"mlruns"}


def test_checkpoint_gives_the_logged_accuracy_without_hydra(first) -> None:
    """In a fresh process that may import neither Hydra nor the config layer, from the checkpoint and plain rows."""
    lab, run_id, _ = first
    script = """
import sys
sys.modules["hydra"] = sys.modules["omegaconf"] = sys.modules["mlflow"] = None
import torch
from src.data.images.classic import Digits
from src.models.load import load_model
model = load_model(sys.argv[1])
data = Digits(seed=0)
data.setup()
rows = data.splits["test"]
with torch.no_grad():
    print((model(rows["input"]).argmax(-1) == rows["target"]).float().mean().item())
"""
    best = lab.artifacts(run_id) / "checkpoints" / "best.ckpt"
    answer = subprocess.run([sys.executable, "-c", script, str(best)], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    (logged,) = lab.points(run_id)["test/accuracy"]
    assert float(answer.stdout) == logged[1]
    assert load_model(best).config["trainer"]["max_epochs"] == 3


def accuracies(tmp_path, seeds: int, metric: str, *overrides: str, timeout: float = 300) -> list[float]:
    lab = Lab(tmp_path)
    values = []
    for seed in range(1, seeds + 1):
        result = lab.train(*overrides, f"seed={seed}", "tracking.system_metrics=false", timeout=timeout)
        assert result.code == 0, result.err
        values.append(lab.runs()[0].data.metrics[metric])
    return values


def test_cnn_reaches_its_accuracy_on_digits(tmp_path) -> None:
    assert statistics.mean(accuracies(tmp_path, 3, "test/accuracy", "model=cnn")) >= 0.985


def test_fnn_reaches_its_auroc_on_breast_cancer(tmp_path) -> None:
    assert statistics.mean(accuracies(tmp_path, 5, "test/auroc", "model=fnn", "data=breast_cancer")) >= 0.99


@pytest.mark.slow
@pytest.mark.real_data
def test_cnn_reaches_its_accuracy_on_mnist(tmp_path, data_folder) -> None:
    root = f"data.root={data_folder / 'mnist'}"
    values = accuracies(tmp_path, 1, "test/accuracy", "experiment=vision/mnist", root, timeout=1800)
    assert values[0] >= 0.992


@pytest.mark.slow
def test_eight_first_runs_at_once_share_nothing(tmp_path) -> None:
    """On a store that does not exist yet; all finish, each in a folder of its own, with every metric."""
    from concurrent.futures import ThreadPoolExecutor

    lab = Lab(tmp_path)
    small = ["model=fnn", "data=iris", "trainer.max_epochs=2", "trainer.log_every_n_steps=1"]

    def one(seed: int):
        return lab.train(*small, f"seed={seed}", "tracking.system_metrics=false", files=f"-{seed}")

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(one, range(8)))
    assert [result.code for result in results] == [0] * 8, [result.err for result in results]
    runs = lab.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sorted(run.data.params["seed"] for run in runs) == [str(seed) for seed in range(8)]
    assert len({run.info.artifact_uri for run in runs}) == 8
    for run in runs:
        points = lab.points(run.info.run_id)
        assert len(points["train/loss_step"]) == points["val/loss"][-1][0]
        assert len(points["val/loss"]) == 2 and len(points["test/loss"]) == 1


def test_two_ranks_train_one_run(lab: Lab) -> None:
    """A real second process over gloo: one run, every test row counted once."""
    arguments = ["trainer=ddp_cpu", "model=cnn", "trainer.max_epochs=2", "tracking.system_metrics=false"]
    import os

    done = subprocess.run(
        [sys.executable, "-m", "src.train", *arguments], cwd=ROOT, env=os.environ | lab.env, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = lab.runs()
    assert run.info.status == "FINISHED"
    correct = run.data.metrics["test/accuracy"] * 359
    assert correct == pytest.approx(round(correct), abs=1e-3)
    assert run.data.metrics["baseline/accuracy"] == pytest.approx(36 / 359, abs=1e-6)
    assert (lab.artifacts(run.info.run_id) / "checkpoints" / "best.ckpt").is_file()
