"""Repetition of a tracked run: the same configuration, code and data, and a check of its figures."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from omegaconf import DictConfig
from rich.console import Console

from src import tracking
from src.comparison.diff import Difference, differences
from src.config import compose_saved
from src.data.core.files import data_root
from src.errors import Interrupted, RunFailed, UserError
from src.experiment.resume import saved_config
from src.experiment.run import train
from src.models.load import read
from src.runtime import allocator, own_code, project
from src.runtime.compat.lightning import own_rank
from src.runtime.console import say
from src.tracking import RunInfo
from src.tracking.provenance import LABBOOK, PROJECT, Repository, git_state

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
    if not config.here and (changed := [code for code in _codes(run) if not code.is_here]):
        _elsewhere(config, run, changed, changes, console)
        return
    _tell_version(run, console)
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
        f"{len(apart):,} of {len(joined):,} points differ; {_cause(causes, _changed_code(run))}"
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


def _cause(found: Sequence[Difference], changed_code: str) -> str:
    """What may be the cause, in words: the first differences, then the user's own code where it is another by now."""
    ordered = sorted(found, key=lambda one: CAUSES.index(one.kind))
    causes = "; ".join(f"{one.what} {one.other} instead of {one.one}" for one in ordered[:3])
    parts = [f"the likeliest cause: {causes}"] * bool(causes) + [changed_code] * bool(changed_code)
    return "; ".join(parts) or "nothing that was recorded explains it"


# the run's own code --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Code:
    """Code of a run: a commit with uncommitted changes, of the repository that a folder here lies in."""

    folder: Path
    run: RunInfo
    where: Repository

    @property
    def commit(self) -> str:
        return self.run.tags[self.where.commit]

    @cached_property
    def patch(self) -> bytes:
        if self.run.tags.get(self.where.dirty) != "true":
            return b""
        return tracking.download(self.run, self.where.patch).read_bytes()

    @property
    def is_here(self) -> bool:
        """True if the working tree is what the run ran with."""
        now = git_state(self.folder)
        return now.commit == self.commit and now.patch == self.patch


def _codes(run: RunInfo) -> list[_Code]:
    """Code that was recorded of a run and has a working tree here: its project's, and Labbook's where that is another.

    Of an installation only the version counts: its files are no working tree.

    Raises:
        UserError: the run is of a project of a user's own, and this is none.
    """
    name = run.tags.get("labbook.project")
    if name and project.OWN is None:
        raise UserError(
            f"run {run.id[:8]} was made in the project {name}: run it again there, or with {project.VARIABLE}=FOLDER"
        )
    labbook = project.CODE if project.IN_CHECKOUT else None
    places = [(project.OWN, PROJECT), (labbook, LABBOOK)] if name else [(labbook, PROJECT)]
    return [_Code(folder, run, where) for folder, where in places if folder and where.commit in run.tags]


def _tell_version(run: RunInfo, console: Console) -> None:
    made, now = run.tags.get("labbook.version"), project.version()
    if made not in (None, now) and own_rank() == 0:
        say(console, f"made with labbook {made}; this is {now}")


def _elsewhere(
    config: DictConfig, run: RunInfo, changed: Sequence[_Code], changes: Sequence[str], console: Console
) -> None:
    """Run it with its own code, in a process that takes what has changed from worktrees."""
    shown = " and ".join(f"{code.where.whose}commit {code.commit[:12]}" for code in changed)
    with ExitStack() as stack:
        trees = {code.folder: stack.enter_context(_worktree(code)) for code in changed}
        labbook, own = trees.get(project.CODE, project.CODE), project.OWN and trees.get(project.OWN, project.OWN)
        if not (labbook / "src" / "rerun.py").exists():
            raise UserError(f"run {run.id[:8]} is older than this command ({shown}): here=true takes today's code")
        console.print(f"with the code of {shown}", highlight=False)
        given = [
            f"run={run.id}",
            "here=true",
            f"verify={config.verify}".lower(),
            f"traceback={config.traceback}".lower(),
        ]
        # -P: the working directory, which relative paths of data are meant from, holds another src
        command = [sys.executable, "-P", "-m", "src.rerun", *given, *changes]
        environment = project.environment(os.environ, labbook, own)
        # what lies in the project stays there
        environment |= {"MLFLOW_TRACKING_URI": run.uri, "LABBOOK_DATA_ROOT": str(data_root(None))}
        code = _wait(subprocess.Popen(command, env=environment))
    if code < 0 or code > 128:
        raise Interrupted(-code if code < 0 else code - 128)
    if code:
        raise (UserError if code == 2 else RunFailed)(f"the code of {shown} could not run it again")


def _wait(process: subprocess.Popen) -> int:
    """Wait until the process has ended, and return its exit code; it gets the signals that this process gets."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the terminal has told it too
            continue
        except Interrupted as stop:
            process.send_signal(stop.signum)


@contextmanager
def _worktree(code: _Code) -> Iterator[Path]:
    """The folder with that code in a temporary worktree of its repository; gone afterwards."""
    top = Path(os.fsdecode(_git(code.folder, "rev-parse", "--show-toplevel").stdout.strip()))
    with tempfile.TemporaryDirectory(prefix="labbook-code-") as scratch:
        tree = Path(scratch).resolve() / top.name
        done = _git(top, "worktree", "add", "--detach", str(tree), code.commit)
        if done.returncode:
            raise UserError(
                f"commit {code.commit[:12]} is not in this repository: fetch it, or here=true runs with today's code"
            )
        try:
            if code.patch:
                done = _git(tree, "apply", "--whitespace=nowarn", "-", text=code.patch)
                if done.returncode:
                    reason = done.stderr.decode(errors="replace").strip().splitlines()[-1]
                    raise UserError(
                        f"{code.where.patch} does not fit commit {code.commit[:12]} ({reason}); "
                        "here=true runs with today's code"
                    )
            yield tree / code.folder.relative_to(top)
        finally:
            _git(top, "worktree", "remove", "--force", str(tree))


def _git(folder: Path, *arguments: str, text: bytes | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(["git", "-C", str(folder), *arguments], input=text, capture_output=True)
