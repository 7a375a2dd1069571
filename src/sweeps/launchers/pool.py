"""A local pool: one process a job, forked from this one, which has imported torch already; a dead one fails alone."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from omegaconf import DictConfig
from typing_extensions import override

from src.errors import UserError
from src.runtime import signals
from src.sweeps.jobs import worker
from src.sweeps.jobs.ledger import Job
from src.sweeps.launchers.executor import Executor, OnError

_FORK = multiprocessing.get_context("fork")


class Pool(Executor):
    """Runs each job in a process of its own.

    Args:
        task: what a job does with its configuration.
        slots: what is added to the environment of the jobs that run in each of the places, such as a GPU.
        threads: of a job whose configuration does not say.
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
        super().__init__(len(slots), on_error)
        self.task, self.threads = task, threads
        self.free = deque(dict(slot) | {worker.SWEEP_ID: sweep} for slot in slots)
        self.processes: dict[int, tuple[Job, BaseProcess, dict[str, str]]] = {}

    @override
    def begin(self, job: Job) -> None:
        slot = self.free.popleft()
        environment = slot | {worker.SWEEP_JOB: str(job.number)}
        process = _FORK.Process(target=worker.fork, args=(job, self.task, environment, self.threads), daemon=False)
        with signals.blocked():
            process.start()
        self.processes[process.sentinel] = job, process, slot

    @override
    def wait(self, seconds: float) -> None:
        wait(list(self.processes), timeout=seconds)

    @override
    def collect(self) -> list[int]:
        ended = wait(list(self.processes), timeout=0)
        return [self._reap(sentinel).number for sentinel in ended if isinstance(sentinel, int)]

    def _reap(self, sentinel: int) -> Job:
        """The job of a process that has ended, with what became of it."""
        job, process, slot = self.processes.pop(sentinel)
        process.join()
        self.free.append(slot)
        job.read().mark_lost(process.exitcode or 0)
        return job

    @override
    def terminate(self) -> None:
        for _, process, _ in self.processes.values():
            process.terminate()

    @override
    def kill(self) -> None:
        for _, process, _ in self.processes.values():
            process.kill()


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
    import torch  # noqa: PLC0415 (slow to import, and jobs on CPUs are not waited for)

    # asks the driver, makes no context that a fork would break
    return [str(i) for i in range(torch.cuda.device_count())]
