"""A local pool: one process a job, forked from this one, which has imported torch already; a dead one fails alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from omegaconf import DictConfig

from src.errors import UserError
from src.sweeps import job as jobs
from src.sweeps.ledger import Job

OnError = Literal["continue", "stop", "retry"]
ATTEMPTS = 3  # of a job, with on_error=retry
REFRESH_SECONDS = 0.5
_FORK = multiprocessing.get_context("fork")


class Pool:
    """Runs jobs side by side.

    Args:
        task: what a job does with its configuration.
        slots: what is added to the environment of the jobs that run in each of the places, such as a GPU.
        threads: of a job whose configuration does not say.
        on_error: `stop` begins no further job after one that failed, `retry` begins a failed one again, up to three
            times in this pool; a job that was killed from outside counts as failed.
        sweep: id of the sweep.
    """

    def __init__(
        self,
        task: Callable[[DictConfig], Any],
        *,
        slots: Sequence[Mapping[str, str]],
        threads: int,
        on_error: OnError,
        sweep: str,
    ) -> None:
        self.task, self.threads, self.on_error = task, threads, on_error
        self.free = deque(dict(slot) | {jobs.SWEEP_ID: sweep} for slot in slots)
        self.running: dict[int, tuple[Job, BaseProcess, dict[str, str]]] = {}

    def run(self, todo: Sequence[Job], ended: Callable[[Job], None], shown: Callable[[], None]) -> None:
        """Runs all of them; on a signal it stops those that are running, each after its checkpoint, and raises.

        Args:
            ended: called with each job that has ended.
            shown: called now and then.
        """
        pending, tries = deque(todo), dict.fromkeys((job.number for job in todo), 0)
        try:
            while pending or self.running:
                while pending and self.free:
                    job = pending.popleft()
                    tries[job.number] += 1
                    self._begin(job)
                for sentinel in wait(list(self.running), timeout=REFRESH_SECONDS):
                    job = self._reap(sentinel)
                    ended(job)
                    if job.state.status == "finished" or self.on_error == "continue":
                        continue
                    if self.on_error == "stop":
                        pending.clear()
                    elif tries[job.number] < ATTEMPTS:
                        pending.append(job)
                for job, _, _ in self.running.values():
                    job.read()
                shown()
        except BaseException:
            self._stop(ended)
            raise

    def _begin(self, job: Job) -> None:
        slot = self.free.popleft()
        run = job.state.run if job.resumes else None
        job.note(status="running", attempts=job.state.attempts + 1, error=None, code=0, run=run)
        environment = slot | {jobs.SWEEP_JOB: str(job.number)}
        process = _FORK.Process(target=jobs.run, args=(job, self.task, environment, self.threads), daemon=False)
        process.start()
        self.running[process.sentinel] = job, process, slot

    def _reap(self, sentinel: int) -> Job:
        """The job of a process that has ended, with what became of it."""
        job, process, slot = self.running.pop(sentinel)
        process.join()
        self.free.append(slot)
        job.read()
        if job.state.status == "running":  # it had no time to note anything
            code = process.exitcode or 0
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"
            memory = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
            job.note(status="killed", error=how + memory, code=128 - code if code < 0 else code)
        return job

    def _stop(self, ended: Callable[[Job], None]) -> None:
        """Ends what is running: gently, and at a second signal at once."""
        try:
            for _, process, _ in self.running.values():
                process.terminate()
            while self.running:
                for sentinel in wait(list(self.running)):
                    ended(self._reap(sentinel))
        except BaseException:
            for _, process, _ in self.running.values():
                process.kill()
            raise


def places(
    count: int, n_jobs: int | None, threads: int | None, jobs_per_gpu: int, accelerator: str
) -> tuple[list[dict[str, str]], int]:
    """The slots for so many jobs, and the threads of each.

    On GPUs `jobs_per_gpu` on each, elsewhere as many as there are cores for; no more than there are jobs. Threads are
    shared out so that all slots together take no more than the cores that this process may use.

    Args:
        n_jobs: no more than this many at a time; null: as above.
        threads: of a job, if that is set.

    Raises:
        UserError: a count below one.
    """
    for name, value in (("n_jobs", n_jobs), ("jobs_per_gpu", jobs_per_gpu)):
        if value is not None and value < 1:
            raise UserError(f"{name}={value} must be at least 1")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = _gpus() if accelerator in ("auto", "gpu", "cuda") else []
    most = len(gpus) * jobs_per_gpu if gpus else max(1, cores // (threads or 1))
    slots = min(count, n_jobs or most)
    environments = [{"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {} for i in range(slots)]
    return environments, max(1, cores // slots)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    import torch

    return [
        str(i) for i in range(torch.cuda.device_count())
    ]  # asks the driver, makes no context that a fork would break
