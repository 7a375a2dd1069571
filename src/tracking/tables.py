"""Many runs as one table: read straight from an SQLite store, elsewhere page by page through MLflow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from src.errors import UserError
from src.runtime.compat import mlflow_schema as schema
from src.runtime.compat.mlflow_schema import Long
from src.tracking import sqlite
from src.tracking import store as stores
from src.tracking.lookup import KIND

PAGE = 1000  # runs
BOUNDLESS = 1.7976931348623157e308  # how MLflow stores infinity
SWEEP = "labbook.sweep_id"


def table(
    uri: str | None = None,
    *,
    ids: Sequence[str] | None = None,
    sweep: str | None = None,
    filter: str | None = None,
    constants: bool = True,
    root: Path | None = None,
) -> pd.DataFrame:
    """The runs that are not deleted, a row each by id, the newest first.

    Columns: `name`, `status`, `start` and `end` (milliseconds since 1970; NaN while it runs), and `params.KEY` (text),
    `metrics.KEY` (the latest value, without those of the machine) and `tags.KEY`; NaN where a run has none.

    Args:
        ids: full ids of the runs.
        sweep: id of their sweep.
        filter: in MLflow's words, such as `metrics.`val/accuracy` > 0.9 and tags.purpose = 'baseline'`.
        constants: whether to take the parameters that all of them share.

    Raises:
        UserError: no store, or a filter that cannot be read.
    """
    store = stores.resolve(uri, root)
    if store.database is not None and (not store.database.exists() or not store.database.stat().st_size):
        raise UserError(f"no runs yet: the tracking store {store.database} does not exist")
    if store.database is None or not sqlite.ensure(store.database, store.artifacts):
        return _frame(*_paged(store, ids, _query(sweep, filter)), constants)
    if filter is not None:  # MLflow's grammar is MLflow's
        found = _paged(store, ids, _query(sweep, filter))[0]
        ids, sweep = [run for run, *_ in found], None
    with stores.translated(store):
        tag = (SWEEP, sweep) if sweep else None
        rows = schema.read_runs(store.database, ids, tag=tag, without_tag=KIND, constants=constants)
    return _frame(*rows, constants)


def points(
    uri: str | None, ids: Sequence[str], metric: str | None = None, root: Path | None = None
) -> dict[str, pd.DataFrame]:
    """Values of a metric by run, in the order of their steps: `key`, `step` and `value`; runs without are left out.

    Args:
        metric: None: of all metrics.
    """
    store = stores.resolve(uri, root)
    rows: list[tuple[str, str, int, float]] = []
    with stores.translated(store):
        if store.database is not None and schema.is_known(schema.revision(store.database)):
            rows = schema.read_points(store.database, ids, metric)
        else:
            client = stores.connect(store, create=False)
            for one in ids:
                keys = [metric] if metric is not None else sorted(client.get_run(one).data.metrics)
                found = ((key, point) for key in keys for point in client.get_metric_history(one, key))
                rows += [(one, key, point.step, point.value) for key, point in found]
    long = pd.DataFrame(rows, columns=["id", "key", "step", "value"]).sort_values("step", kind="stable")
    return {one: part[["key", "step", "value"]].reset_index(drop=True) for one, part in long.groupby("id")}


def _query(sweep: str | None, filter: str | None) -> str:
    return " and ".join(filter_ for filter_ in (f"tags.`{SWEEP}` = '{sweep}'" if sweep else None, filter) if filter_)


def _paged(
    store: stores.Store, ids: Sequence[str] | None, query: str
) -> tuple[list[tuple[Any, ...]], Long, Long, Long]:
    client = stores.connect(store, create=False)
    runs, params, metrics, tags = [], [], [], []
    with stores.translated(store):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        token: str | None = None
        while token != "":
            page = client.search_runs(experiments, query, max_results=PAGE, page_token=token)
            for run in page:
                one, info = run.info.run_id, run.info
                if KIND in run.data.tags or (ids is not None and one not in ids):
                    continue
                runs.append((one, info.run_name, info.status, info.start_time, info.end_time))
                params += [(one, key, value) for key, value in run.data.params.items()]
                metrics += [(one, key, value) for key, value in run.data.metrics.items() if key[:7] != "system/"]
                tags += [(one, key, value) for key, value in run.data.tags.items()]
            token = page.token or ""
    return runs, params, metrics, tags


def _frame(runs: list[tuple[Any, ...]], params: Long, metrics: Long, tags: Long, constants: bool) -> pd.DataFrame:
    found = pd.DataFrame(runs, columns=["id", "name", "status", "start", "end"]).set_index("id")
    wide = _wide(params, "params")
    if not constants:
        wide = wide.loc[:, wide.nunique(dropna=False) > 1]
    numbers = _wide(metrics, "metrics").astype(float)
    numbers = numbers.mask(numbers >= BOUNDLESS, math.inf).mask(numbers <= -BOUNDLESS, -math.inf)
    return found.join([wide, numbers, _wide(tags, "tags")]).sort_values("start", ascending=False, kind="stable")


def _wide(rows: Iterable[tuple[str, str, Any]], kind: str) -> pd.DataFrame:
    long = pd.DataFrame(rows, columns=["id", "key", "value"])
    return long.pivot(index="id", columns="key", values="value").add_prefix(f"{kind}.")
