"""A sweep from its ledger to its end: what is missing is run, and a person sees how it goes and how it went."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

from omegaconf import DictConfig
from rich.console import Console

from src import tracking
from src.errors import RunFailed, UserError
from src.sweeps.board import Board, results
from src.sweeps.executor import Executor
from src.sweeps.ledger import Job, Ledger
from src.sweeps.summary import Summary

ORPHANS_SECONDS = 60.0  # that the jobs of a killed launcher may take to end


class Missing:
    """The jobs of a ledger that have not finished, in its order; base of what adds jobs as others end.

    Attributes:
        total: how many jobs there will be, the finished ones too.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.total = len(ledger.jobs)

    def __iter__(self) -> Iterator[Job]:
        return (job for job in self.ledger.jobs if job.state.status != "finished")

    def ended(self, job: Job) -> None:
        """Takes note of a job that has ended."""


def run_ledger(
    ledger: Ledger, config: DictConfig, jobs: Missing, executor: Callable[[int], Executor], console: Console
) -> None:
    """Runs what is missing of a sweep, and says how it went.

    Args:
        jobs: where they come from.
        executor: is made for so many jobs, when there are any.

    Raises:
        UserError: another process runs it; or all jobs that failed were asked for something that cannot be.
        RunFailed: some jobs have not finished.
    """
    ledger.take(ORPHANS_SECONDS)
    try:
        _settle(ledger, config)
        finished = sum(job.state.status == "finished" for job in ledger.jobs)
        _print_plan(console, ledger, jobs.total, finished)
        count = jobs.total - finished
        if count and config.tracking.get("enabled", True):
            tracking.keep_warm()
        with Summary(ledger, config, count) as summary:
            if count:
                with Board(ledger, console, count) as board:
                    runs = executor(count)
                    board.places = runs.places
                    summary.opened()

                    def ended(job: Job) -> None:
                        jobs.ended(job)
                        board.ended(job)
                        summary.ended(job)

                    runs.run(jobs, ended, board.show)
    finally:
        ledger.release()
    console.print(results(ledger))
    for line in (f"sweep {ledger.id}; what each job printed is in {ledger.folder}/jobs", *summary.notes):
        console.print(line, highlight=False, soft_wrap=True)
    missing = [job for job in ledger.jobs if job.state.status != "finished"]
    if missing:
        names = "; ".join(f"{job.name} ({job.state.error or job.state.status})" for job in missing)
        kind = UserError if all(job.state.code == 2 for job in missing) else RunFailed
        raise kind(f"{len(missing)} of the sweep's {len(ledger.jobs)} jobs did not finish: {names}")


def _print_plan(console: Console, ledger: Ledger, total: int, finished: int) -> None:
    """Such as `sweep ID: 12 finished, 1 to resume, 3 to run`."""
    resumed = sum(job.resumes for job in ledger.jobs)
    counts = {"finished": finished, "to resume": resumed, "to run": total - finished - resumed}
    text = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "to run")
    if finished == total:
        text += "; again=true runs everything anew"
    console.print(f"sweep {ledger.id}: {text}", highlight=False, soft_wrap=True)


def _settle(ledger: Ledger, config: DictConfig) -> None:
    """Brings the ledger up to date with the store, where a kill came between the two."""
    begun = [job for job in ledger.jobs if job.state.attempts and job.state.status != "finished"]
    if not begun:
        return
    stored = {}
    if config.tracking.get("enabled", True):
        # in a process of its own: what opening a store leaves behind should not be forked
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as other:
            stored = other.submit(tracking.sweep_runs, ledger.id, config.tracking.get("uri")).result()
    for job in begun:
        run, status = stored.get(job.number, (job.state.run, None))
        if status == "FINISHED":
            objective = job.state.best if job.state.objective is None else job.state.objective
            job.note(status="finished", run=run, error=None, objective=objective)
        elif job.state.status == "failed" or status == "FAILED":
            job.note(status="failed")
        else:
            job.note(status="killed", run=run)
