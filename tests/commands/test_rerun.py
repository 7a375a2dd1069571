"""A tracked run run again: the same bits, its own code, and what is said where that cannot be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import process
from tests.conftest import ROOT, Lab

SHORT = ("trainer.max_epochs=1", "threads=1", "tracking.system_metrics=false")
KINDS = {
    "fnn": ("data=breast_cancer",),
    "cnn": (),
    "rnn": (),
    "lstm": (),
    "gru": ("data=adding", "data.rows=300"),
    "bert": ("trainer.limit_train_batches=20",),
    "gpt": ("trainer.limit_train_batches=20",),
    "t5": ("trainer.limit_train_batches=20",),
    "pretrained": ("trainer.limit_train_batches=20",),
    "vit": (),
    "torchvision": ("trainer.limit_train_batches=4", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
    "autoencoder": (),
    "vae": (),
    "gan": (),
    "wgan": (),
}


def own_csv(lab: Lab, rows: int = 60) -> Path:
    path = lab.folder / "own.csv"
    path.write_text("a,b\n" + "\n".join(f"{i % 7},{'no' if i % 7 < 3 else 'yes'}" for i in range(rows)))
    return path


def test_a_run_again_is_the_same_to_the_last_bit(lab: Lab) -> None:
    assert lab.train("model=cnn", *SHORT).code == 0
    done = lab.run("rerun", "run=last", "here=true", "verify=true")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1].startswith("identical: ")
    again, first = lab.runs()
    assert again.data.tags["labbook.rerun_of"] == first.info.run_id and again.info.run_name == first.info.run_name
    assert again.data.tags["labbook.config_hash"] == first.data.tags["labbook.config_hash"]
    done = lab.run("rerun", f"run={first.info.run_id[:12]}", "here=true", "optimizer.lr=0.5")
    assert done.code == 0, done.err
    changed = lab.runs()[0]
    assert changed.data.params["optimizer.lr"] == "0.5" and "lr=0.5" in changed.info.run_name
    # what was stored differs at one point: the first such point is named
    client = lab.client
    client.log_metric(first.info.run_id, "train/loss", 9.0, step=1)
    done = lab.run("rerun", f"run={first.info.run_id}", "here=true", "verify=true")
    assert done.code == 1 and "error: not identical: train/loss at step 1 is " in done.err
    assert "nothing that was recorded explains it" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("model", KINDS)
def test_runs_of_all_kinds_again_are_the_same(lab: Lab, model: str) -> None:
    assert lab.train(f"model={model}", *KINDS[model], *SHORT).code == 0
    done = lab.run("rerun", "run=last", "here=true", "verify=true")
    assert done.code == 0, done.err
    assert "identical: " in done.out


def test_a_run_again_has_its_own_code(lab: Lab) -> None:
    project = lab.folder / "project"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(project)], check=True)
    # the process of the worktree is a fresh one, whose compiled modules nobody needs again
    env = lab.env | {"PYTHONDONTWRITEBYTECODE": "1"}

    def command(entry: str, *arguments: str) -> process.Result:
        return process.command(list(arguments), env, lab.folder, entry=entry, code=project)

    def edit(text: str) -> None:
        path = project / "src" / "models" / "fnn.py"
        path.write_text(path.read_text() + text)

    edit("\nHEIGHT = 1\n")  # not committed: it goes into the run's patch
    done = command("train", "model=fnn", "data=iris", *SHORT)
    assert done.code == 0, done.err
    # a net that begins with other weights
    edit(
        "\n_init = FNN.__init__\ndef init(self, *a, **k):\n    __import__('torch').rand(1)\n    _init(self, *a, **k)\n"
    )
    edit("FNN.__init__ = init\n")
    run = lab.runs()[0].info.run_id
    done = command("rerun", f"run={run}", "verify=true")
    assert done.code == 0, done.err
    assert "with the code of commit" in done.out and "identical: " in done.out
    commit, patch = (lab.runs()[0].data.tags["mlflow.source.git.commit"], lab.artifacts(lab.runs()[0].info.run_id))
    assert "HEIGHT" in (patch / "changes.patch").read_text() and "_init" not in (patch / "changes.patch").read_text()
    done = command("rerun", f"run={run}", "verify=true", "here=true")
    assert done.code == 1
    assert "the likeliest cause: uncommitted changes" in done.err and "src/models/fnn.py" in done.err
    assert not subprocess.run(["git", "worktree", "list"], cwd=project, capture_output=True, text=True).stdout.count(
        "labbook-code"
    )
    lab.client.set_tag(run, "mlflow.source.git.commit", "0" * 40)
    done = lab.run("rerun", f"run={run}")
    assert done.code == 2
    assert done.err.strip() == (
        "error: commit 000000000000 is not in this repository: fetch it, or here=true runs with today's code"
    )
    assert len(commit) == 40


def test_a_rerun_that_cannot_be_is_one_line(lab: Lab) -> None:
    table = own_csv(lab)
    own = ("model=fnn", "data=csv", f"data.path={table}", "data.target=b", *SHORT)
    assert lab.train(*own).code == 0
    os.utime(table)
    own_csv(lab, rows=50)
    for arguments, message in (
        (
            ["run=last", "here=true"],
            f"is not what run {lab.runs()[0].info.run_id[:8]} was trained on; written since: {table}",
        ),
        (["run=nothing"], "run 'nothing' is not in"),
        (["run=last", "verify=true", "seed=3"], "verify=true compares with the run as it was: without seed=3"),
        (["run=last", "here=true", "model=cnn"], "model=cnn: a rerun keeps its model"),
        (["run=last", "here=true", "optimizer.rl=1"], "optimizer.rl: AdamW has no such option"),
        (["here=true"], "run: "),
    ):
        done = lab.run("rerun", *arguments)
        errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
        assert done.code == 2 and message in done.err and len(errors) == 1, done.err
    assert len(lab.runs()) == 1
    done = lab.run("rerun", "run=last", "here=true", f"data.path={table}", "data.batch_size=8")  # meant so
    assert done.code == 0, done.err
