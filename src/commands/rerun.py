"""Repetition of a tracked run: the same configuration, code and data, and a check of its figures."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from omegaconf import DictConfig
from rich.console import Console

from src import tracking
from src.comparison.diff import Difference, differences
from src.config import compose_saved
from src.errors import Interrupted, RunFailed, UserError
from src.experiment.resume import saved_config
from src.experiment.run import train
from src.models.load import read
from src.runtime import allocator, own_code, project
from src.runtime.compat.lightning import own_rank
from src.tracking import RunInfo
from src.tracking.provenance import git_state

NOT_COMPARED = ("cost/", "system/")  # they measure the machine
CAUSES = ("setting", "machine", "environment", "data", "code")


def rerun(config: DictConfig, changes: Sequence[str]) -> None:
    """Train a run again, in a worktree of its code where that has changed since.

    Args:
        config: `run`, `here` (with today's code), `verify` (compare all figures).
        changes: overrides of the run's configuration.

    Raises:
        UserError: a run, a change, code or data that cannot be used.
        RunFailed: training failed, or the figures are not the same.
    """
    allocator.keep_freed()
    console = Console()
    uri = config.tracking.get("uri")
    run = tracking.find_run(config.run, uri=uri)
    if config.verify and changes:
        raise UserError(f"verify=true compares with the run as it was: without {' '.join(changes)}")
    if not config.here and not _same_code(run):
        _elsewhere(config, run, changes, console)
        return
    full = compose_saved(saved_config(run) | {"resume": None}, changes, anew=True)
    if full.threads is None:
        full.threads = int(run.tags.get("labbook.threads", 0)) or None  # part of what makes bits equal
    full.tracking.uri = uri
    overrides = [*yaml.safe_load(tracking.download(run, "overrides.yaml").read_text(encoding="utf-8")), *changes]
    where = [] if uri is None else [f"tracking.uri={uri}"]
    sys.argv[1:] = [f"run={run.id}", "here=true", *where, *changes]  # of the processes of further devices
    result = train(full, overrides=overrides, again=run)
    if config.verify and own_rank() == 0:
        verify(run, tracking.find_run(result.run, uri=uri), uri, console)


def verify(run: RunInfo, other: RunInfo, uri: str | None, console: Console) -> None:
    """Compare all metrics of two runs, step by step.

    Raises:
        RunFailed: they differ: at which step first, and what else differs that may be the cause.
    """
    points = tracking.points(uri, [run.id, other.id])
    one, two = (_compared(points[part.id]) for part in (run, other))
    joined = one.join(two, how="outer", lsuffix="_before", rsuffix="_now")
    apart = joined[
        ~np.isclose(joined.iloc[:, 0], joined.iloc[:, 1], rtol=0, atol=0, equal_nan=False) & ~joined.isna().all(axis=1)
    ]
    if apart.empty:
        metrics = joined.index.get_level_values("key").nunique()
        console.print(f"identical: {len(joined):,} points of {metrics} metrics", highlight=False)
        return
    step, key = min((step, key) for step, key, _ in apart.index)
    before, now = apart.loc[(step, key)].iloc[0]
    causes = [one for one in differences(run, other).differences if one.kind in CAUSES]
    raise RunFailed(
        f"not identical: {key} at step {step} is {now:.9g}, it was {before:.9g}; "
        f"{len(apart):,} of {len(joined):,} points differ; {_changed_code(run) or _cause(causes)}"
    )


def _changed_code(run: RunInfo) -> str:
    """Sentence about modules of the user's own that are others by now; empty if none is, or if it is not known."""
    try:
        checkpoint = read(tracking.download(run, "checkpoints/best.ckpt"))
    except UserError:  # a run without one
        return ""
    return own_code.change(checkpoint["labbook"].get("code", {}))


def _compared(points: pd.DataFrame) -> pd.DataFrame:
    """Values by step, metric and, where a metric has several at a step, their order."""
    kept = points[~points["key"].str.startswith(NOT_COMPARED)]
    kept = kept.assign(nth=kept.groupby(["step", "key"]).cumcount())
    return kept.set_index(["step", "key", "nth"])[["value"]].fillna(np.inf)


def _cause(found: Sequence[Difference]) -> str:
    if not found:
        return "nothing that was recorded explains it"
    ordered = sorted(found, key=lambda one: CAUSES.index(one.kind))
    return "the likeliest cause: " + "; ".join(f"{one.what} {one.other} instead of {one.one}" for one in ordered[:3])


# the run's own code --------------------------------------------------------------------------------------------------


def _same_code(run: RunInfo) -> bool:
    """True if the working tree is what the run ran with, if that was not recorded, or if there is no working tree."""
    commit = run.tags.get("mlflow.source.git.commit")
    if commit is None or not project.IN_CHECKOUT:  # an installation: the commit is that of the folder it was run in
        return True
    now = git_state(project.CODE)
    return now.commit == commit and now.patch == _patch(run)


def _patch(run: RunInfo) -> bytes:
    if run.tags.get("labbook.git_dirty") != "true":
        return b""
    return tracking.download(run, "changes.patch").read_bytes()


def _elsewhere(config: DictConfig, run: RunInfo, changes: Sequence[str], console: Console) -> None:
    """Run it with its own code, in a process whose `src` is that code."""
    commit = run.tags["mlflow.source.git.commit"]
    with _worktree(commit, _patch(run)) as tree:
        if not (tree / "src" / "rerun.py").exists():
            raise UserError(
                f"run {run.id[:8]} is older than this command (commit {commit[:12]}): here=true takes today's code"
            )
        console.print(f"with the code of commit {commit[:12]}", highlight=False)
        own = [f"run={run.id}", "here=true", f"verify={config.verify}".lower(), f"traceback={config.traceback}".lower()]
        # -P: the working directory, which relative paths of data are meant from, holds another src
        command = [sys.executable, "-P", "-m", "src.rerun", *own, *changes]
        paths = [str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "MLFLOW_TRACKING_URI": run.uri}
        code = _wait(subprocess.Popen(command, env=environment))
    if code < 0 or code > 128:
        raise Interrupted(-code if code < 0 else code - 128)
    if code:
        raise (UserError if code == 2 else RunFailed)(f"the code of commit {commit[:12]} could not run it again")


def _wait(process: subprocess.Popen) -> int:
    """Wait until the process has ended, and return its exit code; it gets the signals that this process gets."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal has told it too
            continue
        except Interrupted as stop:
            process.send_signal(stop.signum)


@contextlib.contextmanager
def _worktree(commit: str, patch: bytes) -> Iterator[Path]:
    """A folder with the code of a commit and uncommitted changes; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="labbook-code-") as scratch:
        tree = Path(scratch) / "tree"
        done = _git("worktree", "add", "--detach", str(tree), commit)
        if done.returncode:
            raise UserError(
                f"commit {commit[:12]} is not in this repository: fetch it, or here=true runs with today's code"
            )
        try:
            if patch:
                done = _git("-C", str(tree), "apply", "--whitespace=nowarn", "-", text=patch)
                if done.returncode:
                    reason = done.stderr.decode(errors="replace").strip().splitlines()[-1]
                    raise UserError(
                        f"changes.patch does not fit commit {commit[:12]} ({reason}); here=true runs with today's code"
                    )
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str, text: bytes | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(["git", "-C", str(project.CODE), *arguments], input=text, capture_output=True)
