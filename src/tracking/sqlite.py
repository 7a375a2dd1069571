"""The SQLite store: made once, under a lock, from a template that holds MLflow's tables and planner statistics.

MLflow migrates a fresh database for seconds and breaks when two processes do so at once. Here one migrated database of
the installed MLflow version is kept beside the environment, and a new store is a copy of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from src.errors import UserError

SETTLE_SECONDS = 60.0  # how long another program may take to finish a database that it is creating
STILL_SECONDS = 6.0  # a database untouched for so long is nobody's work in progress


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock between processes; the file stays, since removing it would let two in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def lock_file(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


def template() -> Path:
    """The template of the installed MLflow version; the first call builds it (about 5 s)."""
    name = f"mlflow-{importlib.metadata.version('mlflow')}.db"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = [Path(sys.prefix) / "share" / "labbook", cache / "labbook"]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    for folder in folders:
        with contextlib.suppress(OSError), locked(folder / f"{name}.lock"):
            if not (folder / name).is_file():
                _build_template(folder / name)
            return folder / name
    raise UserError(
        f"cannot write MLflow's database template to {folders[0]} or {folders[1]}: no space or no permission"
    )


def _build_template(path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="labbook-") as scratch:
        fresh = Path(scratch) / "mlflow.db"
        _migrate(fresh)
        with contextlib.closing(sqlite3.connect(fresh)) as connection:
            _seed_statistics(connection)
            connection.execute("VACUUM")
            connection.execute("PRAGMA journal_mode=WAL")
        new = path.with_name(f"{path.name}.new-{os.getpid()}")
        shutil.copyfile(fresh, new)
        os.replace(new, path)


def _migrate(path: Path) -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    store = SqlAlchemyStore(f"sqlite:///{path}", str(path.parent))
    store.engine.dispose()


def _seed_statistics(connection: sqlite3.Connection, runs: int = 400) -> None:
    """Lets SQLite's planner know what a store looks like: ANALYZE over rows of a usual shape, which are then removed.

    Without statistics `search_runs` over 10,000 runs takes seconds, with them a tenth of one.
    """
    experiments = [(i, f"e{i}", "", "active", 0, 0) for i in range(4)]
    ids = [f"{i:032x}" for i in range(runs)]
    rows = {
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


def ensure(database: Path, artifacts: Path) -> None:
    """Makes the database at its place if it is absent or empty, and checks that the installed MLflow can use it.

    Raises:
        UserError: not a database, of another MLflow version, left half-made, or not writable.
    """
    pattern = template()
    wanted = _revision(pattern)
    try:
        if _revision(database) == wanted:
            return
        with locked(lock_file(database)):
            found = _settled(database, wanted)
            if found == wanted:
                return
            if found is None:
                _create(database, artifacts, pattern)
            elif not found:
                raise UserError(
                    f"{database} holds no complete MLflow store (a first start that was cut short?): "
                    "move it away and run again"
                )
            else:
                raise UserError(_version_message(database, found))
    except sqlite3.OperationalError as error:
        raise UserError(
            f"the tracking store {database} cannot be opened: {error}; tracking.uri= names another"
        ) from None
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{database} cannot be read as an SQLite database ({error}): move it away or name another store"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write the tracking store {database}: {error.strerror}; tracking.uri= names another"
        ) from None


def _revision(database: Path) -> str | None:
    """Schema revision: None where there is no file or no table in it, `` for tables without MLflow's revision."""
    if not database.exists() or database.stat().st_size == 0:
        return None
    with contextlib.closing(
        sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=20)
    ) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if not tables:
            return None
        if not {"alembic_version", "experiments", "runs", "metrics", "latest_metrics", "params", "tags"} <= tables:
            return ""
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return row[0] if row else ""


def _settled(database: Path, wanted: str | None) -> str | None:
    """The revision once nobody works on the file: an `mlflow ui` started beside us makes it empty, then migrates it."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = _revision(database)
        if found == wanted or not database.exists() or time.monotonic() > deadline:
            return found
        if time.time() - _touched(database) > STILL_SECONDS:
            return found
        time.sleep(0.2)


def _touched(database: Path) -> float:
    """When the database or its journal was last written."""
    times = [0.0]
    for suffix in ("", "-wal", "-journal"):
        with contextlib.suppress(OSError):
            times.append(database.with_name(database.name + suffix).stat().st_mtime)
    return max(times)


def _create(database: Path, artifacts: Path, pattern: Path) -> None:
    database.parent.mkdir(parents=True, exist_ok=True)
    new = database.with_name(f"{database.name}.new-{os.getpid()}")
    try:
        shutil.copyfile(pattern, new)
        now = int(time.time() * 1000)
        with contextlib.closing(sqlite3.connect(new)) as connection:
            connection.execute(
                "INSERT INTO experiments"
                "(experiment_id,name,artifact_location,lifecycle_stage,creation_time,last_update_time)"
                " VALUES (0,'Default',?,'active',?,?)",
                (str(artifacts / "0"), now, now),
            )
            connection.commit()
        if database.exists():  # empty, and perhaps open in another program: fill it where it is
            with (
                contextlib.closing(sqlite3.connect(new)) as source,
                contextlib.closing(sqlite3.connect(database)) as place,
            ):
                source.backup(place)
        else:
            os.replace(new, database)
    finally:
        for left in database.parent.glob(f"{new.name}*"):
            left.unlink(missing_ok=True)


def _version_message(database: Path, found: str) -> str:
    version = importlib.metadata.version("mlflow")
    spec = importlib.util.find_spec("mlflow")
    folder = Path(spec.origin).parent / "store" / "db_migrations" / "versions"
    if any(folder.glob(f"{found}_*.py")):
        return (
            f"{database} was written by an older MLflow (schema {found}): copy the file for safety, "
            f"then run `mlflow db upgrade sqlite:///{database}` (installed: {version})"
        )
    return (
        f"{database} was written by a newer MLflow (schema {found}) than the installed {version}: "
        "install that one or name another store with tracking.uri="
    )
