"""The tables of MLflow's database: all SQL on them stands here, and only for revisions that were tested.

MLflow has no public way to read thousands of runs at once, to prepare SQLite's planner or to change where files lie.
A revision is that of MLflow's migrations (the table `alembic_version`). With one that is not in `KNOWN` callers take
MLflow's own, slower calls, or refuse in one line.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from src.errors import UserError

# revision: the versions of MLflow whose tables these are
KNOWN = {"dc11669786a5": "3.17", "f4a9b2c7d1e6": "3.18"}
TABLES = {"alembic_version", "experiments", "runs", "metrics", "latest_metrics", "params", "tags"}
# columns that hold the place of files
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
Long = list[tuple[str, str, Any]]  # (run, key, value)


def is_known(revision: str | None) -> bool:
    """True if the SQL here was tested with the tables of this revision."""
    return revision in KNOWN


def known() -> str:
    """`dc11669786a5 of MLflow 3.17, ...`, for an error line."""
    return ", ".join(f"{revision} of MLflow {versions}" for revision, versions in KNOWN.items())


def revision(database: Path) -> str | None:
    """The revision of a file: None where there is no file or no table in it, `` for tables without a revision."""
    if not database.exists() or database.stat().st_size == 0:
        return None
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=20)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if not tables:
            return None
        if not tables >= TABLES:
            return ""
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return row[0] if row else ""


def require_known(database: Path, what: str) -> None:
    """Refuse what would need SQL on tables that were not tested.

    Raises:
        UserError: names the revision and those that are known.
    """
    found = revision(database)
    if not is_known(found):
        raise UserError(f"{database}: {what} needs a known schema of MLflow, not {found or 'none'} (known: {known()})")


def engine_is_known(engine: Any) -> bool:
    """The same as `is_known` for an SQLAlchemy engine of any database."""
    from sqlalchemy import text

    with engine.connect() as connection:
        return is_known(connection.execute(text("SELECT version_num FROM alembic_version")).scalar())


def stored_steps(engine: Any, run: str, key: str) -> list[int]:
    """The steps at which a run has a metric: a million of them as rows instead of a million objects."""
    from sqlalchemy import text

    query = text("SELECT DISTINCT step FROM metrics WHERE run_uuid = :run AND metrics.key = :key")
    with engine.connect() as connection:
        return [row[0] for row in connection.execute(query, {"run": run, "key": key})]


def clear_end_time(engine: Any, run: str) -> None:
    """Let a run that goes on have no end, as MLflow's own calls cannot."""
    from sqlalchemy import text

    with engine.begin() as connection:
        connection.execute(text("UPDATE runs SET end_time = NULL WHERE run_uuid = :run"), {"run": run})


def add_default_experiment(connection: sqlite3.Connection, place: Path, now: int) -> None:
    """Add the experiment that each store has, its files under `place`; `now` in milliseconds since 1970."""
    connection.execute(
        "INSERT INTO experiments"
        "(experiment_id,name,artifact_location,lifecycle_stage,creation_time,last_update_time)"
        " VALUES (0,'Default',?,'active',?,?)",
        (str(place), now, now),
    )
    connection.commit()


def seed_statistics(connection: sqlite3.Connection, runs: int = 400) -> None:
    """Tell SQLite's planner what a store looks like: ANALYZE over rows of a usual shape, which are then removed.

    Without statistics `search_runs` over 10,000 runs takes seconds, with them a tenth of one.
    """
    experiments: list[tuple[Any, ...]] = [(i, f"e{i}", "", "active", 0, 0) for i in range(4)]
    ids = [f"{i:032x}" for i in range(runs)]
    rows: dict[str, list[tuple[Any, ...]]] = {
        "experiments(experiment_id,name,artifact_location,lifecycle_stage,creation_time,last_update_time)": experiments,
        "runs(run_uuid,name,status,start_time,end_time,lifecycle_stage,artifact_uri,experiment_id)": [
            (run, f"name{i}", "FINISHED", i, i, "active", f"a/{run}", i % 4) for i, run in enumerate(ids)
        ],
        "tags(key,value,run_uuid)": [(f"t{k}", f"v{i % 50}", run) for i, run in enumerate(ids) for k in range(25)],
        "params(key,value,run_uuid)": [(f"p{k}", f"v{i % 9}", run) for i, run in enumerate(ids) for k in range(60)],
        "latest_metrics(key,value,timestamp,step,is_nan,run_uuid)": [
            (f"m{k}", float(i), i, 9, 0, run) for i, run in enumerate(ids) for k in range(20)
        ],
        "metrics(key,value,timestamp,step,is_nan,run_uuid)": [
            (f"m{k}", float(i), s, s, 0, run) for i, run in enumerate(ids) for k in range(20) for s in range(20)
        ],
        "datasets(dataset_uuid,experiment_id,name,digest,dataset_source_type,dataset_source)": [
            (f"d{i}", i % 4, f"n{i}", f"{i}", "local", "{}") for i in range(8)
        ],
        "inputs(input_uuid,source_type,source_id,destination_type,destination_id)": [
            (f"i{i}", "DATASET", f"d{i % 8}", "RUN", run) for i, run in enumerate(ids)
        ],
        "input_tags(input_uuid,name,value)": [(f"i{i}", "mlflow.data.context", "training") for i in range(runs)],
    }
    tables = [header.partition("(")[0] for header in rows]
    for table in tables:
        connection.execute(f"DELETE FROM {table}")
    for header, values in rows.items():
        marks = ",".join("?" * (header.count(",") + 1))
        connection.executemany(f"INSERT INTO {header} VALUES ({marks})", values)
    connection.execute("ANALYZE")
    for table in reversed(tables):
        connection.execute(f"DELETE FROM {table}")
    connection.commit()


def read_points(database: Path, ids: Sequence[str], metric: str | None) -> list[tuple[str, str, int, float]]:
    """(run, key, step, value) of all points of a metric, or of all metrics, in the order in which they were stored."""
    where = f"run_uuid IN ({','.join('?' * len(ids))})" + ("" if metric is None else " AND key = ?")
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return connection.execute(
            "SELECT run_uuid, key, step, CASE is_nan WHEN 1 THEN NULL ELSE value END FROM metrics"
            f" WHERE {where} ORDER BY timestamp",
            (*ids, *([] if metric is None else [metric])),
        ).fetchall()


def read_runs(
    database: Path,
    ids: Sequence[str] | None,
    *,
    tag: tuple[str, str] | None,
    without_tag: str,
    constants: bool,
) -> tuple[list[tuple[Any, ...]], Long, Long, Long]:
    """Runs that are not deleted: (id, name, status, start, end) of each; parameters, latest metrics and tags of all.

    Args:
        ids: full ids of the runs; None: all, or those of `tag`.
        tag: key and value that a run must have.
        without_tag: key that it must not have.
        constants: whether to take the parameters that all of them share.
    """
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        _choose(connection, ids, tag, without_tag)
        (count,) = connection.execute("SELECT COUNT(*) FROM chosen").fetchone()
        runs = connection.execute(
            "SELECT run_uuid, name, status, start_time, end_time FROM runs JOIN chosen USING (run_uuid)"
        )
        varying: str = ""
        keys: tuple[str, ...] = ()
        if not constants:
            found = connection.execute(
                "SELECT key FROM params JOIN chosen USING (run_uuid) GROUP BY key"
                " HAVING MIN(value) <> MAX(value) OR COUNT(*) < ?",
                (count,),
            )
            keys = tuple(key for (key,) in found)
            varying = f"WHERE key IN ({','.join('?' * len(keys))})"
        params = connection.execute(
            f"SELECT run_uuid, key, value FROM params JOIN chosen USING (run_uuid) {varying}", keys
        )
        metrics = connection.execute(
            "SELECT run_uuid, key, CASE is_nan WHEN 1 THEN NULL ELSE value END FROM latest_metrics"
            " JOIN chosen USING (run_uuid) WHERE key NOT LIKE 'system/%'"
        )
        tags = connection.execute("SELECT run_uuid, key, value FROM tags JOIN chosen USING (run_uuid)")
        return runs.fetchall(), params.fetchall(), metrics.fetchall(), tags.fetchall()


def _choose(
    connection: sqlite3.Connection, ids: Sequence[str] | None, tag: tuple[str, str] | None, without_tag: str
) -> None:
    """Fill the temporary table `chosen` with the ids of the runs."""
    connection.execute("CREATE TEMP TABLE chosen (run_uuid VARCHAR(32) PRIMARY KEY)")
    if ids is not None:
        connection.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", [(run,) for run in ids])
    elif tag is not None:
        query = "INSERT OR IGNORE INTO chosen SELECT run_uuid FROM tags WHERE key = ? AND value = ?"
        connection.execute(query, tag)
    else:
        connection.execute("INSERT OR IGNORE INTO chosen SELECT run_uuid FROM runs")
    connection.execute(
        "DELETE FROM chosen WHERE run_uuid NOT IN (SELECT run_uuid FROM runs JOIN experiments USING (experiment_id)"
        " WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active')"
        " OR run_uuid IN (SELECT run_uuid FROM tags WHERE key = ?)",
        (without_tag,),
    )


def stages_and_places(database: Path) -> Mapping[str, tuple[str, str]]:
    """Stage (`active` or `deleted`) and artifact folder of every run, also of a deleted one."""
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        rows = connection.execute("SELECT run_uuid, lifecycle_stage, artifact_uri FROM runs")
        return {run: (stage, place) for run, stage, place in rows}


def newest_place(database: Path) -> str | None:
    """Artifact folder of the newest run; None where there is no run."""
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        row = connection.execute("SELECT artifact_uri FROM runs ORDER BY start_time DESC LIMIT 1").fetchone()
    return None if row is None else row[0]


def move_places(database: Path, old: str, new: str) -> int:
    """Have all places under one folder lie under another; returns how many were changed, all of them or none.

    Places that lie under the new folder already, where that is inside the old one, stay as they are.
    """
    changed = 0
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        for table, column in PLACES:
            for before, after in ((old, new), (f"file://{quote(old)}", f"file://{quote(new)}")):
                moved = after if after.startswith(f"{before}/") else ""
                cursor = connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                    f" AND (? = '' OR substr({column}, 1, ?) <> ?)",
                    (
                        *(f"{after}/", len(before) + 2, len(before) + 1, f"{before}/"),
                        *(moved, len(after) + 1, f"{after}/"),
                    ),
                )
                changed += cursor.rowcount
    return changed
