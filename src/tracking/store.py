"""Choice of the tracking store, and opening it: the argument, MLFLOW_TRACKING_URI, or mlflow.db at the root.

`python -m src.tracking.store` prepares the SQLite template, so that the first run need not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from src.errors import UserError
from src.runtime import project
from src.runtime.format import first_line
from src.tracking import sqlite, ui_views
from src.tracking.redaction import redact, secrets_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROJECT_ROOT = project.ROOT
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
DRIVERS = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
REACH_SECONDS = 2.0


@dataclass(frozen=True)
class Store:
    """One tracking store.

    Attributes:
        uri: as MLflow takes it, absolute, password included; `shown` is what may be printed or stored.
        root: folder under which local artifacts lie, in `mlruns/`.
        database: the SQLite file, or None for a server.
    """

    uri: str
    root: Path
    database: Path | None = None

    @property
    def artifacts(self) -> Path:
        """The folder that holds the files of all runs."""
        return self.root / "mlruns"

    @property
    def shown(self) -> str:
        """The address without its password."""
        return redact(self.uri, secrets_of(self.uri, {}))

    @property
    def is_server(self) -> bool:
        """True if an MLflow server answers, not a database."""
        return self.uri.startswith(("http://", "https://", "databricks"))


def resolve(uri: str | None = None, root: Path | None = None) -> Store:
    """The store that an argument, the environment or the default names; nothing is opened.

    Raises:
        UserError: a file store, or an SQLite address without a file.
    """
    root = Path(root or PROJECT_ROOT).resolve()
    uri = str(uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}").strip()
    scheme = urlsplit(uri).scheme.lower()
    if scheme.partition("+")[0] == "sqlite":
        head, _, rest = uri.partition(":///")
        name, _, query = rest.partition("?")
        if not name or name == ":memory:" or name.startswith("file:"):
            raise UserError(f"tracking.uri={uri}: a run needs a database file, such as sqlite:///{root / 'mlflow.db'}")
        database = Path(name).absolute()
        uri = f"{head}:///{database}" + (f"?{query}" if query else "")
        return Store(uri, database.parent, database)
    if scheme in ("", "file") and uri != "databricks":
        place = Path(re.sub(r"^file:(//)?", "", uri)).absolute()
        raise UserError(
            f"tracking.uri={uri} names a folder, a kind of store that MLflow gave up: "
            f"use sqlite:///{place.parent / 'mlflow.db'} or a server's http://HOST:5000"
        )
    return Store(uri.rstrip("/") if scheme in ("http", "https") else uri, root)


def place(uri: str | None = None, *, enabled: bool = True, root: Path | None = None) -> Path:
    """The folder under which the files of such runs lie on this machine.

    Raises:
        UserError: the URI names no usable kind of store.
    """
    root = Path(root or PROJECT_ROOT).resolve()
    return resolve(uri, root).artifacts if enabled else root / "mlruns" / "untracked"


def shared(uri: str | None = None) -> bool:
    """True if several machines can write to the store: a database server or a tracking server, not a file."""
    return resolve(uri).database is None


def quiet() -> None:
    """Sets what MLflow reads when it is imported: no telemetry, few retries, no log lines of its own."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def reach(store: Store) -> None:
    """Answers within seconds whether the store is there; MLflow itself would try for minutes.

    Raises:
        UserError: one line with the address and the reason.
    """
    parts = urlsplit(store.uri)
    kind = parts.scheme.partition("+")[0].lower()
    try:
        if kind in ("http", "https"):
            _ask_health(store)
        elif kind in DATABASE_PORTS and parts.hostname:
            socket.create_connection((parts.hostname, parts.port or DATABASE_PORTS[kind]), REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        reason = "no answer within 2 s" if isinstance(reason, TimeoutError) else reason
        raise UserError(
            f"tracking server {store.shown} cannot be reached ({reason}): start it or set tracking.uri="
        ) from None


def _ask_health(store: Store) -> None:
    parts = urlsplit(store.uri)
    host = parts.netloc.rpartition("@")[2]
    context = None
    if parts.scheme == "https" and os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() == "true":
        context = ssl.create_default_context()  # the user asked MLflow itself for the same
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Any answer counts, a 404 too: hosted trackers have no /health.
    with contextlib.suppress(urllib.error.HTTPError):
        address = f"{parts.scheme}://{host}{parts.path}/health"
        urllib.request.urlopen(address, timeout=REACH_SECONDS, context=context).close()


def connect(store: Store, *, create: bool = True) -> MlflowClient:
    """A client of the store, which exists afterwards; imports MLflow.

    Raises:
        UserError: unreachable, unusable, of another MLflow version, or (with create=False) absent.
    """
    quiet()
    if store.database and not create and not (store.database.exists() and store.database.stat().st_size):
        raise UserError(f"no runs yet: the tracking store {store.database} does not exist")
    if store.database:
        sqlite.ensure(store.database, store.artifacts)
    else:
        reach(store)
    with translated(store):
        members = mlflow_members()
        quiet()  # importing MLflow sets up its loggers
        members.retry_less(2)
        if not store.is_server:
            open_database(store)
        return members.MlflowClient(store.uri, registry_uri=store.uri)


def open_database(store: Store) -> Any:  # noqa: ANN401 (MLflow is not imported here)
    """MLflow's own access to a database, for what its client cannot do."""
    return mlflow_members().open_database(store.uri, str(store.artifacts))


def mlflow_members() -> Any:  # noqa: ANN401 (MLflow is not imported here)
    """`src.runtime.compat.mlflow`: this package's lazy boundary, since training must not wait for MLflow's import."""
    from src.runtime.compat import mlflow  # noqa: PLC0415 (not before it is needed: MLflow takes two seconds)

    return mlflow


@contextlib.contextmanager
def translated(store: Store) -> Iterator[None]:
    """Turns what MLflow and its drivers raise into one line for the user."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except ModuleNotFoundError as error:
        kind = urlsplit(store.uri).scheme
        package = DRIVERS.get(error.name or "", error.name)
        message = f"tracking.uri={store.shown}: the driver for {kind} is not installed: pip install {package}"
        raise UserError(message) from None
    except Exception as error:  # noqa: BLE001 (drivers raise what they like)
        raise UserError(f"tracking store {store.shown}: {reason(error, store)}") from None


def reason(error: BaseException, store: Store) -> str:
    """The first line of an error's text, without the password."""
    return redact(first_line(error), secrets_of(store.uri))[:400]


def experiment_id(store: Store, client: MlflowClient, name: str) -> str:
    """The experiment's id; it is created where it is missing, by however many processes at once."""
    with translated(store):
        found = client.get_experiment_by_name(name)
        if found is None:
            from mlflow.exceptions import MlflowException  # noqa: PLC0415 (not before it is needed: MLflow takes two seconds)

            lock = sqlite.locked(sqlite.lock_file(store.database)) if store.database else contextlib.nullcontext()
            with lock, contextlib.suppress(MlflowException):
                if client.get_experiment_by_name(name) is None:
                    (client if store.is_server else open_database(store)).create_experiment(name)
            found = client.get_experiment_by_name(name)
        if found is None:
            client.create_experiment(name)  # for its error
            raise UserError(f"tracking store {store.shown}: experiment {name!r} cannot be created")
    if found.lifecycle_stage != "active":
        raise UserError(
            f"experiment {name!r} was deleted: `mlflow experiments restore -x {found.experiment_id}` brings it back, "
            "or choose another with tracking.experiment="
        )
    ui_views.save(client, found)
    return found.experiment_id


if __name__ == "__main__":
    print(f"MLflow database template: {sqlite.template()}")
