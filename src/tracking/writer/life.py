"""A run's life as its writer process sees it: opened, written to as messages come, ended; imports MLflow."""

from __future__ import annotations

import contextlib
import os
import queue
import time
import traceback
from collections.abc import Iterator

from src.errors import UserError
from src.tracking import store
from src.tracking.abandoned import UNEXPLAINED
from src.tracking.writer.backlog import Backlog, KnownSteps
from src.tracking.writer.pipes import END, Inbox, Outbox
from src.tracking.writer.session import Session
from src.tracking.writer.system_metrics import SystemMetrics


class Writer:
    """Runs one session from the first message to the farewell."""

    def __init__(self, inbox: Inbox, outbox: Outbox, training: int) -> None:
        self._inbox, self._outbox, self._training = inbox, outbox, training
        self.created = False

    def run(self) -> None:
        """Write one run, from its first message to its end."""
        _, options = self._inbox.messages.get()
        if options is END:
            return
        self._options = options
        session = self._session = Session(options, self._training, self._outbox.beat)
        try:
            session.open()
        except UserError as error:
            self._outbox.send({"error": str(error), "kind": "user"})
            return
        self._open_log()
        self._outbox.send({"created": session.describe()})
        self.created = True
        self._begin()
        status, failure = self._serve()
        self._end(status, failure)

    def explain(self, error: Exception) -> str:
        """An unforeseen error before there was a run, in one line without passwords."""
        return f"the tracking writer failed: {type(error).__name__}: {store.reason(error, self._session.store)}"

    def _open_log(self) -> None:
        """Send what MLflow or Python still prints to a file beside the run's artifacts."""
        log = os.open(self._session.directory.parent / "writer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def _begin(self) -> None:
        session, known = self._session, None
        if session.resumed:
            keys = {m.key for m in session.last_metrics if not m.key.startswith("system/")}
            known = KnownSteps(session.client, session.run_id, keys)
        self._backlog = Backlog(
            session.client,
            session.run_id,
            known=known,
            secrets=session.secrets,
            note=self._outbox.note,
            acknowledge=self._outbox.acknowledge,
        )
        for operation in session.operations:
            self._backlog.add(None, operation)
        self._system = None
        if self._options["system_metrics"]:
            with _logged():
                self._system = self._start_system_metrics()
        self._swept = bool(self._options.get("again"))

    def _start_system_metrics(self) -> SystemMetrics:
        steps = [m.step for m in self._session.last_metrics if m.key.startswith("system/")]
        interval = self._options["system_metrics_interval"]
        first_step = max(steps, default=-1) + 1
        uri, run_id = self._session.store.uri, self._session.run_id
        system = SystemMetrics(uri, run_id, self._training, interval, first_step, self._emit)
        system.start()
        return system

    def _emit(self, points: list[tuple[str, float, int]]) -> None:
        self._inbox.messages.put((None, {"op": "points", "time": int(time.time() * 1000), "points": points}))

    def _serve(self) -> tuple[str, str | None]:
        """Takes messages and stores them until the run's end; returns its status and failure."""
        while True:
            timeout = self._backlog.seconds_left(self._options["flush_seconds"])
            try:
                sequence, message = self._inbox.messages.get(timeout=None if timeout is None else max(timeout, 0.0))
            except queue.Empty:
                self._backlog.store()
                self._sweep()
                continue
            if message is END:
                return "KILLED", UNEXPLAINED
            if message["op"] == "finish":
                return message["status"], message["failure"]
            self._backlog.add(sequence, message)
            timeout = self._backlog.seconds_left(self._options["flush_seconds"])
            if timeout is not None and timeout <= 0 and self._inbox.messages.empty():
                self._backlog.store()

    def _sweep(self) -> None:
        """End abandoned runs once, when the run's own beginnings are stored."""
        if not self._swept and not self._backlog:
            self._swept = True
            with _logged():
                self._session.end_abandoned()

    def _end(self, status: str, failure: str | None) -> None:
        session, backlog = self._session, self._backlog
        ended = int(time.time() * 1000)
        if self._system:
            with _logged():
                self._system.finish()
        self._take_rest()
        if failure:
            backlog.add(None, {"op": "tags", "tags": {"labbook.failure": failure}})
        deadline = time.monotonic() + self._options["patience"]
        while backlog and not backlog.store() and not backlog.run_gone and time.monotonic() < deadline:
            self._outbox.beat()
            time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
        problems = []
        path = session.directory / "unsent.jsonl"
        if points := backlog.unstored(path):
            problems.append(f"{points} metric points could not be stored; they are in {path}")
        failed = session.uploader.finish(deadline) if session.uploader else []
        if failed:
            problems.append(f"not uploaded: {', '.join(failed[:5])}; the files are in {session.directory}")
        problems += self._set_status(status, ended, deadline)
        if not failed and not problems:
            self._sweep()
        self._outbox.send({"bye": {"problem": self._problem_line(problems)}})
        session.close()
        log = session.directory.parent / "writer.log"
        with contextlib.suppress(OSError):
            if log.stat().st_size == 0:
                log.unlink()

    def _take_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                sequence, message = self._inbox.messages.get_nowait()
                if message is not END and message["op"] != "finish":
                    self._backlog.add(sequence, message)

    def _set_status(self, status: str, ended: int, deadline: float) -> list[str]:
        while True:
            try:
                self._session.client.set_terminated(self._session.run_id, status, ended)
                return []
            except Exception as error:  # noqa: BLE001 (kept and tried again, or logged)
                self._backlog.last_error = error
                if self._backlog.run_gone or time.monotonic() > deadline:
                    return [f"the status {status} could not be stored"]
            self._outbox.beat()
            time.sleep(1.0)

    def _problem_line(self, problems: list[str]) -> str | None:
        if not problems:
            return None
        reason = "the run was deleted" if self._backlog.run_gone else "no answer"
        if self._backlog.last_error and not self._backlog.run_gone:
            reason = store.reason(self._backlog.last_error, self._session.store)
        return f"tracking store {self._session.store.shown} ({reason}): {'; '.join(problems)}"


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Do what a run can do without: an error in it goes to writer.log and stops nothing."""
    try:
        yield
    except Exception:  # noqa: BLE001 (kept and tried again, or logged)
        traceback.print_exc()
