"""A tracked run as the training process sees it: no MLflow here, only a pipe to the process that writes."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.errors import RunFailed, UserError
from src.runtime import invocation, project
from src.tracking import active_run
from src.tracking import store as stores
from src.tracking.folder_client import FolderClient
from src.tracking.ui_views import run_page
from src.tracking.writer.client import Channel

if TYPE_CHECKING:
    from mlflow import MlflowClient

POINTS_A_LINE = 40
START_SECONDS = 300.0  # a first start may wait for a database template and for seven others
STATUSES = ("FINISHED", "FAILED", "KILLED")


class Run:
    """One run. `id`, `experiment_id`, `directory` and `uri` wait until the writer has created it.

    While it is active (where `start` was told so) `MLFLOW_RUN_ID` and `MLFLOW_TRACKING_URI` are set, so that a plain
    `mlflow.log_metric()` in a model or a callback lands in it.
    """

    def __init__(self, store: stores.Store, options: dict[str, Any]) -> None:
        self.store = store
        self.notes: list[str] = []  # lines worth telling the user
        self.finished = False
        self._patience, self._active = options["patience"], options["active"]
        self._created = threading.Event()
        self._info: dict[str, Any] | None = None
        self._error: Exception | None = None
        self._bye: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._heard = time.monotonic()
        self._owner = os.getpid()
        options |= {"token": uuid.uuid4().hex[:12], "started": int(time.time() * 1000)}
        self._channel = Channel(options, self._attach, self._receive, self._writers_died)
        atexit.register(self._at_exit)

    @property
    def id(self) -> str:
        """MLflow's run id.

        Raises:
            UserError: the store cannot be used or reached, or the run to resume is still being written.
        """
        return self._wait()["id"]

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment; waits as `id` does."""
        return self._wait()["experiment_id"]

    @property
    def name(self) -> str:
        """The run's name; waits as `id` does."""
        return self._wait()["name"]

    @property
    def directory(self) -> Path:
        """The run's own local folder for artifacts; for a local store it is MLflow's artifact folder itself."""
        return Path(self._wait()["directory"])

    @property
    def uri(self) -> str:
        """The tracking URI, without a password."""
        return self.store.shown

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client for this store; imports MLflow, which takes two seconds.

        Raises:
            UserError: the store cannot be reached any more.
        """
        _ = self.id  # the writer has prepared the store by then
        return stores.connect(self.store)

    @property
    def ui_hint(self) -> str:
        """The command that opens the UI and the address of this run in it."""
        page = run_page(self.experiment_id, self.id)
        if self.store.is_server:
            return f"{self.store.shown}/{page}"
        if self.store.database == stores.PROJECT_ROOT / "mlflow.db" and (stores.PROJECT_ROOT / "Makefile").is_file():
            command = "make ui"
        else:
            command = f"mlflow ui --backend-store-uri {self.store.shown}"
        return f"{command}, then http://127.0.0.1:5000/{page}"

    def log_points(self, points: Sequence[tuple[str, float, int]]) -> None:
        """Records `(key, value, step)` points. They are in the writer's pipe, safe from a crash here, on return."""
        self._send_points(points)

    def _send_points(self, points: Sequence[tuple[str, float, int]], **kind: bool) -> None:
        now = int(time.time() * 1000)
        for i in range(0, len(points), POINTS_A_LINE):
            lines = [(key, float(value), int(step)) for key, value, step in points[i : i + POINTS_A_LINE]]
            self._send({"op": "points", "time": now, "points": lines, **kind})

    def log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Records values at a step. Without one they are results of the whole run: stored at step 0, which the UI
        draws as bars, and again after a resume, when the newer ones count."""
        kind = {"results": True} if step is None else {}
        self._send_points([(key, value, step or 0) for key, value in metrics.items()], **kind)

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags, values as text."""
        self._send({"op": "tags", "tags": {k: str(v) for k, v in tags.items()}})

    def announce_images(self) -> None:
        """Says that `images/` has pictures of steps, which MLflow's page then offers as charts."""
        self.set_tags({"mlflow.loggedImages": True})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Adds parameters, flattened; one that is already there keeps its value."""
        self._send({"op": "params", "params": dict(params)})

    def log_dataset(self, describe: Mapping[str, Any]) -> None:
        """Adds an MLflow dataset. Known keys: name, sha256, source, input_shape, context; the rest is its profile."""
        self._send({"op": "dataset", "dataset": dict(describe)})

    def log_model(self, options: Mapping[str, Any]) -> None:
        """Makes the best weights known as a model of MLflow's; the results that follow are the model's as well."""
        self._send({"op": "model", "options": dict(options)})

    def artifact(self: Run | Untracked, path: str | Path) -> Path:
        """Path to write the artifact of this relative path to; its folder exists."""
        place = self.directory / path
        if not place.resolve().is_relative_to(self.directory.resolve()):
            raise ValueError(f"artifact path {str(path)!r} leads out of the run's directory")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def finish(self, status: str, failure: str | None = None) -> None:
        """Stores all that is under way, then the status and the end time. A second call does nothing.

        Raises:
            RunFailed: points could not be stored; the line names the file that holds them.
        """
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
        if self.finished or os.getpid() != self._owner:
            return
        self.finished = True
        self._channel.send({"op": "finish", "status": status, "failure": failure})
        try:
            self._await_farewell()
        finally:
            if self._info:
                active_run.leave(self._info["id"])
            atexit.unregister(self._at_exit)
        if self._bye and self._bye.get("problem"):
            raise RunFailed(self._bye["problem"])
        if self._error and self._info:
            raise self._error

    def _send(self, message: dict[str, Any]) -> None:
        if self._error and not self._info:
            raise self._error
        if not self.finished:
            self._channel.send(message)
            if self._channel.dead:
                self._keep_unstored()

    def _wait(self) -> dict[str, Any]:
        if not self._created.wait(START_SECONDS):
            raise RunFailed(f"tracking store {self.store.shown}: the run was not created within {START_SECONDS:.0f} s")
        if self._info is None:
            raise self._error or RunFailed(f"tracking store {self.store.shown}: the run was not created")
        if self._active and not self.finished and os.getpid() == self._owner:
            active_run.enter(self._info["id"], self.store.uri)
        return self._info

    def _await_farewell(self) -> None:
        limit = self._patience + 600.0
        while not self._ended.wait(0.5):
            if time.monotonic() - self._heard > limit:
                self._channel.stop()
                self._writers_died()
        self._channel.wait(10.0)

    def _attach(self) -> dict[str, Any]:
        return {"attach": self._info["id"]} if self._info else {}

    def _receive(self, message: dict[str, Any]) -> None:
        self._heard = time.monotonic()
        if "created" in message:
            self._info = message["created"]
            self._created.set()
        elif "note" in message:
            self.notes.append(message["note"])
        elif "error" in message:
            self._error = (UserError if message.get("kind") == "user" else RunFailed)(message["error"])
            if self._info:  # a replacement writer that could not take over
                self._channel.dead = True
                self._keep_unstored()
                self._error = RunFailed(f"{self._error}; what was not stored is in {self._unsent_file}")
            self._created.set()
            self._ended.set()
        elif "bye" in message:
            self._bye = message["bye"]
            self._ended.set()

    def _writers_died(self) -> None:
        if self._info:
            self._keep_unstored()
            self._error = RunFailed(
                f"the process that writes to the tracking store was killed again and again; "
                f"what it did not store is in {self._unsent_file}"
            )
        else:
            self._error = RunFailed("the process that writes to the tracking store died at its start")
        self._created.set()
        self._ended.set()

    @property
    def _unsent_file(self) -> Path:
        assert self._info is not None
        return Path(self._info["directory"]) / "unsent.jsonl"

    def _keep_unstored(self) -> None:
        """The last resort: what no writer took goes to a file in the run's directory."""
        messages = self._channel.take_unstored()
        with contextlib.suppress(OSError), open(self._unsent_file, "a") as file:
            file.writelines(json.dumps(message) + "\n" for message in messages)

    def _at_exit(self) -> None:
        with contextlib.suppress(Exception):
            self.finish("FAILED", "the program ended before the run was finished")


class Untracked:
    """The same interface without a tracking store: a directory of its own, and nothing recorded."""

    def __init__(self, root: Path) -> None:
        self.id = uuid.uuid4().hex
        self.experiment_id = "untracked"
        self.name = "untracked"
        self.uri = ""
        self.notes: list[str] = []
        self.finished = False
        self.directory = root / "mlruns" / "untracked" / self.id / "artifacts"

    ui_hint = "tracking is off: nothing to open"
    artifact = Run.artifact

    @property
    def client(self) -> FolderClient:
        """As MLflow's client, but that files go into the run's folder and all else is dropped."""
        return FolderClient(self.directory)

    def log_points(self, points: Sequence[tuple[str, float, int]]) -> None:
        """Drop points."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Drop values."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Drop tags."""

    def announce_images(self) -> None:
        """Do nothing."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Drop parameters."""

    def log_dataset(self, describe: Mapping[str, Any]) -> None:
        """Drop the description."""

    def log_model(self, options: Mapping[str, Any]) -> None:
        """Drop the options."""

    def finish(self, status: str, failure: str | None = None) -> None:
        """Take note that it has ended; nothing is stored."""
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
        self.finished = True


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
    root = Path(root or stores.PROJECT_ROOT).resolve()
    if not enabled:
        return Untracked(root)
    where = stores.resolve(uri, root)
    options = {
        "uri": where.uri,
        "store_root": str(where.root),
        "database": where.database and str(where.database),
        "root": str(root),
        "project": root.name if root == project.OWN else None,
        "code": str(project.CODE) if root == project.OWN and project.IN_CHECKOUT else None,
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
