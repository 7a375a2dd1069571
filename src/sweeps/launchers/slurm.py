"""Jobs of a SLURM cluster, submitted through submitit as job arrays: `hydra/launcher=slurm`."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.types import TaskFunction
from omegaconf import DictConfig
from typing_extensions import override

from src import tracking
from src.errors import UserError
from src.runtime import optional, output, project
from src.sweeps.jobs.ledger import Job, Ledger
from src.sweeps.launchers.base import LedgerLauncher
from src.sweeps.launchers.executor import Executor, OnError
from src.sweeps.launchers.remote import WorkerMonitor

if TYPE_CHECKING:
    import submitit

ANSWER_SECONDS = 8.0
ASK_SECONDS = 2.0  # between two looks at the queue
GONE_SECONDS = 10.0  # after which a job that the queue does not have has left no word in the ledger either
# states of SLURM in which a job is there, or comes back
LIVING = {
    *("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "COMPLETING"),
    *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESIZING", "RESV_DEL_HOLD"),
}


class Slurm(LedgerLauncher):
    """Jobs of SLURM, begun from a login node.

    Args:
        partition: null: the cluster's default one.
        minutes: time limit; a job that reaches it is ended after a checkpoint and goes on in the queue.
        timeouts: how often it does so.
        memory: of a node, in GB; null: what the cluster gives by default.
        cpus: of a process, where the job's configuration sets no `threads`.
        gpus: of a node.
        nodes, tasks_per_node: of one job, for `trainer.num_nodes` and `trainer.devices`.
        notice: seconds before the end of its time at which a job is told.
        additional: further options of sbatch.
    """

    def __init__(
        self,
        *,
        partition: str | None = None,
        minutes: int = 60,
        timeouts: int = 3,
        memory: float | None = None,
        cpus: int = 1,
        gpus: int = 0,
        nodes: int = 1,
        tasks_per_node: int = 1,
        notice: int = 90,
        additional: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in {"minutes": minutes, "cpus": cpus, "nodes": nodes, "tasks_per_node": tasks_per_node}.items():
            if value < 1:
                raise UserError(f"hydra.launcher.{name}={value} must be at least 1")
        self.partition, self.cpus, self.timeouts = partition, cpus, timeouts
        self.options = {
            "partition": partition,
            "time": minutes,
            "mem": f"{memory:g}GB" if memory is not None else None,
            "gpus_per_node": gpus or None,
            "nodes": nodes,
            "ntasks_per_node": tasks_per_node,
            "signal_delay_s": notice,
            "additional_parameters": dict(additional or {}),
        }

    @override
    def threads(self, jobs: int, config: DictConfig) -> int:
        return config.threads or self.cpus

    @override
    def living(self, ledger: Ledger) -> set[int]:
        places = {place: job.number for job in ledger.jobs if (place := _place(job))}
        states = queue(ledger.id) if places else {}
        return {number for place, number in places.items() if states.get(place) in LIVING}

    @override
    def executor(self, ledger: Ledger, jobs: int, config: DictConfig, task: TaskFunction) -> Executor:
        if config.jobs_per_gpu != 1:
            raise UserError(f"jobs_per_gpu={config.jobs_per_gpu}: SLURM gives a job whole GPUs")
        if config.n_jobs is not None and config.n_jobs < 1:
            raise UserError(f"n_jobs={config.n_jobs} must be at least 1")
        _check_store(self.partition, config.tracking)
        optional.require("submitit", "pip install submitit", for_="hydra/launcher=slurm")
        import submitit  # noqa: PLC0415 (an extra)

        os.environ.update(project.environment(os.environ))  # which sbatch hands on
        submits = submitit.SlurmExecutor(ledger.folder / "slurm", max_num_timeout=self.timeouts)
        options: dict[str, Any] = {key: value for key, value in self.options.items() if value is not None}
        cpus = config.threads or ledger.threads
        options |= {"job_name": _name(ledger.id), "cpus_per_task": cpus}
        options["srun_args"] = [f"--cpus-per-task={cpus}"]  # from SLURM 22.05 on srun does not take it from sbatch
        places = min(jobs, config.n_jobs or jobs)
        submits.update_parameters(**options, array_parallelism=places)
        return Queue(submits, ledger.id, places=places, on_error=config.on_error)


class Queue(Executor):
    """Submits jobs, those that may begin at the same time as one array, and follows them in the queue.

    What became of a job, its own process has written into the ledger; the queue only says whether there is one.

    Args:
        submits: of submitit, with the options of sbatch.
        sweep: id of the sweep.
    """

    def __init__(self, submits: submitit.SlurmExecutor, sweep: str, *, places: int, on_error: OnError) -> None:
        super().__init__(places, on_error)
        self.submits, self.sweep = submits, sweep
        self.new: list[Job] = []
        self.gone: dict[int, float] = {}  # since when the queue does not have a job, by its number
        self.stopping = False
        self._states: dict[str, str] = {}
        self._asked = float("-inf")

    @override
    def adopt(self, job: Job) -> bool:
        place = _place(job)
        if place is None:
            return False
        self._ask()
        job.read()
        if self._states.get(place) in LIVING or job.done:
            return True
        job.mark_lost(-signal.SIGKILL)  # since it was last looked at
        return False

    @override
    def begin(self, job: Job) -> None:
        job.update(status="pending")  # until its process says otherwise
        self.new.append(job)

    @override
    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    @override
    def collect(self) -> list[int]:
        self._ask()
        return [number for number, job in self.running.items() if self._has_ended(job.read())]

    @override
    def submit(self) -> None:
        if not self.new:
            return
        jobs, self.new = self.new, []
        try:
            # submitit repeats on stderr what sbatch says there, which is in its error too
            with contextlib.redirect_stderr(io.StringIO()), self.submits.batch():
                submitted = [self.submits.submit(RequeuedMonitor(job)) for job in jobs]
        except Exception as error:  # noqa: BLE001 (submitit and sbatch raise errors of many kinds)
            for job in jobs:
                del self.running[job.number]
            said = str(getattr(error, "stderr", "") or error).strip().splitlines()
            raise UserError(f"SLURM refused the jobs: {said[-1] if said else type(error).__name__}") from None
        for job, one in zip(jobs, submitted, strict=True):
            _save_place(job.folder, one.job_id)
        self._asked = float("-inf")

    def _has_ended(self, job: Job) -> bool:
        """True if nothing more will be heard of the job; of one that left no word, record that it was killed.

        One that was killed may come back, and SLURM has it for a moment yet: it has ended when it is out of the queue.
        """
        state = self._states.get(_place(job) or "")
        if job.done or job.state.status == "failed":
            return True
        if state in LIVING:
            self.gone.pop(job.number, None)
            return False
        if job.state.status != "killed":
            since = self.gone.setdefault(job.number, time.monotonic())
            if not self.stopping and time.monotonic() - since < GONE_SECONDS:
                return False
            error = "stopped before it began" if self.stopping else f"lost by SLURM: {state or 'not in the queue'}"
            job.update(status="killed", error=error, code=128 + (signal.SIGTERM if self.stopping else signal.SIGKILL))
        self.gone.pop(job.number, None)
        return True

    @override
    def terminate(self) -> None:
        self.stopping = True
        self._cancel()

    @override
    def kill(self) -> None:
        self._cancel("--signal=KILL")

    def _cancel(self, *options: str) -> None:
        if places := [place for job in self.running.values() if (place := _place(job))]:
            subprocess.run(["scancel", *options, *places], capture_output=True)
        self._asked = float("-inf")

    def _ask(self) -> None:
        """Take the states from the queue, now and then; where it does not answer they stay as they were."""
        if time.monotonic() - self._asked > ASK_SECONDS:
            try:
                self._states = queue(self.sweep)
            except UserError:  # its controller is being restarted, say
                return
            self._asked = time.monotonic()


class RequeuedMonitor(WorkerMonitor):
    """A job's monitor that comes back: submitit calls `checkpoint` when SLURM announces the job's end."""

    @override
    def __call__(self, environment: Mapping[str, str] | None = None) -> int:
        array = os.environ.get("SLURM_ARRAY_JOB_ID")
        place = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
        _save_place(Path(self.folder), place)  # a launcher that was killed has not
        signal.signal(
            signal.SIGTERM,
            lambda signum, frame: self.process and self.process.terminate(),  # type: ignore[func-returns-value]
        )
        return super().__call__(environment)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """End the job's process gently, so that the next one goes on with its run."""
        import submitit  # noqa: PLC0415 (an extra)

        self.end()
        self.process = None  # this is pickled
        return submitit.helpers.DelayedSubmission(self)


def queue(sweep: str) -> dict[str, str]:
    """States of the sweep's jobs by SLURM's ids; those that have ended for some minutes are not there.

    Raises:
        UserError: SLURM is not here, or does not answer.
    """
    lines = _answer("squeue", "--me", "--array", "--noheader", "--states=all", f"--name={_name(sweep)}", "-o", "%i|%T")
    return dict(line.split("|") for line in lines)


def _answer(*command: str) -> Sequence[str]:
    if shutil.which(command[0]) is None:
        raise UserError("hydra/launcher=slurm needs SLURM's commands (sbatch, squeue): start the sweep on a login node")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(f"SLURM's controller does not answer within {ANSWER_SECONDS:g} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise UserError(f"SLURM's controller cannot be asked: {said}")
    return done.stdout.split()


def _check_store(partition: str | None, config: DictConfig) -> None:
    """Raise UserError where several machines would write to one SQLite file, which it does not survive."""
    hosts = set(_answer("sinfo", "--noheader", "-o", "%n", *([f"--partition={partition}"] if partition else [])))
    if partition and not hosts:
        raise UserError(f"hydra.launcher.partition={partition}: SLURM has none of that name; `sinfo` shows them")
    here = {socket.gethostname().partition(".")[0]}
    if hosts - here and config.get("enabled", True) and not tracking.shared(config.get("uri")):
        raise UserError(
            f"SLURM's jobs run on other machines ({len(hosts)}), and an SQLite file takes runs of one only: "
            "start a tracking server and set tracking.uri=http://HOST:5000 (docs/clusters.md)"
        )


def _name(sweep: str) -> str:
    return f"labbook-{sweep}"


def _place(job: Job) -> str | None:
    """SLURM's id of the job, as it was submitted last."""
    path = job.folder / "slurm.txt"
    return path.read_text() if path.exists() else None


def _save_place(folder: Path, place: str) -> None:
    output.write(folder / "slurm.txt", place)
