"""Queue for the store, in order: batches of points and single operations, kept until the store took them."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from src.runtime.compat import mlflow as compat
from src.runtime.compat import mlflow_schema as schema
from src.tracking.provenance import flatten, legal_key
from src.tracking.redaction import redact, redact_config
from src.tracking.writer import model
from src.tracking.writer.dataset import dataset_input

BATCH = 1000  # points; MLflow's limit
PARAM_BATCH = 100
LONGEST_PAUSE = 10.0  # seconds between two tries
TAG_LENGTH = 8000
NEVER_TAKEN = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")  # trying again would not help
RUN_GONE = ("RESOURCE_DOES_NOT_EXIST",)


class KnownSteps:
    """The steps that a resumed run already holds, read once a key, when the key first comes up again."""

    def __init__(self, client: MlflowClient, run_id: str, keys: set[str]) -> None:
        self._client, self._run_id, self._unread = client, run_id, keys
        self._steps: dict[str, np.ndarray] = {}

    def holds(self, key: str, step: int) -> bool:
        """True if the run has a value of this metric at this step."""
        if key in self._unread:
            self._steps[key] = self._read(key)
            self._unread.discard(key)
        steps = self._steps.get(key)
        if steps is None or not len(steps):
            return False
        i = int(np.searchsorted(steps, step))
        return i < len(steps) and steps[i] == step

    def _read(self, key: str) -> np.ndarray:
        engine = compat.engine_of(self._client)
        if engine is not None:
            steps = schema.stored_steps(engine, self._run_id, key)
        else:
            steps = [metric.step for metric in self._client.get_metric_history(self._run_id, key)]
        return np.unique(np.asarray(steps, dtype=np.int64))


class Backlog:
    """Operations in the order of their arrival.

    Args:
        known: of a resumed run; points that it holds are dropped.
        note: takes a line for the user.
        acknowledge: takes the number of the last message that is stored with all before it.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        *,
        known: KnownSteps | None,
        secrets: tuple[str, ...],
        note: Callable[[str], None],
        acknowledge: Callable[[int], None],
    ) -> None:
        self._client, self._run_id, self._known, self._secrets = client, run_id, known, secrets
        self._note, self._acknowledge = note, acknowledge
        self._waiting: deque[tuple[int | None, dict[str, Any]]] = deque()
        self._refused: list[dict[str, Any]] = []
        self._links: dict[str, str] | None = None  # what ties results to the run's model
        self._names: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self._points = 0
        self._since = 0.0
        self._urgent = False
        self._failures = 0
        self._retry_at = 0.0
        self.last_error: Exception | None = None
        self.run_gone = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, sequence: int | None, operation: dict[str, Any]) -> None:
        """Append an operation; `sequence` is the number of the message that brought it."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append((sequence, operation))
        if operation["op"] == "points":
            self._points += len(operation["points"])
        else:
            self._urgent = True

    def seconds_left(self, flush_seconds: float) -> float | None:
        """Until the next try, or None while there is nothing to store."""
        if not self._waiting or self.run_gone:
            return None
        now = time.monotonic()
        due = now if self._urgent or self._points >= BATCH else self._since + flush_seconds
        return max(due, self._retry_at) - now

    def store(self) -> bool:
        """Stores all that waits; False where the store did not take it this time."""
        while self._waiting and not self.run_gone:
            batch = self._next_batch()
            try:
                self._put(batch)
            except Exception as error:  # noqa: BLE001 (kept and tried again, or named)
                code = getattr(error, "error_code", "") if isinstance(error, MlflowException) else ""
                if code in RUN_GONE or "must be in the 'active' state" in str(error):
                    self.run_gone = True
                if self.run_gone or code not in NEVER_TAKEN:
                    self._failed(error)
                    return False
                self._put_singly(batch, error)
            self._drop(len(batch))
        return True

    def unstored(self, path: Path) -> int:
        """Writes what was not stored to a file, one operation a line; how many points that is."""
        rest = [*self._refused, *(operation for _, operation in self._waiting)]
        if rest:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a") as file:
                file.writelines(
                    json.dumps(redact_config(operation, self._secrets), default=str) + "\n" for operation in rest
                )
        self._refused = []
        return sum(len(o["points"]) for o in rest if o["op"] == "points")

    def _failed(self, error: Exception) -> None:
        self.last_error = error
        self._retry_at = time.monotonic() + min(0.5 * 2**self._failures, LONGEST_PAUSE)
        self._failures = min(self._failures + 1, 10)

    def _next_batch(self) -> list[dict[str, Any]]:
        batch: list[dict[str, Any]] = []
        count = 0
        for _, operation in self._waiting:
            if operation["op"] != "points":
                return batch or [operation]
            count += len(operation["points"])
            if batch and count > BATCH:
                break
            batch.append(operation)
        return batch

    def _drop(self, count: int) -> None:
        last = None
        for _ in range(count):
            sequence, operation = self._waiting.popleft()
            last = sequence if sequence is not None else last
            if operation["op"] == "points":
                self._points -= len(operation["points"])
        self._failures = 0
        self._retry_at = 0.0
        if not self._waiting:
            self._urgent = False
        if last is not None:
            self._acknowledge(last)

    def _put(self, batch: list[dict[str, Any]]) -> None:
        if batch[0]["op"] == "points":
            metrics = list(self._metrics(batch))
            for i in range(0, len(metrics), BATCH):
                self._client.log_batch(self._run_id, metrics=metrics[i : i + BATCH])
        else:
            getattr(self, f"_put_{batch[0]['op']}")(batch[0])

    def _put_singly(self, batch: list[dict[str, Any]], error: Exception) -> None:
        """A batch that the store refuses for good: all but the refused points are stored, and those are named."""
        points = [{**o, "points": [p]} for o in batch if o["op"] == "points" for p in o["points"]]
        for operation in points or batch:
            try:
                if len(points) > 1:
                    self._put([operation])
                    continue
            except Exception as reason:  # noqa: BLE001 (kept and tried again, or named)
                error = reason
            self._refused.append(operation)
            what = operation["points"][0][0] if points else operation["op"]
            self._note(redact(f"the tracking store refused {what}: {str(error).splitlines()[0][:300]}", self._secrets))

    def _metrics(self, batch: list[dict[str, Any]]) -> Iterator[Any]:
        for operation in batch:
            known, about = self._known, {}
            if operation.get("results"):
                if self._links is None:  # its model was announced before
                    self._links = model.links(self._client, self._run_id)
                known, about = None, self._links
            for key, value, step in operation["points"]:
                key = self._names.get(key) or self._name(key)
                if known is None or not known.holds(key, step):
                    yield Metric(key, value, operation["time"], step, **about)

    def _name(self, key: str) -> str:
        """A legal name for the metric; two different metrics never share one."""
        legal = legal_key(key)
        if self._owners.setdefault(legal, key) != key:
            legal = f"{legal[:240]}_{hashlib.sha1(key.encode()).hexdigest()[:4]}"
            self._owners[legal] = key
        self._names[key] = legal
        if legal != key:
            self._note(
                f"metric {key!r} is stored as {legal!r}: MLflow takes letters, digits, spaces and _ - . : / only"
            )
        return legal

    def _put_tags(self, operation: dict[str, Any]) -> None:
        tags = [RunTag(k, redact(str(v), self._secrets)[:TAG_LENGTH]) for k, v in operation["tags"].items()]
        for i in range(0, len(tags), PARAM_BATCH):
            self._client.log_batch(self._run_id, tags=tags[i : i + PARAM_BATCH])
        for key in operation.get("without", ()):
            if key in self._client.get_run(self._run_id).data.tags:
                self._client.delete_tag(self._run_id, key)

    def _put_params(self, operation: dict[str, Any]) -> None:
        there = self._client.get_run(self._run_id).data.params
        flat = flatten(redact_config(operation["params"], self._secrets))
        params = [Param(k, v) for k, v in flat.items() if k not in there]
        for i in range(0, len(params), PARAM_BATCH):
            self._client.log_batch(self._run_id, params=params[i : i + PARAM_BATCH])

    def _put_dataset(self, operation: dict[str, Any]) -> None:
        entry = dataset_input(redact_config(operation["dataset"], self._secrets))
        inputs = self._client.get_run(self._run_id).inputs
        there = {(one.dataset.name, one.dataset.digest) for one in (inputs.dataset_inputs if inputs else [])}
        if (entry.dataset.name, entry.dataset.digest) not in there:
            self._client.log_inputs(self._run_id, datasets=[entry])
        if sha256 := operation["dataset"].get("sha256"):
            self._client.set_tag(self._run_id, "labbook.data_sha256", sha256)

    def _put_model(self, operation: dict[str, Any]) -> None:
        flat = flatten(redact_config(operation["options"], self._secrets))
        model.announce(self._client, self._run_id, {key: value[:250] for key, value in flat.items()})
