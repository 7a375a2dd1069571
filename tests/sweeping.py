"""A sweep's command in a scratch place, in processes that can be killed; and a net that goes wrong when told to."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter

from src.sweeps.jobs.ledger import Job, Ledger
from tests import process
from tests.conftest import ROOT, Lab

SMALL = ("model=fnn", "data=iris", "trainer.max_epochs=1", "tracking.system_metrics=false")
# a net whose width says what goes wrong with it, until somebody has repaired it
TROUBLE = """
import os, resource, signal, time
from pathlib import Path
from src.models.fnn import FNN

class Trouble(FNN):
    def training_step(self, batch, batch_idx):
        if not Path("repaired").exists():
            width = self.head.in_features
            if width == 3: raise ValueError("a width of three")
            if width == 7:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + 200_000_000,) * 2)
                bytearray(1_000_000_000)
            if width == 11: os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("STEP_SECONDS", 0)))
        return super().training_step(batch, batch_idx)
"""


class Sweep:
    """A command in a scratch place, in processes that can be killed."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        (lab.folder / "trouble.py").write_text(TROUBLE)
        self.env = os.environ | lab.env | {"PYTHONPATH": f"{ROOT}:{lab.folder}"}

    def start(self, *arguments: str, entry: str = "train", **env: str) -> process.Started:
        return process.Started(list(arguments), self.env | env, self.lab.folder, entry)

    def run(self, *arguments: str, entry: str = "train", **env: str) -> tuple[int, str, str]:
        command = self.start(*arguments, entry=entry, **env)
        out, err = command.communicate(timeout=600)
        return command.returncode, out, err

    def ledgers(self) -> list[Ledger]:
        return Ledger.all(self.lab.folder / "mlruns")

    def jobs(self) -> list[Job]:
        """Those of the newest sweep."""
        return next((ledger.jobs for ledger in self.ledgers()), [])

    def counts(self) -> Counter[str]:
        """How many of them have which status."""
        return Counter(job.state.status for job in self.jobs())

    def until(self, command: process.Started | subprocess.Popen, reached) -> None:
        """Waits until the newest sweep has got so far."""
        end = time.monotonic() + 600
        while not reached(self.counts()):
            assert command.poll() is None, command.communicate()
            assert time.monotonic() < end, self.counts()
            time.sleep(0.02)

    def statuses(self) -> Counter[str]:
        return Counter(run.info.status for run in self.lab.runs())
