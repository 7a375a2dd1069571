"""Runs and watches the process of one job on a machine of a cluster."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from src.runtime import project
from src.sweeps.jobs import worker
from src.sweeps.jobs.ledger import Job, about, read_job


class WorkerMonitor:
    """Runs one attempt at a job in a process of its own.

    Everything is found through paths: all machines see the sweep's folder, the code and its environment at the same
    place as the launcher does.
    """

    def __init__(self, job: Job) -> None:
        self.folder, self.attempt = str(job.folder), job.state.attempts
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, environment: Mapping[str, str] | None = None) -> int:
        """Wait for the job's end and returns its exit code; an exception here, such as an interrupt, ends it gently.

        Args:
            environment: of the job's process; None: of this one.
        """
        folder = Path(self.folder)
        with open(folder / "output.txt", "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", worker.ENTRY, self.folder, str(self.attempt)],
                cwd=about(folder.parent.parent)["cwd"],
                env=project.environment(environment or os.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # signals to this process are not the job's
            )
        try:
            code = self._wait()
        except BaseException:
            self.end()
            raise
        job = read_job(folder).read()
        if job.state.attempts == self.attempt:
            job.mark_lost(code)
        return code

    def _wait(self) -> int:
        while True:  # Ray's interrupts are seen between two calls, not during one
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(timeout=0.5)  # type: ignore[union-attr]  # a signal's handler may clear it

    def end(self) -> None:
        """Stop the job after a checkpoint, and waits until it has."""
        if self.process is not None:
            self.process.terminate()
            # not Popen.wait: a signal's handler may come here from within it, and it cannot be entered twice
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
