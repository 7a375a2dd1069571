"""A sweep from its ledger to its end: what is missing is run, and a person sees how it goes and how it went."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from omegaconf import DictConfig
from rich.console import Console

from src import tracking
from src.errors import RunFailed, UserError
from src.runtime.console import say
from src.sweeps.jobs.ledger import Job, Ledger, set_latest
from src.sweeps.launchers.executor import Executor
from src.sweeps.views.mlflow_run import Summary
from src.sweeps.views.terminal import ProgressTable, results

ORPHANS_SECONDS = 60.0  # that the jobs of a killed launcher may take to end


class PendingJobs:
    """Jobs of a ledger that have not finished, in its order; base of what adds jobs as others end."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @property
    def total(self) -> int:
        """Number of jobs that there will be, the finished ones too."""
        return self.ledger.total

    def begin(self) -> None:
        """Prepare to run; nobody else runs jobs of the ledger now, and it is up to date."""

    def __iter__(self) -> Iterator[Job]:
        return (job for job in self.ledger.jobs if not self.done(job))

    def done(self, job: Job) -> bool:
        """True if the job is not to be run again."""
        return job.done

    def record(self, job: Job) -> None:
        """Take note of a job that has ended."""

    def conclude(self, console: Console) -> None:
        """Print what came out, below the table."""


def run_ledger(
    ledger: Ledger,
    config: DictConfig,
    jobs: PendingJobs,
    executor: Callable[[int], Executor],
    console: Console,
    living: Callable[[Ledger], set[int]] = lambda ledger: set(),
) -> None:
    """Run what is missing of a sweep, and print how it went.

    Args:
        jobs: where they come from.
        executor: is made for so many jobs, when there are any.
        living: numbers of jobs that go on without a launcher, which the executor will take over.

    Raises:
        UserError: another process runs it; or all jobs that failed were asked for something that cannot be.
        RunFailed: some jobs have not finished.
    """
    set_latest(ledger.id)
    ledger.take(ORPHANS_SECONDS)
    try:
        alive = living(ledger)
        _settle(ledger, config, alive)
        jobs.begin()
        done = sum(map(jobs.done, ledger.jobs))
        _print_plan(console, ledger, jobs.total, done, alive)
        count = jobs.total - done
        if count and config.tracking.get("enabled", True):
            tracking.keep_warm()
        with Summary(ledger, config, count) as summary:
            if count:
                with ProgressTable(ledger, console, count) as progress:
                    runs = executor(count)
                    progress.places = runs.places
                    summary.wait_open()

                    def on_end(job: Job) -> None:
                        jobs.record(job)
                        progress.print_job(job)
                        summary.log_job(job)

                    runs.run(jobs, on_end, progress.refresh)
    finally:
        _end_lost(ledger, config)
        ledger.release()
    console.print(results(ledger))
    jobs.conclude(console)
    for line in (f"sweep {ledger.id}; what each job printed is in {ledger.folder}/jobs", *summary.notes):
        say(console, line)
    missing = [job for job in ledger.jobs if not job.done]
    if missing:
        names = "; ".join(f"{job.name} ({job.state.error or job.state.status})" for job in missing)
        kind = UserError if all(job.state.code == 2 for job in missing) else RunFailed
        raise kind(f"{len(missing)} of the sweep's {len(ledger.jobs)} jobs did not finish: {names}")


def _print_plan(console: Console, ledger: Ledger, total: int, done: int, alive: Collection[int]) -> None:
    """Print a line such as `sweep ID: 12 finished, 1 to resume, 3 to run`."""
    finished = sum(job.done for job in ledger.jobs)
    resumed = sum(job.resumes and job.number not in alive for job in ledger.jobs)
    counts = {"finished": finished, "failed": done - finished, "still running": len(alive), "to resume": resumed}
    counts["to run"] = total - sum(counts.values())
    text = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "to run")
    if done == total:
        text += "; force=true runs everything anew"
    say(console, f"sweep {ledger.id}: {text}")


def _settle(ledger: Ledger, config: DictConfig, alive: Collection[int]) -> None:
    """Bring the ledger up to date with the store, where a kill came between the two; not for those that live on."""
    begun = [job for job in ledger.jobs if job.state.attempts and not job.done and job.number not in alive]
    if not begun:
        return
    stored = _ask_store(config, tracking.sweep_runs, ledger.id) or {}
    for job in begun:
        run, status = stored.get(job.number, (job.state.run, None))
        if status == "FINISHED":
            objective = job.state.best if job.state.objective is None else job.state.objective
            status = "pruned" if job.state.pruned else "finished"
            job.update(status=status, run=run, error=None, objective=objective)
        elif job.state.status == "failed" or status == "FAILED":
            job.update(status="failed")
        else:
            job.update(status="killed", run=run)


def _end_lost(ledger: Ledger, config: DictConfig) -> None:
    """Mark the runs of jobs that died together with the process that tracked them, as a lost machine's do."""
    gently = (128 + signal.SIGINT, 128 + signal.SIGTERM)
    lost = [job.state for job in ledger.jobs if job.state.status == "killed" and job.state.code not in gently]
    if runs := [state.run for state in lost if state.run is not None]:
        with contextlib.suppress(UserError):  # a store that is away is no reason to say less of the sweep itself
            _ask_store(config, tracking.end_abandoned, runs)


Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def _ask_store(config: DictConfig, question: Callable[[Asked, str | None], Answer], argument: Asked) -> Answer | None:
    """Ask the store; None without one. In another process, as what a store leaves is not to be forked."""
    if not config.tracking.get("enabled", True):
        return None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as other:
        return other.submit(question, argument, config.tracking.get("uri")).result()
