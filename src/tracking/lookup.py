"""Finding a run by what a person types, and fetching its files; imports MLflow into the calling process."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from src.errors import UserError, suggest
from src.metrics import modes
from src.runtime import invocation
from src.tracking import store as stores
from src.tracking.abandoned import LOCK_SECONDS, mark_abandoned
from src.tracking.artifacts import local_directory

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SHOWN = 5  # candidates in an error line
PAGE = 10  # runs
KIND, SWEEP = "labbook.kind", "sweep"  # the tag of the run that a whole sweep has


@dataclass(frozen=True)
class RunInfo:
    """A stored run. `directory` is its local artifact folder, which may be empty for a run made elsewhere."""

    id: str
    experiment_id: str
    name: str
    status: str
    start: float  # seconds since 1970
    directory: Path
    uri: str = field(repr=False)
    tags: dict[str, str] = field(repr=False)
    params: dict[str, str] = field(repr=False)
    metrics: dict[str, float] = field(repr=False)


def find_run(reference: str, uri: str | None = None, root: Path | None = None) -> RunInfo:
    """The run that a full id, a unique beginning of an id, `last` or `best:METRIC` names; imports MLflow.

    Raises:
        UserError: no such run, or several.
    """
    reference = str(reference).strip()
    store = stores.resolve(uri, root)
    client = stores.connect(store, create=False)
    with stores.translated(store):
        experiments = [e.experiment_id for e in client.search_experiments()]
        newest = list(islice(_trained(client, experiments, order_by=["attributes.start_time DESC"]), SHOWN))
        if not newest:
            raise UserError(f"no runs yet in {store.shown}")
        if reference == "last":
            return _info(store, newest[0])
        if reference.startswith("best:"):
            return _info(store, _best(client, experiments, reference.removeprefix("best:"), store))
        if not re.fullmatch(r"[0-9A-Za-z][\w-]*", reference):
            raise UserError(
                f"run {reference!r} is not a run id: give an id, its beginning, last or best:METRIC{_choices(newest)}"
            )
        pattern = reference.replace("_", r"\_")
        named = f"attributes.run_id LIKE '{pattern}%'"
        found = list(islice(_trained(client, experiments, filter_string=named), SHOWN + 1))
        found = found or _refuse_sweep(client.search_runs(experiments, named, max_results=1))
    exact = [run for run in found if run.info.run_id == reference]
    found = exact or [run for run in found if run.info.run_id.startswith(reference)]
    if len(found) == 1:
        return _info(store, found[0])
    if found:
        raise UserError(f"run {reference!r} is ambiguous{_choices(found)}")
    raise UserError(f"run {reference!r} is not in {store.shown}{_choices(newest)}")


def _best(client: MlflowClient, experiments: list[str], metric: str, store: stores.Store) -> Run:
    """The finished run with the best value of a metric; of one that has a value each epoch, the best of those."""
    better = modes.mode_of(metric) or _recorded_mode(client, experiments, metric)
    if better is None:
        name = metric.rpartition("/")[2].removesuffix("_best")
        raise UserError(f"run=best:{metric}: {name} is no metric of a task{suggest(name, modes.MODES)}")
    order = "DESC" if better == "max" else "ASC"
    for key in (f"{metric}_best", metric):
        ordered = [f"metrics.`{key}` {order}"]
        found = _trained(client, experiments, filter_string="attributes.status = 'FINISHED'", order_by=ordered)
        for run in islice(found, SHOWN):
            if math.isfinite(run.data.metrics.get(key, math.nan)):
                return run
    raise UserError(f"run=best:{metric}: no finished run in {store.shown} has it; write val/accuracy or test/rmse")


def _recorded_mode(client: MlflowClient, experiments: list[str], metric: str) -> modes.Mode | None:
    """The mode of a metric that the table lacks, as the newest run of its task has recorded it."""
    name = metric.rpartition("/")[2].removesuffix("_best")
    if not re.fullmatch(r"[\w. -]+", name):
        return None
    known = f"tags.`{modes.TAG}` LIKE '%\"{name}\": %'"
    runs = _trained(client, experiments, filter_string=known, order_by=["attributes.start_time DESC"])
    found = (modes.mode_of(metric, modes.read_tag(run.data.tags)) for run in runs)
    return next(filter(None, found), None)


def _trained(
    client: MlflowClient, experiments: list[str], filter_string: str = "", order_by: list[str] | None = None
) -> Iterator[Run]:
    """The runs of a query, page by page, but for those of whole sweeps: no filter finds runs without a tag."""
    token = None
    while token != "":
        page = client.search_runs(experiments, filter_string, max_results=PAGE, order_by=order_by, page_token=token)
        yield from (run for run in page if run.data.tags.get(KIND) != SWEEP)
        token = page.token or ""


def run_of_sweep(run: str, uri: str | None = None) -> RunInfo:
    """The run that a whole sweep has of its own, by its full id; imports MLflow.

    Raises:
        UserError: there is no such run.
    """
    store = stores.resolve(uri)
    client = stores.connect(store, create=False)
    with stores.translated(store):
        return _info(store, client.get_run(run))


def _refuse_sweep(found: Sequence[Run]) -> list[Run]:
    """Says so where what was asked for is the run of a whole sweep."""
    for run in found:
        sweep = run.data.tags.get("labbook.sweep_id")
        raise UserError(
            f"run {run.info.run_id[:8]} is that of a whole sweep, and no training: name one of its jobs' runs, which "
            f"`{invocation.command('sweep')} status {sweep}` shows"
        )
    return []


def sweep_runs(sweep: str, uri: str | None = None) -> dict[int, tuple[str, str]]:
    """Id and status of the newest run of each job of a sweep, by the job's number; imports MLflow."""
    store = stores.resolve(uri)
    client = stores.connect(store)
    newest: dict[int, tuple[str, str]] = {}
    with stores.translated(store):
        experiments = [e.experiment_id for e in client.search_experiments()]
        token = None
        while token != "":
            page = client.search_runs(
                experiments,
                f"tags.`labbook.sweep_id` = '{sweep}'",
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for run in page:
                if (number := run.data.tags.get("labbook.sweep_job")) is not None:
                    newest[int(number)] = run.info.run_id, run.info.status
            token = page.token or ""
    return newest


def end_abandoned(runs: Sequence[str], uri: str | None = None) -> None:
    """Marks as KILLED those of these runs that are RUNNING and that no process writes any more; imports MLflow."""
    store = stores.resolve(uri)
    client = stores.connect(store, create=False)
    with stores.translated(store):
        for run in map(client.get_run, runs):
            if run.info.status == "RUNNING":
                mark_abandoned(client, store, run, LOCK_SECONDS)


def download(run: RunInfo, path: str) -> Path:
    """The local copy of an artifact, fetched from the store where it is not local already.

    Raises:
        UserError: the run has no such artifact.
    """
    place = run.directory / path
    if not place.resolve().is_relative_to(run.directory.resolve()):
        raise UserError(f"artifact path {path!r} leads out of the run")
    if place.exists():
        return place
    client = stores.connect(stores.resolve(run.uri), create=False)
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 (not before it is needed: MLflow takes two seconds)

    with tempfile.TemporaryDirectory(prefix="labbook-") as scratch:
        try:
            fetched = Path(client.download_artifacts(run.id, path, scratch))
        except (MlflowException, OSError):
            raise UserError(_missing(client, run, path)) from None
        if not fetched.exists() or (fetched.is_dir() and not any(fetched.iterdir())):
            raise UserError(_missing(client, run, path))
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{place.name}.tmp")
        shutil.copytree(fetched, new) if fetched.is_dir() else shutil.copyfile(fetched, new)
        new.rename(place)
    return place


def artifact_text(run: RunInfo, path: str) -> str:
    """Text of an artifact; empty where the run, made by other means, has none."""
    try:
        return download(run, path).read_text(encoding="utf-8", errors="replace")
    except UserError:
        return ""


def attach(run: RunInfo, folder: str) -> None:
    """Makes the files of a folder in a finished run's directory artifacts of it, wherever its store keeps them."""
    store = stores.resolve(run.uri)
    client = stores.connect(store, create=False)
    with stores.translated(store):
        _, same = local_directory(store, client.get_run(run.id).info.artifact_uri, run.id)
        if not same:
            client.log_artifacts(run.id, str(run.directory / folder), folder)


def _missing(client: MlflowClient, run: RunInfo, path: str) -> str:
    """Error for a file that a run lacks, with why that may be."""
    if "labbook.config_hash" not in run.tags:
        why = ": it was not made by this project"
    elif path.startswith("checkpoints/"):
        why = f": it is {run.status} and has no weights of a validated epoch"
    else:
        why = _siblings(client, run.id, path)
    return f"run {run.id} has no artifact {path}{why}"


def _siblings(client: MlflowClient, run_id: str, path: str) -> str:
    folder = str(Path(path).parent)
    try:
        names = [f.path for f in client.list_artifacts(run_id, None if folder == "." else folder)]
    except Exception:  # noqa: BLE001 (only a hint in an error line)
        return ""
    return f" (it has {', '.join(sorted(names)[:10])})" if names else ""


def _info(store: stores.Store, run: Run) -> RunInfo:
    directory, _ = local_directory(store, run.info.artifact_uri, run.info.run_id)
    return RunInfo(
        id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name,
        status=run.info.status,
        start=run.info.start_time / 1000,
        directory=directory,
        uri=store.uri,
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )


def _choices(runs: Sequence[Run]) -> str:
    lines = [
        f"{run.info.run_id[:8]} {run.info.run_name} {datetime.fromtimestamp(run.info.start_time / 1000):%Y-%m-%d %H:%M}"
        for run in runs[:SHOWN]
    ]
    return f" (there are: {'; '.join(lines)})"
