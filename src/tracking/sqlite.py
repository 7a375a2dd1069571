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
from src.runtime import output
from src.runtime.compat import mlflow_schema as schema

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
        _migrate(fresh, fresh.parent)
        with contextlib.closing(sqlite3.connect(fresh)) as connection:
            if schema.is_known(schema.revision(fresh)):  # else MLflow's own tables as they are
                schema.seed_statistics(connection)
            connection.execute("VACUUM")
            connection.execute("PRAGMA journal_mode=WAL")
        with output.replacing(path) as new:
            shutil.copyfile(fresh, new)


def _migrate(path: Path, artifacts: Path) -> None:
    """Makes a database the way MLflow does."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from src.runtime.compat.mlflow import open_database  # noqa: PLC0415 (not before it is needed: MLflow takes two seconds)

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    open_database(f"sqlite:///{path}", str(artifacts)).engine.dispose()


def ensure(database: Path, artifacts: Path) -> bool:
    """Makes the database at its place if it is absent or empty, and checks that the installed MLflow can use it.

    Returns:
        Whether its tables are known, so that they may be read without MLflow.

    Raises:
        UserError: not a database, of another MLflow version, left half-made, or not writable.
    """
    pattern = template()
    wanted = schema.revision(pattern)
    try:
        if schema.revision(database) == wanted:
            return schema.is_known(wanted)
        with locked(lock_file(database)):
            found = _settled(database, wanted)
            if found == wanted:
                return schema.is_known(wanted)
            if found is None:
                _create(database, artifacts, pattern)
                return schema.is_known(wanted)
            if not found:
                raise UserError(
                    f"{database} holds no complete MLflow store (a first start that was cut short?): "
                    "move it away and run again"
                )
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


def _settled(database: Path, wanted: str | None) -> str | None:
    """The revision once nobody works on the file: an `mlflow ui` started beside us makes it empty, then migrates it."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = schema.revision(database)
        if found == wanted or not database.exists() or time.monotonic() > deadline:
            return found
        if time.time() - _touched(database) > STILL_SECONDS:
            return found
        time.sleep(0.2)


def _touched(database: Path) -> float:
    """Time when the database or its journal was last written."""
    times = [0.0]
    for suffix in ("", "-wal", "-journal"):
        with contextlib.suppress(OSError):
            times.append(database.with_name(database.name + suffix).stat().st_mtime)
    return max(times)


def _create(database: Path, artifacts: Path, pattern: Path) -> None:
    database.parent.mkdir(parents=True, exist_ok=True)
    new = database.with_name(f"{database.name}.new-{os.getpid()}")
    try:
        if schema.is_known(schema.revision(pattern)):
            shutil.copyfile(pattern, new)
            with contextlib.closing(sqlite3.connect(new)) as connection:
                schema.add_default_experiment(connection, artifacts / "0", int(time.time() * 1000))
        else:
            _migrate(new, artifacts)
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
    folder = Path(spec.origin if spec and spec.origin else "").parent / "store" / "db_migrations" / "versions"
    if any(folder.glob(f"{found}_*.py")):
        return (
            f"{database} was written by an older MLflow (schema {found}): copy the file for safety, "
            f"then run `mlflow db upgrade sqlite:///{database}` (installed: {version})"
        )
    whose = f" of MLflow {schema.KNOWN[found]}" if schema.is_known(found) else f"; known are {schema.known()}"
    return (
        f"{database} was written by a newer MLflow (schema {found}{whose}) than the installed {version}: "
        "install that one or name another store with tracking.uri="
    )
