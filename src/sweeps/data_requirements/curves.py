"""Learning curves of a sweep over shares of the training split: what was reached, and what more data would bring."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src import plots
from src.errors import UserError, suggest
from src.metrics.modes import Mode, mode_of
from src.runtime.format import number
from src.sweeps.jobs.ledger import Ledger
from src.sweeps.jobs.trials import Trial, trials_of

if TYPE_CHECKING:
    from src.analysis.learning_curve.fit import Fit

ROWS = "data/train_rows"  # among the values of a job
TIMES = (2, 4, 10)  # so many times the rows are looked ahead to
SHARE = "train_fraction="


@dataclass(frozen=True)
class Curve:
    """Learning curve of one setting.

    Attributes:
        name: what sets it apart from the others; empty where it is the only one.
        metric: what was measured.
        values: of the finished runs, by number of training rows (on average over the seeds of a share), ascending.
        shares: fraction of each of these sizes.
        back: makes a value of an error.
        fit: the curve; None where none can be fitted.
        reason: why; empty where the curve is flat.
        mode: whether `min` or `max` of the metric is better; None where that is not known.
    """

    name: str
    metric: str
    values: dict[int, list[float]]
    shares: Mapping[int, float]
    back: Callable[[float], float]
    fit: Fit | None
    reason: str = ""
    mode: Mode | None = None

    @property
    def word(self) -> str:
        """Name of the metric without its split: `accuracy` of `test/accuracy`."""
        return self.metric.rpartition("/")[2]

    def ahead(self, times: float) -> tuple[float, float, float]:
        """The value expected of so many times the rows, and its interval, in the unit of the metric."""
        assert self.fit is not None
        value, *ends = map(self.back, self.fit.expected(times * max(self.values)))
        low, high = sorted(ends)
        return value, low, high


def curves_of(ledger: Ledger, upto: float = 1.0) -> list[Curve]:
    """Fit a curve for each setting beside the share.

    Args:
        upto: shares above are left out, as if they had not been trained.

    Raises:
        UserError: a metric that no run has.
    """
    study = ledger.about["study"]
    groups: dict[str, list[Trial]] = {}
    for trial in (trial for trial in trials_of(ledger.jobs) if _share(trial) <= upto):
        name = " ".join(word for word in trial.name.split() if not word.startswith(SHARE))
        groups.setdefault(name if trial.name != "the only trial" else "", []).append(trial)
    return [_curve(name, trials, study) for name, trials in groups.items()]


def _curve(name: str, trials: Sequence[Trial], study: Mapping[str, Any]) -> Curve:
    done = [[job.state for job in trial.jobs if job.state.status == "finished"] for trial in trials]
    finished = [state for states in done for state in states]
    metric = _metric(finished, study["metric"])
    mode = _mode(metric, finished)
    values: dict[int, list[float]] = {}
    shares: dict[int, float] = {}
    for trial, states in zip(trials, done, strict=True):
        kept = [state.metrics for state in states if metric in state.metrics and ROWS in state.metrics]
        if kept:  # a share of texts or of articles is not as many rows for every seed
            rows = round(statistics.fmean(metrics[ROWS] for metrics in kept))
            values.setdefault(rows, []).extend(metrics[metric] for metrics in kept)
            shares[rows] = _share(trial)
    values = dict(sorted(values.items()))
    error, back = _as_error(metric, mode, [value for some in values.values() for value in some])
    if error is None:
        return Curve(name, metric, values, shares, float, None, f"how good {metric} can become is not known", mode)
    from src.analysis.learning_curve.fit import Flat, Unfit, fit  # noqa: PLC0415 (SciPy: not before it is needed)

    try:
        errors = [[error(value) for value in some] for some in values.values()]
        found, reason = fit(list(values), errors, level=study["level"]), ""
    except Flat:
        found, reason = None, ""
    except Unfit as unfit:
        found, reason = None, str(unfit)
    return Curve(name, metric, values, shares, back, found, reason, mode)


def _share(trial: Trial) -> float:
    return next((float(text.removeprefix(SHARE)) for text in trial.overrides if text.startswith(SHARE)), 1.0)


def _metric(states: Sequence[Any], asked: str | None) -> str:
    """Find the metric's full name; what the runs return where nothing else is known."""
    monitor = next((state.metric for state in states if state.metric), asked or "objective")
    known = set.intersection(*(set(state.metrics) for state in states)) if states else set()
    tested = f"test/{(asked or monitor).rpartition('/')[2]}"
    if asked is None:
        return tested if tested in known else monitor
    if not states or asked in known:
        return asked
    if "/" not in asked and tested in known:
        return tested
    names = [one for one in known if one.startswith(("test/", "val/"))]
    raise UserError(f"study.metric={asked}: the runs do not have it{suggest(asked, names)}")


def _mode(metric: str, states: Sequence[Any]) -> Mode | None:
    """Mode of a metric, which a task may bring itself; then the runs know that of the one they monitor."""
    own = {state.metric.rpartition("/")[2]: state.mode for state in states if state.metric and state.mode}
    return mode_of(metric, own)


def _as_error(
    metric: str, mode: Mode | None, values: Sequence[float]
) -> tuple[Callable[[float], float] | None, Callable[[float], float]]:
    """Functions that make errors, which fall to 0 or more, of a metric's values, and values of errors."""
    word = metric.rpartition("/")[2]
    if word == "psnr":  # decibels of a mean squared error
        return (lambda value: 10 ** (-value / 10)), (lambda error: -10 * math.log10(max(error, 1e-30)))
    if mode == "min":
        return float, float
    best = 100.0 if word in ("bleu", "chrf") else 1.0
    if mode is None or max(values, default=0.0) > best:
        return None, float
    return (lambda value: best - value), (lambda error: best - error)


# what a person reads --------------------------------------------------------------------------------------------------


def sentence(curve: Curve) -> str:
    """Say what more data would bring."""
    fit, runs = curve.fit, len(next(reversed(curve.values.values()), []))
    if fit is None:
        if curve.reason:
            return f"no extrapolation: {curve.reason}"
        first, *_, last = (number(statistics.fmean(some)) for some in curve.values.values())
        went = f"from {min(curve.values):,} to {max(curve.values):,} rows {curve.word} goes from {first} to {last}"
        seeds = f"{runs} seed{'s' if runs > 1 else ''}"
        return f"the curve is flat: {went}, and more data buys nothing that {seeds} can tell"
    value, low, high = curve.ahead(2)
    now = curve.back(float(fit.curve(fit.rows[-1:])[0][0]))
    ahead = f"{curve.word} {number(value)} [{number(low)}, {number(high)}] is expected"
    rows = f"{round(2 * max(curve.values)):,}"
    if fit.flat:
        text = f"the curve has become flat: with 2x the rows ({rows}) {ahead}, from {number(now)}"
        return f"{text}: less than {runs} seed{'s' if runs > 1 else ''} of each can tell"
    return f"with 2x the rows ({rows}) {ahead}, from {number(now)}; {_halving(fit)}{_strayed(fit)}"


def _halving(fit: Fit) -> str:
    from src.analysis.learning_curve.fit import AT_MOST  # noqa: PLC0415 (SciPy: not before it is needed)

    factor = fit.halving()
    if factor.value > AT_MOST:
        return "no number of rows halves the error, as far as this curve tells"
    high = "any number" if factor.high > AT_MOST else f"{factor.high:.2g}"
    return f"halving the error takes about {factor.value:.1f} times the rows [{factor.low:.1f} to {high}]"


def _strayed(fit: Fit) -> str:
    strayed = f"; the points stray {fit.strayed:.1f} times as far from the curve as their spread explains"
    return strayed + ", so the intervals are wider" if fit.strayed > 2 else ""


def heading(curve: Curve) -> list[str]:
    return ["training rows", "share", "runs", curve.metric, "std"]


def cells(curve: Curve) -> list[list[str]]:
    """Rows of the table: one for each size, then for what is extrapolated."""
    found = []
    for rows, values in curve.values.items():
        deviation = f"{statistics.stdev(values):.2g}" if len(values) > 1 else "-"
        share = f"{curve.shares[rows]:g}"
        found.append([f"{rows:,}", share, str(len(values)), number(statistics.fmean(values)), deviation])
    if curve.fit is not None:
        for times in TIMES:
            value, low, high = curve.ahead(times)
            more = f"{times * max(curve.values):,}"
            found.append([more, f"{times}x", "-", f"{number(value)} [{number(low)}, {number(high)}]", "-"])
    return found


def save_figure(ledger: Ledger, folder: Path) -> None:
    """Draw the curves into `data_requirements.png`, where any run has finished."""
    curves = [curve for curve in curves_of(ledger) if curve.values]
    if not curves:
        return
    from src.analysis.learning_curve.plot import fitted  # noqa: PLC0415 (SciPy: not before it is needed)

    drawn = []
    for curve in curves:
        error, _ = _as_error(curve.metric, curve.mode, [value for some in curve.values.values() for value in some])
        errors = {rows: [(error or float)(value) for value in some] for rows, some in curve.values.items()}
        extended = None if curve.fit is None else fitted(curve.fit, TIMES)
        drawn.append(plots.learning_curve.Drawn(curve.name, errors, extended))
    names = dict.fromkeys(_error_name(curve) for curve in curves)
    figure = plots.learning_curve.data_requirements(drawn, ", ".join(names))
    plots.base.save(folder / "data_requirements.png", figure)


def _error_name(curve: Curve) -> str:
    if curve.word == "psnr":
        return "mean squared error"
    best = "100" if curve.word in ("bleu", "chrf") else "1"
    return curve.metric if curve.mode == "min" else f"{best} - {curve.metric}"
