"""Runs jobs side by side, wherever they run: takes the next one when there is a place, and reports how each ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Literal

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
        source, again, tries = iter(jobs), deque[Job](), Counter[int]()
        try:
            while True:
                while len(self.running) < self.places and (job := again.popleft() if again else next(source, None)):
                    tries[job.number] += 1
                    self.running[job.number] = job
                    if self.adopt(job):
                        continue
                    run = job.state.run if job.resumes else None
                    pruned = job.state.pruned if run else 0
                    job.update(
                        status="running", attempts=job.state.attempts + 1, error=None, code=0, run=run, pruned=pruned
                    )
                    self.begin(job)
                if not self.running:
                    return
                for job in self._collect():
                    bad = job.state.status in ("failed", "killed")
                    if bad and self.on_error == "retry" and tries[job.number] < ATTEMPTS:
                        again.append(job)
                        continue
                    on_end(job)
                    if bad and self.on_error == "stop":
                        source = iter(())
                for job in self.running.values():
                    job.read()
                refresh()
        except BaseException:
            self.stop(on_end)
            raise

    def stop(self, on_end: Callable[[Job], None]) -> None:
        """End what is running: gently, and at a second signal at once."""
        try:
            self.terminate()
            while self.running:
                for job in self._collect():
                    on_end(job)
        except BaseException:
            self.kill()
            raise

    def _collect(self) -> list[Job]:
        return [self.running.pop(number) for number in self.wait(REFRESH_SECONDS)]

    def adopt(self, job: Job) -> bool:
        """Take over a job that lives on though its launcher is dead; False: it does not live."""
        return False

    @abstractmethod
    def begin(self, job: Job) -> None:
        """Start the job, without waiting for it."""

    @abstractmethod
    def wait(self, seconds: float) -> list[int]:
        """Numbers of running jobs that have ended, after at most so many seconds; their states say how."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask all running jobs to end after a checkpoint."""

    @abstractmethod
    def kill(self) -> None:
        """End all running jobs at once."""
