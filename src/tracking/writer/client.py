"""The training process's end of the pipe: sends at once, keeps what is not stored yet, replaces a dead writer."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import IO, Any

from src.runtime import project
from src.tracking.writer import prefork
from src.tracking.writer.framing import encode

Process = subprocess.Popen | prefork.Forked

_prepared: list[Process] = []
ATTEMPTS = 2  # writers in a row that may die without storing anything


def prepare() -> None:
    """Starts a writer that imports MLflow and waits for its run; it leaves with this process if none comes."""
    if not _prepared:
        _prepared.append(_writer())


def keep_warm() -> None:
    """Has the writers of later runs, also those of processes that are forked from this one, start up in no time."""
    prefork.start([sys.executable, "-m", "src.tracking.writer.prefork"], **_surroundings())


def _surroundings() -> dict[str, Any]:
    """Environment of a process that writes."""
    return {
        "stderr": subprocess.DEVNULL,
        "cwd": project.CODE,
        "env": project.environment(os.environ) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        "start_new_session": True,  # a Ctrl-C in the terminal is not meant for it
    }


def _writer() -> Process:
    process: Process | None = prefork.writer()
    if process is None:
        command = [sys.executable, "-m", "src.tracking.writer.service"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
        process = subprocess.Popen(command, **(pipes | _surroundings()))
    with contextlib.suppress(AttributeError, OSError):  # Linux; room for what comes while the writer imports
        fcntl.fcntl(_inlet(process).fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
    return process


def _inlet(process: Process) -> IO[bytes]:
    """The pipe to a writer, which each has."""
    assert process.stdin is not None
    return process.stdin


class Channel:
    """One writer process and the messages under way to it.

    Args:
        start: the first message; a replacement writer gets it again with what `attach()` adds.
        attach: what a replacement must know beside it (the run's id, once there is one).
        receive: called in a background thread with each message of the writer.
        gone: called once, when writers keep dying: nothing is sent any more.
    """

    def __init__(
        self,
        start: dict[str, Any],
        attach: Callable[[], dict[str, Any]],
        receive: Callable[[dict[str, Any]], None],
        gone: Callable[[], None],
    ) -> None:
        self._start, self._attach, self._receive, self._gone = start, attach, receive, gone
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._kept: deque[tuple[int, list[bytes]]] = deque()  # not stored yet, as far as we know
        self._unsent: deque[tuple[int, list[bytes]]] = deque()
        self._next = 1
        self._acknowledged = self._acknowledged_before = 0
        self._deaths = 0
        self.closed = False  # the writer said its last word, or there is no writer any more
        self.dead = False  # there is none because it died, so messages only pile up here
        self._process = self._spawn(start)

    @property
    def writer_pid(self) -> int:
        """Process id of the writer; 0 until a forked one has said it."""
        return self._process.pid

    def send(self, message: dict[str, Any]) -> None:
        """Puts one message into the pipe before it returns; a signal that breaks in loses and doubles nothing."""
        if os.getpid() != self._owner or (self.closed and not self.dead):  # a forked child is not the run
            return
        with self._lock:
            while self._kept and self._kept[0][0] <= self._acknowledged:
                self._kept.popleft()
            entry = (self._next, encode(self._next, message))
            self._next += 1
            self._kept.append(entry)
            self._unsent.append(entry)
            self._pump()

    def take_unstored(self) -> list[dict[str, Any]]:
        """Removes and returns the messages that no writer has stored."""
        with self._lock:
            entries = [e for e in self._kept if e[0] > self._acknowledged]
            self._kept.clear()
            self._unsent.clear()
        return [
            json.loads(b"".join(frame.split(b" ", 3)[3].rstrip(b"\n") for frame in frames)) for _, frames in entries
        ]

    def wait(self, seconds: float) -> bool:
        """True if the writer process has ended within so many seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """Ends a writer that no longer answers."""
        self.closed = True
        self._process.kill()
        self._process.wait()

    def _pump(self) -> None:
        while self._unsent and not self.closed:
            try:
                for line in self._unsent[0][1]:
                    os.write(_inlet(self._process).fileno(), line)
            except (BrokenPipeError, ValueError):
                self._replace(self._process)
                return
            self._unsent.popleft()

    def _spawn(self, start: dict[str, Any]) -> Process:
        process = _prepared.pop() if _prepared else _writer()
        try:
            for line in encode(0, start):
                os.write(_inlet(process).fileno(), line)
        except BrokenPipeError:
            pass  # the listener notices
        threading.Thread(target=self._listen, args=(process,), name="labbook-writer-answers", daemon=True).start()
        return process

    def _listen(self, process: Process) -> None:
        # Never waits for the lock while the writer lives: the holder may itself be waiting for the writer to read.
        assert process.stdout is not None
        for line in iter(process.stdout.readline, b""):
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if "ack" in message:
                self._acknowledged = max(self._acknowledged, message["ack"])
            elif "pid" in message and isinstance(process, prefork.Forked):
                process.introduce(message["pid"])
            else:
                self.closed |= "bye" in message or "error" in message
                self._receive(message)
        if not self.closed:
            self._replace(process)

    def _replace(self, dead: Process) -> None:
        """Starts another writer on the same run and sends it what was not stored."""
        with self._lock:
            if self.closed or dead is not self._process or sys.is_finalizing():
                return
            _inlet(dead).close()
            dead.wait()
            self._deaths = self._deaths + 1 if self._acknowledged == self._acknowledged_before else 1
            self._acknowledged_before = self._acknowledged
            if self._deaths > ATTEMPTS:
                self.closed = self.dead = True
            else:
                self._unsent = deque(e for e in self._kept if e[0] > self._acknowledged)
                self._process = self._spawn(self._start | self._attach() | {"again": True})
                self._pump()
                return
        self._gone()
