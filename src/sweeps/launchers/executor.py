"""Runs jobs side by side, wherever they run: takes the next one when there is a place, and reports how each ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Literal

from src.runtime.signals import Signals
from src.sweeps.jobs.ledger import Job

OnError = Literal["continue", "stop", "retry"]
ATTEMPTS = 3  # of a job, with on_error=retry
REFRESH_SECONDS = 0.5


class Executor(ABC):
    """Base class.

    Args:
        places: how many jobs may run at a time.
        on_error: `stop` begins no further job after one that failed, `retry` begins a failed one again, up to three
            times in this executor; a job that was killed from outside counts as failed.

    Attributes:
        running: jobs that were begun and have not been seen to end, by number.
    """

    def __init__(self, places: int, on_error: OnError) -> None:
        self.places, self.on_error = places, on_error
        self.running: dict[int, Job] = {}

    def run(self, jobs: Iterable[Job], on_end: Callable[[Job], None], refresh: Callable[[], None]) -> None:
        """Run all of them; on a signal it stops those that are running, each after its checkpoint, and raises.

        Args:
            jobs: the next is asked for only when there is a place for it, and after all that have ended were reported.
            on_end: called with each job that has ended and will not be begun again.
            refresh: called now and then.
        """
        queue = _Queue(jobs, self.on_error)
        with Signals() as signals:
            try:
                while True:
                    with signals.held():  # a signal finds each job either running or reported
                        self._report(queue, on_end)
                        self._fill(queue)
                    signals.check()
                    if not self.running:
                        return
                    self.wait(REFRESH_SECONDS)
                    for job in self.running.values():
                        job.read()
                    refresh()
            except BaseException:
                self.stop(on_end)
                signals.check()  # what a signal broke is not what went wrong
                raise

    def stop(self, on_end: Callable[[Job], None]) -> None:
        """End what is running: gently, and at a second signal at once."""
        try:
            self.terminate()
            while self.running:
                for number in self.collect():
                    on_end(self.running.pop(number))
                if self.running:
                    self.wait(REFRESH_SECONDS)
        except BaseException:
            self.kill()
            raise

    def _report(self, queue: _Queue, on_end: Callable[[Job], None]) -> None:
        for number in self.collect():
            job = self.running.pop(number)
            if not queue.takes_back(job):
                on_end(job)

    def _fill(self, queue: _Queue) -> None:
        while len(self.running) < self.places and (job := queue.next()):
            if not self.adopt(job):
                state = job.state
                run = state.run if job.resumes else None
                pruned = state.pruned if run else 0
                job.update(status="running", attempts=state.attempts + 1, error=None, code=0, run=run, pruned=pruned)
                self.begin(job)
            self.running[job.number] = job
        self.submit()

    def adopt(self, job: Job) -> bool:
        """Take over a job that lives on though its launcher is dead; False: it does not live."""
        return False

    @abstractmethod
    def begin(self, job: Job) -> None:
        """Start the job, without waiting for it."""

    def submit(self) -> None:  # noqa: B027 (most have nothing to do here)
        """Hand in the jobs that were begun, where an engine takes several at once."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Wait until a job has ended, at most so many seconds; a first signal raises here, and in no other method."""

    @abstractmethod
    def collect(self) -> list[int]:
        """Numbers of the running jobs that have ended since; their states say how."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask all running jobs to end after a checkpoint."""

    @abstractmethod
    def kill(self) -> None:
        """End all running jobs at once."""


class _Queue:
    """Jobs to begin: those that are tried again, then the further ones."""

    def __init__(self, jobs: Iterable[Job], on_error: OnError) -> None:
        self.jobs, self.on_error = iter(jobs), on_error
        self.again, self.tries = deque[Job](), Counter[int]()

    def next(self) -> Job | None:
        job = self.again.popleft() if self.again else next(self.jobs, None)
        if job is not None:
            self.tries[job.number] += 1
        return job

    def takes_back(self, job: Job) -> bool:
        """True if a job that has ended is tried again; after one that is not there may be no further ones."""
        if job.state.status not in ("failed", "killed"):
            return False
        if self.on_error == "retry" and self.tries[job.number] < ATTEMPTS:
            self.again.append(job)
            return True
        if self.on_error == "stop":
            self.jobs = iter(())
        return False
