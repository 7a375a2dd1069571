"""A sweep on the terminal: a live table while it runs, a line for each job that ends, the results at the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from src.runtime.console import say
from src.runtime.format import duration, significant
from src.sweeps.jobs.ledger import Job, Ledger
from src.sweeps.jobs.trials import Trial, best_first, trials_of

LINES = 20  # jobs that a table shows
STYLES = {
    "finished": "green",
    "pruned": "blue",
    "running": "cyan",
    "failed": "red",
    "killed": "yellow",
    "pending": "dim",
}


class ProgressTable:
    """Live table; plain lines when output is not a terminal.

    Args:
        jobs: how many are to run.

    Attributes:
        places: how many of them run at a time, for the time that is left.
    """

    def __init__(self, ledger: Ledger, console: Console, jobs: int) -> None:
        self.ledger, self.console, self.jobs, self.places = ledger, console, jobs, 1
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._drawn = 0.0
        self._ended = 0

    def __enter__(self) -> ProgressTable:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def print_job(self, job: Job) -> None:
        """Print a line for a job that has ended."""
        self._ended += 1
        state = job.state
        what = f": {state.metric} {significant(state.objective)}" if state.objective is not None else ""
        what = what if job.done else f": {state.error}"
        run = f", run {state.run[:8]}" if state.run else ""
        line = f"[{self._ended}/{self.jobs}] {job.name}: {state.status}{what}, {state.seconds:.1f} s{run}"
        say(self.console, line)

    def refresh(self) -> None:
        """Draw anew, not more than twice a second."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn > 0.4:
            self._drawn = now
            self._live.update(table(self.ledger, self._left()), refresh=True)

    def _left(self) -> float | None:
        """Seconds until the end, priced from the jobs that have finished here."""
        done = [job.state.seconds for job in self.ledger.jobs if job.state.status == "finished" and job.state.seconds]
        to_do = sum(job.state.status in ("pending", "running") for job in self.ledger.jobs)
        to_do += self.ledger.total - len(self.ledger.jobs)
        return sum(done) / len(done) * to_do / self.places if done else None


def table(ledger: Ledger, left: float | None = None) -> Table:
    """Table of the jobs: those that are running, then the best, then the rest; the caption counts the others."""
    found = _table(ledger, "job", "state", "epoch>", f"{metric(ledger.jobs)}>", "time>", "run")
    if left:
        found.title = f"{found.title}, about {duration(left)} left"
    ordered = rank(ledger.jobs)
    for job in ordered[:LINES]:
        state = job.state
        value = state.objective if state.objective is not None else state.best
        epochs = f"{state.epoch}/{state.epochs}" if state.epochs else str(state.epoch or "-")
        cells = (epochs, significant(value), duration(state.seconds) if state.seconds else "-", (state.run or "-")[:8])
        found.add_row(escape(job.name), f"[{STYLES[state.status]}]{state.status}[/]", *cells)
    if len(ordered) > LINES:
        found.caption = f"and {len(ordered) - LINES} more"
    return found


def results(ledger: Ledger) -> Table:
    """Table of a sweep's trials, the best first, where jobs are repeats or folds of them, else of its jobs."""
    trials = trials_of(ledger.jobs)
    if len(trials) == len(ledger.jobs):
        return table(ledger)
    found = _table(ledger, "trial", "finished>", f"{metric(ledger.jobs)}>", "time>")
    for trial in best_first(trials)[:LINES]:
        seconds = sum(job.state.seconds for job in trial.jobs)
        cells = (f"{trial.finished}/{len(trial.jobs)}", spread(trial), duration(seconds) if seconds else "-")
        found.add_row(escape(trial.name), *cells)
    if len(trials) > LINES:
        found.caption = f"and {len(trials) - LINES} more"
    return found


def _table(ledger: Ledger, *headings: str) -> Table:
    """An empty one with the sweep's state; `>` after a heading puts its column to the right."""
    to_come = ledger.total - len(ledger.jobs)
    counts = [f"{count} {status}" for status, count in ledger.counts().items()]
    counts += [f"{to_come} to come"] if to_come else []
    found = Table(title=f"sweep {ledger.id}: {', '.join(counts)}", title_justify="left", title_style="italic")
    for heading in headings:
        found.add_column(heading.removesuffix(">"), justify="right" if heading.endswith(">") else "left")
    return found


def metric(jobs: Sequence[Job]) -> str:
    """Name of the jobs' objective."""
    return next((job.state.metric for job in jobs if job.state.metric), "objective")


def rank(jobs: Sequence[Job]) -> list[Job]:
    """Sort jobs: running ones first, then finished ones by objective, the best first, then the others by number."""

    def place(job: Job) -> tuple[int, float, int]:
        state = job.state
        if state.status == "running":
            return 0, 0.0, job.number
        if state.status == "finished" and state.objective is not None:
            return 1, state.objective if state.mode == "min" else -state.objective, job.number
        return 2 + ("finished", "pruned", "failed", "killed", "pending").index(state.status), 0.0, job.number

    return sorted(jobs, key=place)


def spread(trial: Trial) -> str:
    """Format a trial's objective as `0.953 ± 0.012 (3)`: mean, standard deviation, finished jobs."""
    values = trial.values
    mean = significant(statistics.fmean(values) if values else None)
    deviation = "" if trial.deviation is None else f" ± {trial.deviation:.2g}"
    return f"{mean}{deviation} ({len(values)})" if values and len(trial.jobs) > 1 else mean
