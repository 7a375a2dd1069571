"""The ledger of a sweep: each job's frozen configuration and what became of it, in files that survive any kill.

mlruns/sweeps/ID/sweep.json           the command, and the key by which the same command finds its sweep again
mlruns/sweeps/ID/search.json          of a search: its space, its settings, and the configurations that it varies
mlruns/sweeps/ID/run.json             the run in MLflow that the sweep has of its own, and how it ended
mlruns/sweeps/ID/jobs/writer.lock     held by the processes that run its jobs
mlruns/sweeps/ID/jobs/0007/           job.json, config.yaml, state.json and what the job printed, output.txt
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from src.errors import UserError
from src.runtime import invocation, output, project
from src.tracking.locks import RunLock, identity

Status = Literal["pending", "running", "finished", "pruned", "failed", "killed"]
STATUSES: tuple[Status, ...] = ("finished", "pruned", "running", "failed", "killed", "pending")
SHOWN = 5  # sweeps in an error line

_current: Job | None = None
_latest: str | None = None


@dataclass
class State:
    """State of a job.

    Attributes:
        attempts: how often it was begun.
        run: id of its latest run.
        objective: what the run returned; None where it has none.
        metric, mode: what the objective is, and whether `min` or `max` is better.
        best: the best value of that metric so far.
        metrics: all values of the run at its end.
        pruned: epoch after which a search gave it up; 0: it did not.
        epoch, epochs: how far it is; 0 of unknown many.
        seconds: that its latest attempt took.
        error: why it failed.
        code: as a shell would see it.
    """

    status: Status = "pending"
    attempts: int = 0
    run: str | None = None
    objective: float | None = None
    metric: str | None = None
    mode: str | None = None
    best: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    pruned: int = 0
    epoch: int = 0
    epochs: int = 0
    seconds: float = 0.0
    error: str | None = None
    code: int = 0


class JobSpec(NamedTuple):
    """A job that is not yet in a ledger: its overrides, its configuration as YAML, and the hash of what it computes.

    Attributes:
        name: in tables, such as the overrides that not all jobs have.
        trial: number of the trial; jobs with the same one differ in their seed or fold only.
    """

    overrides: list[str]
    config: str
    hash: str
    name: str = "the only job"
    trial: int = 0


@dataclass
class Job:
    """One job of a sweep."""

    number: int
    folder: Path
    overrides: list[str]
    name: str
    trial: int
    state: State = field(default_factory=State)

    @property
    def done(self) -> bool:
        """True if its run has come to a good end."""
        return self.state.status in ("finished", "pruned")

    @property
    def resumes(self) -> bool:
        """True if a killed job can resume its run; a failed job starts a new one."""
        return self.state.status == "killed" and self.state.run is not None

    @property
    def config(self) -> Path:
        """Path of the frozen configuration."""
        return self.folder / "config.yaml"

    @property
    def output(self) -> Path:
        """Path of the file with what the job printed."""
        return self.folder / "output.txt"

    def update(self, **changes: object) -> None:
        """Change the state, on the disk too."""
        for name, value in changes.items():
            setattr(self.state, name, value)
        output.write(self.folder / "state.json", json.dumps(asdict(self.state)))

    def mark_lost(self, code: int) -> None:
        """Record how its process ended, where it had no time to do so itself.

        Args:
            code: the process's, negative the number of a signal.
        """
        if self.state.status == "running":
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"
            memory = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
            self.update(status="killed", error=how + memory, code=128 - code if code < 0 else code)

    def read(self) -> Job:
        """Read what other processes have recorded."""
        path = self.folder / "state.json"
        if path.exists():
            self.state = State(**json.loads(path.read_text()))
        return self


class Ledger:
    """One sweep.

    Attributes:
        id: also the tag of its runs.
        jobs: in the order of the command.
        search: by what a search finds further jobs; None: it is no search.
        threads: of each job whose configuration does not say. They are part of what makes bits equal, so a job that is
            run later has no more of them because it is the only one left.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.about = about(folder)
        self.threads: int = self.about["threads"]
        self.jobs: list[Job] = []
        self.read()
        self._lock = RunLock(folder / "jobs")  # the forked jobs hold it too

    @cached_property
    def search(self) -> dict[str, Any] | None:
        """Settings of the search, its space among them; None where the sweep is no search."""
        return search_of(self.folder)

    def update_search(self, **changes: object) -> None:
        """Change what is known of the search, on the disk too."""
        self.search = (self.search or {}) | changes
        with output.replacing(self.folder / "search.json") as draft:
            _write_private(draft, json.dumps(self.search, indent=1))

    def set_study(self, study: Mapping[str, Any] | None) -> None:
        """Record the study that the jobs belong to, which the same command may say anew."""
        if self.about.get("study") != study:
            self.about["study"] = study
            kept = {key: value for key, value in self.about.items() if key != "id"}
            output.write(self.folder / "sweep.json", json.dumps(kept, indent=1))

    @property
    def total(self) -> int:
        """Number of jobs that there will be."""
        wanted = self.search["n_trials"] * len(self.search["space"]["runs"]) if self.search else 0
        return max(wanted, len(self.jobs))

    @classmethod
    def find_by_key(cls, place: Path, key: str) -> Ledger | None:
        """Find the newest sweep with this key."""
        return next((ledger for ledger in cls.all(place) if ledger.about["key"] == key), None)

    @classmethod
    def all(cls, place: Path) -> list[Ledger]:
        """List all sweeps of a folder of runs, the newest first."""
        return [cls(file.parent) for file in sorted(place.glob("sweeps/*/sweep.json"), reverse=True)]

    @classmethod
    def find_by_id(cls, place: Path, reference: str) -> Ledger:
        """Find the sweep with this id or this beginning of one, or the `last` one.

        Raises:
            UserError: no such sweep, or several.
        """
        ledgers = cls.all(place)
        if not ledgers:
            raise UserError(f"no sweeps yet in {place}")
        if reference == "last":
            return ledgers[0]
        found = [ledger for ledger in ledgers if ledger.id.startswith(reference)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(ledger.id for ledger in (found or ledgers)[:SHOWN])
        raise UserError(f"sweep {reference!r} is {'ambiguous' if found else 'not there'}: there are {names}")

    @classmethod
    def create(
        cls,
        place: Path,
        key: str,
        jobs: Sequence[JobSpec],
        command: Sequence[str],
        threads: int,
        *,
        launcher: Mapping[str, Any] | None = None,
        space: Mapping[str, str] | None = None,
        search: Mapping[str, Any] | None = None,
    ) -> Ledger:
        """Write all jobs down. Only a complete ledger gets its name.

        Args:
            key: by which `find_by_key` knows it again, such as `key_of` its jobs.
            launcher: its configuration, so that the sweep is gone on with where it was begun.
            space: what varies, as the command or a recipe writes it, by key.
            search: by what further jobs are found, as plain data.
        """
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        folder, draft = place / "sweeps" / name, place / "sweeps" / f".{name}"
        (draft / "jobs").mkdir(parents=True)
        for number, job in enumerate(jobs):
            _write_job(draft / "jobs" / f"{number:04d}", job)
        about = {"key": key, "command": list(command), "cwd": os.getcwd(), "threads": threads}
        about |= {"launcher": launcher, "space": dict(space or {}), "project": str(project.OWN or "")}
        output.write(draft / "sweep.json", json.dumps(about, indent=1))
        if search is not None:
            _write_private(draft / "search.json", json.dumps(search, indent=1))
        os.replace(draft, folder)
        return cls(folder)

    def add(self, job: JobSpec) -> Job:
        """Write down a further job, its folder complete before it gets its name."""
        number = len(self.jobs)
        draft, folder = (self.folder / "jobs" / f"{mark}{number:04d}" for mark in (".", ""))
        shutil.rmtree(draft, ignore_errors=True)
        _write_job(draft, job)
        os.replace(draft, folder)
        self.jobs.append(read_job(folder))
        return self.jobs[-1]

    def read(self) -> Ledger:
        """Read what other processes have recorded and added."""
        for folder in sorted((self.folder / "jobs").glob("[0-9]*"))[len(self.jobs) :]:
            self.jobs.append(read_job(folder))
        for job in self.jobs:
            job.read()
        return self

    def take(self, patience: float = 0.0) -> None:
        """Make this process, and those that it forks, the ones that run the jobs.

        Args:
            patience: seconds to wait for the last jobs of a launcher that is dead.

        Raises:
            UserError: others run them.
        """
        holder = self._lock.holder()
        # a second for those who only look whether the lock is held
        if not self._lock.take(os.getpid(), max(1.0, 0.0 if holder and identity(holder) else patience)):
            raise UserError(
                f"sweep {self.id} is being run by process {self._lock.holder()}:"
                f" `{invocation.command('sweep')} status {self.id}` shows it"
            )
        self.read()

    def release(self) -> None:
        """Give up the lock, so that another process may run the jobs."""
        self._lock.release()

    @property
    def launcher(self) -> int | None:
        """Id of the process that runs the jobs; None where there is none."""
        with self._lock.tried() as free:
            return None if free else self._lock.holder()

    @property
    def own_run(self) -> tuple[str | None, str | None]:
        """Id of the sweep's own run in MLflow, and how that ended; None for what is not so yet."""
        return own_run(self.folder)

    def set_run(self, run: str, status: str | None) -> None:
        """Record the sweep's own run in MLflow, and its status; None while it goes on."""
        output.write(self.folder / "run.json", json.dumps([run, status]))

    def counts(self) -> dict[Status, int]:
        """Count the jobs of each status that any has."""
        found = [job.state.status for job in self.jobs]
        return {status: found.count(status) for status in STATUSES if status in found}


def about(folder: Path) -> dict[str, Any]:
    """Read sweep.json, and add the sweep's `id`."""
    return {"id": folder.name, "study": None} | json.loads((folder / "sweep.json").read_text(encoding="utf-8"))


def current() -> Job | None:
    """The job that this process is."""
    return _current


def latest() -> str | None:
    """Id of the sweep that this process ran last."""
    return _latest


def set_latest(sweep: str) -> None:
    """Take note of the sweep that this process runs."""
    global _latest
    _latest = sweep


def set_current(job: Job) -> None:
    """Make this process that job."""
    global _current
    _current = job


def search_of(folder: Path) -> dict[str, Any] | None:
    """Read what a ledger's folder knows of a search; None where it is none."""
    path = folder / "search.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def own_run(folder: Path) -> tuple[str | None, str | None]:
    """The sweep's own run in MLflow, by the sweep's folder, and how it ended; None where there is none."""
    with contextlib.suppress(FileNotFoundError):
        run, status = json.loads((folder / "run.json").read_text())
        return run, status
    return None, None


def key_of(jobs: Sequence[JobSpec]) -> str:
    """The key of a sweep of exactly these jobs."""
    return hashlib.sha256(" ".join(job.hash for job in jobs).encode()).hexdigest()


def _write_job(folder: Path, job: JobSpec) -> None:
    folder.mkdir()
    _write_private(folder / "config.yaml", job.config)
    about = {"overrides": job.overrides, "name": job.name, "point": job.trial}  # as it has always been called there
    (folder / "job.json").write_text(json.dumps(about), encoding="utf-8")


def read_job(folder: Path) -> Job:
    """Read the job of a folder, with no state yet."""
    about = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    return Job(int(folder.name), folder, about["overrides"], about["name"], about["point"])


def _write_private(path: Path, text: str) -> None:
    """A configuration, whose values may be for this user's eyes only."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
