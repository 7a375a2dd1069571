"""Opening a run in the store: a new one or one to continue, with its parameters, tags and provenance."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from src.errors import UserError
from src.runtime import output
from src.runtime.compat import mlflow as compat
from src.runtime.compat import mlflow_schema as schema
from src.tracking import provenance, store
from src.tracking.abandoned import LOCK_SECONDS, mark_abandoned
from src.tracking.artifacts import Uploader, local_directory
from src.tracking.locks import RunLock, identity, is_alive
from src.tracking.provenance import LABBOOK, PROJECT
from src.tracking.redaction import redact, redact_config, secrets_of

NOTE = "mlflow.note.content"  # the description on a run's page, Markdown


class Session:
    """The open run of a writer process.

    Attributes:
        client, store: of MLflow.
        run_id, experiment_id, name, directory: of the run.
        resumed: whether the run held points before this writer.
        operations: what is to be stored first.
        uploader: for a store whose artifacts lie elsewhere.
    """

    def __init__(self, options: dict[str, Any], training: int, beat: Callable[[], None]) -> None:
        self.options, self.training, self._beat = options, training, beat
        database = options["database"] and Path(options["database"])
        self.store = store.Store(options["uri"], Path(options["store_root"]), database)
        self.secrets = secrets_of(options["uri"])
        self.operations: list[dict[str, Any]] = []
        self.uploader: Uploader | None = None
        self._git = provenance.GitState()
        self._labbook = provenance.GitState()  # of a project of a user's own: Labbook's checkout
        self._lock: RunLock | None = None

    def open(self) -> None:
        """Raises UserError with one line where the store or the run cannot be used."""
        reader = threading.Thread(target=self._read_git)
        if not self.options.get("again"):
            reader.start()
        self.client = self._connect()
        if reader.ident:
            reader.join()
        wanted = self.options.get("attach") or self.options["resume"] or self._begun_before()
        self.resumed = bool(wanted)
        with store.translated(self.store):
            run = self._reopen(wanted) if wanted else self._create()
        self.run_id, self.name, self.experiment_id = run.info.run_id, run.info.run_name, run.info.experiment_id
        self.last_metrics = compat.latest_metrics(self.client, run)
        if not self.options.get("again"):
            self._record(run)
        if not self._in_place:
            self.uploader = Uploader(self.client, self.run_id, self.directory, self._beat)

    def describe(self) -> dict[str, str]:
        """Facts about the run for the training process."""
        return {
            "id": self.run_id,
            "experiment_id": self.experiment_id,
            "name": self.name,
            "directory": str(self.directory),
        }

    def close(self) -> None:
        """Let another writer take the run."""
        if self._lock:
            self._lock.release()

    def end_abandoned(self) -> None:
        """Marks runs of this machine that no process carries on any more, such as after a power cut, as KILLED."""
        host = provenance.machine()["labbook.host"].replace("'", "")
        query = f"attributes.status = 'RUNNING' and tags.`labbook.host` = '{host}'"
        for run in self.client.search_runs([self.experiment_id], query, max_results=1000):
            if run.info.run_id == self.run_id or is_alive(run.data.tags.get("labbook.process", "").partition("#")[0]):
                continue
            mark_abandoned(self.client, self.store, run)

    def _connect(self) -> MlflowClient:
        """A replacement writer keeps trying: the store was there when the run began."""
        deadline = time.monotonic() + (self.options["patience"] if self.options.get("again") else 0.0)
        while True:
            try:
                return store.connect(self.store)
            except UserError:
                if time.monotonic() > deadline:
                    raise
            self._beat()
            time.sleep(1.0)

    def _read_git(self) -> None:
        self._git = provenance.git_state(Path(self.options["root"]))
        if self.options["code"]:
            self._labbook = provenance.git_state(Path(self.options["code"]))

    def _begun_before(self) -> str | None:
        """The run that a writer created before it died without telling."""
        if not self.options.get("again"):
            return None
        identifier = store.experiment_id(self.store, self.client, self.options["experiment"])
        found = self.client.search_runs(
            [identifier], f"tags.`labbook.process` = '{self._process_tag()}'", max_results=1
        )
        return found[0].info.run_id if found else None

    def _process_tag(self) -> str:
        return f"{identity(self.training)}#{self.options['token']}"

    def _create(self) -> Run:
        options = self.options
        identifier = store.experiment_id(self.store, self.client, options["experiment"])
        config = redact_config(options["config"], self.secrets)
        name = options["name"] or provenance.default_name(config, options["overrides"])
        name = redact(str(name), self.secrets)[:250]
        tags = self._tags() | {"mlflow.runName": name}
        run = self.client.create_run(identifier, start_time=options["started"], tags=tags, run_name=name)
        self._settle(run)
        return run

    def _reopen(self, run_id: str) -> Run:
        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise UserError(f"run {run_id} is not in {self.store.shown}") from None
            raise
        if run.info.lifecycle_stage != "active":
            raise UserError(f"run {run_id} was deleted: `mlflow runs restore --run-id {run_id}` brings it back")
        self._settle(run)
        if not self.options.get("again"):
            tags = self._tags()
            kept = ("labbook.host", "labbook.pid", "labbook.process", *self.options["tags"])
            count = int(run.data.tags.get("labbook.resumes", "0")) + 1
            tags = {k: tags[k] for k in kept if k in tags} | {"labbook.resumes": str(count)}
            without = ["labbook.failure"] if "labbook.failure" in run.data.tags else []
            self.operations.append({"op": "tags", "tags": tags, "without": without})
        self.client.update_run(run_id, status="RUNNING")
        self._clear_end_time(run_id)
        return self.client.get_run(run_id)

    def _settle(self, run: Run) -> None:
        """The run's folder, and the lock that makes this process its only writer."""
        self.directory, self._in_place = local_directory(self.store, run.info.artifact_uri, run.info.run_id)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(self.directory)
            taken = self._lock.take(self.training, min(LOCK_SECONDS, self.options["patience"]))
        except OSError as error:
            raise UserError(f"cannot write to the run's directory {self.directory}: {error.strerror}") from None
        if not taken:
            raise UserError(
                f"run {run.info.run_id} is still being written by process {self._lock.holder() or 'unknown'}"
            )

    def _clear_end_time(self, run_id: str) -> None:
        """MLflow has no call for it; where its store is a database here, one statement does."""
        with contextlib.suppress(Exception):
            if (engine := compat.engine_of(self.client)) is not None:
                schema.clear_end_time(engine, run_id)

    def _tags(self) -> dict[str, str]:
        options = self.options
        tags = provenance.machine() | provenance.source_tags(
            self._git, options["command"], options["script"], self.secrets
        )
        tags |= {
            **provenance.project_tags(options["project"], self._labbook),
            "labbook.pid": str(self.training),
            "labbook.process": self._process_tag(),
            "labbook.config_hash": provenance.config_hash(options["config"]),
        }
        if "seed" in options["config"]:
            tags["labbook.seed"] = str(options["config"]["seed"])
        if sweep := os.environ.get("LABBOOK_SWEEP_ID"):
            tags |= {"labbook.sweep_id": sweep, "labbook.sweep_job": os.environ.get("LABBOOK_SWEEP_JOB", "")}
        if options["nested"] and (parent := os.environ.get("LABBOOK_SWEEP_RUN")):
            tags["mlflow.parentRunId"] = parent
        return {k: redact(str(v), self.secrets)[:8000] for k, v in (tags | options["tags"]).items()}

    def _record(self, run: Run) -> None:
        """Parameters, and the files that explain the run; a resumed run keeps its first ones and adds `resumed-N/`."""
        options = self.options
        config = redact_config(options["config"], self.secrets)
        self.operations.append({"op": "params", "params": config})
        if not self.resumed:  # later it may be the user's own
            command = ["python", "-m", "src.train", *options["overrides"]]
            if os.environ.get("LABBOOK_SWEEP_ID") and not any(text.startswith("threads=") for text in command):
                # a sweep shares the cores among its jobs
                command.append(f"threads={options['config'].get('threads')}")
            note = provenance.note(run.info.run_id, self._git, command, self.secrets)
            self.operations.append({"op": "tags", "tags": {NOTE: options["tags"].get(NOTE, note)}})
        folder = self.directory
        if self.resumed:
            folder /= f"resumed-{int(run.data.tags.get('labbook.resumes', '0')) + 1}"
            folder.mkdir(exist_ok=True)
        files = {
            "config.yaml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode(),
            "overrides.yaml": yaml.safe_dump([redact(o, self.secrets) for o in options["overrides"]]).encode(),
            "environment.txt": provenance.installed().encode(),
        }
        for where, patch in ((PROJECT, self._git.patch), (LABBOOK, self._labbook.patch)):
            for secret in self.secrets:
                patch = patch.replace(secret.encode(), b"***")
            if patch:
                files[where.patch] = patch
        for name, content in files.items():
            output.write(folder / name, content)
