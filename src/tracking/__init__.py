"""Tracking: a process of its own writes each run to MLflow, so training neither waits for the store nor imports it.

run = tracking.start(config=config, overrides=overrides, name=None, tags={})
run.log_points([("train/loss", 0.3, 10)])
run.finish("FINISHED")
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.runtime import invocation

if TYPE_CHECKING:
    from src.tracking.lookup import RunInfo
    from src.tracking.run import Run, Untracked

__all__ = [
    *("attach", "config_hash", "default_name", "download", "end_abandoned", "find_run", "keep_warm", "place"),
    *("points", "prepare", "run_of_sweep", "shared", "start", "sweep_runs", "table"),
]


def prepare() -> None:
    """Lets the next run's writer process start up now, in parallel with whatever comes before `start`."""
    from src.tracking.writer.client import prepare

    prepare()


def keep_warm() -> None:
    """Lets the writers of later runs start up in no time, also those of processes that are forked from this one."""
    from src.tracking.writer.client import keep_warm

    keep_warm()


def __getattr__(name: str) -> Any:
    if name in ("Run", "Untracked"):
        from src.tracking import run

        return getattr(run, name)
    if name in ("points", "table"):
        from src.tracking import tables

        return getattr(tables, name)
    if name == "RunInfo":
        from src.tracking.lookup import RunInfo

        return RunInfo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def start(
    *,
    config: dict[str, Any],
    overrides: list[str],
    name: str | None = None,
    tags: dict[str, str] | None = None,
    resume: str | None = None,
    enabled: bool = True,
    uri: str | None = None,
    experiment: str = "labbook",
    system_metrics: bool = True,
    system_metrics_interval: float = 10.0,
    flush_seconds: float = 2.0,
    patience: float = 60.0,
    nested: bool = False,
    active: bool = True,
    root: Path | None = None,
) -> Run | Untracked:
    """Begins a run and returns at once; the store is opened meanwhile by the run's writer process.

    Args:
        config: the resolved config as plain containers; all of it becomes parameters and config.yaml.
        overrides: what the user typed; kept as overrides.yaml and, joined, the run's default name.
        resume: the full id of a run to continue; points that it already holds are not stored again.
        enabled: False gives the same interface with a directory and no store.
        uri: the tracking URI; else MLFLOW_TRACKING_URI; else mlflow.db at the root.
        system_metrics_interval: seconds between two samples of the machine.
        flush_seconds: how long a point may wait before it is stored.
        patience: seconds that the end of a run may wait for a store that does not answer.
        nested: a sweep's job becomes a child of the sweep's own run, of which LABBOOK_SWEEP_RUN holds the id.
        active: whether a plain `mlflow.log_metric()` lands in this run.
        root: the project's root, where mlflow.db and mlruns/ are.

    Raises:
        UserError: the URI names no usable kind of store. What only opening it shows is raised by `run.id`.
    """
    from src.tracking import store
    from src.tracking.run import Run, Untracked

    root = Path(root or store.PROJECT_ROOT).resolve()
    if not enabled:
        return Untracked(root)
    where = store.resolve(uri, root)
    options = {
        "uri": where.uri,
        "store_root": str(where.root),
        "database": where.database and str(where.database),
        "root": str(root),
        "experiment": experiment,
        "config": config,
        "overrides": list(overrides),
        "name": name,
        "tags": {k: str(v) for k, v in (tags or {}).items()},
        "resume": resume,
        "system_metrics": system_metrics,
        "system_metrics_interval": system_metrics_interval,
        "flush_seconds": flush_seconds,
        "patience": patience,
        "nested": nested,
        "active": active,
        "command": invocation.typed(),
        "script": sys.argv[0],
    }
    return Run(where, options)


def find_run(reference: str, uri: str | None = None, root: Path | None = None) -> RunInfo:
    """The run that a full id, a unique beginning of an id, `last` or `best:METRIC` names; imports MLflow.

    Raises:
        UserError: no such run, or several.
    """
    from src.tracking.lookup import find_run

    return find_run(reference, uri, root)


def run_of_sweep(run: str, uri: str | None = None) -> RunInfo:
    """The run that a whole sweep has of its own, by its full id; imports MLflow.

    Raises:
        UserError: there is no such run.
    """
    from src.tracking.lookup import run_of_sweep

    return run_of_sweep(run, uri)


def place(uri: str | None = None, *, enabled: bool = True, root: Path | None = None) -> Path:
    """The folder under which the files of such runs lie on this machine.

    Raises:
        UserError: the URI names no usable kind of store.
    """
    from src.tracking import store

    root = Path(root or store.PROJECT_ROOT).resolve()
    return store.resolve(uri, root).artifacts if enabled else root / "mlruns" / "untracked"


def sweep_runs(sweep: str, uri: str | None = None) -> dict[int, tuple[str, str]]:
    """Id and status of the newest run of each job of a sweep, by the job's number; imports MLflow."""
    from src.tracking.lookup import sweep_runs

    return sweep_runs(sweep, uri)


def end_abandoned(runs: Sequence[str], uri: str | None = None) -> None:
    """Marks as KILLED those of these runs that are RUNNING and that no process writes any more; imports MLflow."""
    from src.tracking.lookup import end_abandoned

    end_abandoned(runs, uri)


def shared(uri: str | None = None) -> bool:
    """Whether several machines can write to the store: a database server or a tracking server, not a file."""
    from src.tracking import store

    return store.resolve(uri).database is None


def download(run: RunInfo, path: str) -> Path:
    """The local copy of an artifact, fetched from the store where it is not local already.

    Raises:
        UserError: the run has no such artifact.
    """
    from src.tracking.lookup import download

    return download(run, path)


def attach(run: RunInfo, folder: str) -> None:
    """Makes the files of a folder in a finished run's directory artifacts of it."""
    from src.tracking.lookup import attach

    attach(run, folder)


def config_hash(config: dict[str, Any]) -> str:
    """sha256 of a resolved config without the keys that do not change the result."""
    from src.tracking.provenance import config_hash

    return config_hash(config)


def default_name(config: dict[str, Any], overrides: list[str]) -> str:
    """What a run of these overrides is called: `lr=0.1,width=64`, or `cnn-digits` where there are none."""
    from src.tracking.provenance import default_name

    return default_name(config, overrides)
