"""Identity of processes: a process id counts only together with the time at which that process began."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil


def identity(pid: int) -> str:
    """`pid@start` of a living process, `` for one that is gone: a reused pid has another start."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else f"{pid}@{fields[19]}"
    except OSError:
        pass
    try:
        return "" if os.path.isdir("/proc/self") else f"{pid}@{psutil.Process(pid).create_time():.0f}"
    except psutil.Error:
        return ""


def is_alive(known: str) -> bool:
    """True if the process that `identity` described is still the one with that pid."""
    pid = known.partition("@")[0]
    return pid.isdigit() and identity(int(pid)) == known


class RunLock:
    """One writer a run: a lock file beside the run's artifacts, held as long as this process lives."""

    def __init__(self, directory: Path) -> None:
        self.path = directory.parent / "writer.lock"
        self._file: IO[str] | None = None

    def take(self, owner: int, seconds: float = 0.0) -> bool:
        """Tries for so many seconds; writes the owner (the training process) into the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self.path, "a+")  # noqa: SIM115 (open as long as the lock is held)
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    file.close()
                    return False
                time.sleep(0.1)
        file.truncate(0)
        file.write(json.dumps({"training": owner, "writer": os.getpid()}))
        file.flush()
        self._file = file
        return True

    def release(self) -> None:
        """Let others take it; nothing happens where it is not held."""
        if self._file:
            self._file.close()
            self._file = None

    def holder(self) -> int | None:
        """The training process named in the file."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(json.loads(self.path.read_text())["training"])
        return None

    @contextlib.contextmanager
    def tried(self) -> Iterator[bool]:
        """Try to take the lock: True if nobody holds it; it is held inside the block then, and no file is made."""
        try:
            file = open(self.path)  # noqa: SIM115
        except OSError:
            yield True
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True
