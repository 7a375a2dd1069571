"""A sweep's own run in MLflow: what was asked for, how each job went, the best one, and pictures."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from src import plots, tracking
from src.errors import Interrupted, UserError
from src.runtime.format import duration
from src.sweeps.data_requirements.curves import curves_of, save_figure, sentence
from src.sweeps.data_requirements.study import study_of
from src.sweeps.jobs.ledger import STATUSES, Job, Ledger
from src.sweeps.jobs.trials import Trial, best_first, higher_is_better, trials_of
from src.sweeps.search import importance
from src.sweeps.views.terminal import metric, spread
from src.tracking.redaction import redact, redact_config, secrets_of

ROWS = 20  # of the table in the description
STATE = ("best", "epoch", "seconds", "attempts")  # columns of the ledger's table


def space(config: DictConfig) -> dict[str, str]:
    """Values or interval of what varies, by key, as the command or a recipe writes them."""
    parser, found = OverridesParser.create(), {}
    params = config.hydra.sweeper.get("params") or {}
    for text in [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]:
        if parser.parse_override(text).is_sweep_override():
            key, _, value = text.lstrip("+").partition("=")
            found[key] = value
    found |= {name: str(config[name]) for name in ("repeats", "folds") if config[name] not in (None, 1)}
    study = study_of(config)
    return found | study.space if study else found


class Summary:
    """The sweep's own run, from the sweep's beginning to its end; nothing at all where runs are not tracked.

    Its writer process is one of `src.tracking`: when the launcher is killed, that marks the run KILLED. The same
    command goes on with it.

    Args:
        config: of the sweep; `tracking` says where runs go.
        left: how many jobs are to run; where none are and the run has ended well, it stays as it is.

    Attributes:
        notes: lines worth telling the user, at the end.
    """

    def __init__(self, ledger: Ledger, config: DictConfig, left: int) -> None:
        self.ledger, self._tracking = ledger, config.tracking
        self.notes: list[str] = []
        self._run: Any = None  # a Run of tracking; None where nothing is tracked
        if self._tracking.get("enabled", True) and (left or ledger.own_run[1] != "FINISHED"):
            self._run = self._begin(ledger.own_run[0])

    def _begin(self, known: str | None) -> tracking.Run:
        ledger, about = self.ledger, self.ledger.about
        start = instantiate(self._tracking, _convert_="all", system_metrics=False, nested=False, active=False)
        run: tracking.Run = start(
            config={"space": about.get("space", {}), "threads": ledger.threads},
            overrides=about["command"],
            name=f"sweep {ledger.id}",
            tags={"labbook.kind": "sweep", "labbook.sweep_id": ledger.id},
            resume=known,
        )
        return run

    def wait_open(self) -> None:
        """Wait until the store has the run.

        Raises:
            UserError: the store cannot be used or reached.
        """
        if self._run is None:
            return
        try:
            self._save_status(None)
        except UserError:
            known, self._run = self.ledger.own_run[0], None
            if known is None:
                raise
            run = self._begin(None)  # what somebody has deleted is begun anew, and a store that is not there says so
            self.ledger.set_run(run.id, None)
            self._run = run
        self._run.set_tags({"mlflow.note.content": _description(self.ledger, self._run.experiment_id)})

    def _save_status(self, status: str | None) -> None:
        self.ledger.set_run(self._run.id, status)

    def log_job(self, job: Job) -> None:
        """Record the objective of a job that has ended, so that the charts follow the sweep."""
        if self._run is not None and job.state.objective is not None:
            self._run.log_points([("sweep/objective", job.state.objective, job.number)])

    def __enter__(self) -> Summary:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._run is None:
            return
        missing = sum(not job.done for job in self.ledger.jobs)
        failure = f"{missing} of the sweep's {len(self.ledger.jobs)} jobs did not finish" if missing else None
        status = "FAILED" if missing else "FINISHED"
        if isinstance(error, Interrupted | KeyboardInterrupt):
            status, failure = "KILLED", str(error) or "stopped by SIGINT"
        elif error is not None:
            status, failure = "FAILED", f"{type(error).__name__}: {error}".splitlines()[0]
        try:
            self._log_results()
        finally:
            self._run.finish(status, failure)
            self._save_status(status)
        self.notes += [*self._run.notes, f"its run {self._run.id}", self._run.ui_hint]

    def _log_results(self) -> None:
        """Log what is known at the end: metrics, tables, the description, the best job's configuration, pictures."""
        run, ledger = self._run, self.ledger
        secrets = secrets_of(run.store.uri)
        trials = trials_of(ledger.jobs)
        best = next((trial for trial in best_first(trials) if trial.objective is not None), None)
        counts = ledger.counts()
        figures: dict[str, float] = {f"sweep/{name}": counts.get(name, 0) for name in STATUSES if name != "running"}
        if best is not None and best.objective is not None:
            figures["sweep/objective_best"] = best.objective
            config = redact_config(_resolve(best.jobs[0], ledger.threads), secrets)
            run.artifact("best_config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
        run.log_metrics(figures, step=None)
        heading, *rows = _table(ledger.jobs)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([heading, *rows])
        run.artifact("jobs.csv").write_text(redact(text.getvalue(), secrets), encoding="utf-8")
        table = redact_config({"columns": heading, "data": rows}, secrets)
        run.artifact("jobs.json").write_text(json.dumps(table), encoding="utf-8")
        # MLflow's UI shows such a file as a table, and those of several runs side by side
        run.set_tags({"mlflow.loggedArtifacts": json.dumps([{"path": "jobs.json", "type": "table"}])})
        self._draw(trials)
        run.set_tags({"mlflow.note.content": _description(ledger, run.experiment_id)})

    def _draw(self, trials: Sequence[Trial]) -> None:
        if self.ledger.about["study"]:
            save_figure(self.ledger, self._run.artifact("figures"))
            return
        done = [trial for trial in trials if trial.objective is not None and math.isfinite(trial.objective)]
        if len(done) < 2:
            return
        columns, asked = parameters(done), self.ledger.about.get("space", {})
        numbers = {name: column for name, column in columns.items() if not isinstance(column[0], str)}
        log = {name for name, column in numbers.items() if _is_log(asked.get(name, ""), column)}
        objectives = [trial.objective for trial in done if trial.objective is not None]
        shares: dict[str, float] = {}
        if importance.enough(columns, objectives):
            if importance.available():
                shares = importance.shares(columns, log, objectives)
            else:
                self.notes.append(importance.MISSING)
        deviations = [trial.deviation for trial in done if trial.deviation is not None]
        shown = plots.sweep.Trials(
            numbers=[trial.number for trial in done],
            parameters=columns,
            log=log,
            objectives=objectives,
            deviations=deviations if len(deviations) == len(done) else None,
            metric=metric(self.ledger.jobs),
            maximised=higher_is_better(trials),
        )
        plots.sweep.save_figures(self._run.artifact("figures"), shown, shares)


def parameters(trials: Sequence[Trial]) -> dict[str, list[float] | list[str]]:
    """Columns of what differs between trials: of each key a number or a text for every trial."""
    read = [dict(map(_split, trial.overrides)) for trial in trials]
    found: dict[str, list[float] | list[str]] = {}
    for key in read[0]:
        texts = [values[key] for values in read if key in values]
        if len(texts) == len(read) and len(set(texts)) > 1:
            numbers = [number for text in texts if (number := _number(text)) is not None]
            found[key] = numbers if len(numbers) == len(texts) else texts
    return found


def _split(override: str) -> tuple[str, str]:
    key, _, value = override.lstrip("+").partition("=")
    return key, value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_log(asked: str, values: Sequence[float]) -> bool:
    """True if a parameter's axis is logarithmic: as the search draws it, or as its values lie."""
    if "interval(" in asked or asked.startswith("tag("):
        return "log" in asked.partition("interval(")[0]
    return plots.sweep.logarithmic(values)


def _table(jobs: Sequence[Job]) -> list[list[Any]]:
    """Table of the ledger: a heading and a row a job, what differs between jobs first."""
    singles = [Trial(job.number, [job]) for job in jobs]
    varied = list(parameters(singles)) if len(jobs) > 1 else []
    rows: list[list[Any]] = [["job", "trial", *varied, "status", metric(jobs), *STATE, "run", "error"]]
    for job in jobs:
        values, state = dict(map(_split, job.overrides)), job.state
        known = [getattr(state, name) for name in STATE]
        rows.append(
            [
                job.number,
                job.trial,
                *map(values.get, varied),
                state.status,
                state.objective,
                *known,
                state.run,
                state.error,
            ]
        )
    return rows


def _resolve(job: Job, threads: int) -> dict[str, Any]:
    """The job's configuration as its run has it."""
    setup_globals()
    config = OmegaConf.load(job.config)
    assert isinstance(config, DictConfig)
    if config.get("threads") is None:
        config.threads = threads
    HydraConfig.instance().cfg = config  # type: ignore[assignment]  # for values such as ${hydra:runtime.choices.model}
    plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return OmegaConf.to_container(plain, resolve=True)  # type: ignore[return-value]


def _description(ledger: Ledger, experiment: str) -> str:
    """Markdown for the run's page: counts, the best one and how to train it again, what varies, the best rows."""
    counts = ", ".join(f"{count} {status}" for status, count in ledger.counts().items())
    lines = [f"Sweep {ledger.id}: {counts}", "", f"    {shlex.join(ledger.about['command'])}"]
    ordered, what = best_first(trials_of(ledger.jobs)), metric(ledger.jobs)
    best = next(iter(ordered), None)  # a search begins without any
    if best is not None and best.objective is not None:
        job = best.jobs[0]
        link = f", [run](#/experiments/{experiment}/runs/{job.state.run})" if job.state.run else ""
        overrides = [*job.overrides, *([] if _sets_threads(job) else [f"threads={ledger.threads}"])]
        overrides += ["study=none"] if ledger.about["study"] else []  # which its recipe may ask for
        command = shlex.join(["python", "-m", "src.train", *overrides])
        first = "" if len(best.jobs) == 1 else "; its first job"
        lines += ["", f"Best: `{best.name}`, {what} {spread(best)}{first}{link}:", "", f"    {command}"]
    if ledger.about["study"]:
        for curve in (curve for curve in curves_of(ledger) if curve.values):
            lines += ["", ": ".join(filter(None, (curve.name, sentence(curve))))]
    if asked := ledger.about.get("space"):
        lines += ["", "| what varies | values |", "|---|---|"]
        lines += [f"| {_cell(key)} | {_cell(value)} |" for key, value in asked.items()]
    lines += ["", f"| | {_cell(what)} | finished | time |", "|---|---|---|---|"]
    for trial in ordered[:ROWS]:
        seconds = sum(job.state.seconds for job in trial.jobs)
        cells = (_cell(trial.name), spread(trial), f"{trial.finished}/{len(trial.jobs)}", duration(seconds))
        lines.append(f"| {' | '.join(cells)} |")
    if len(ordered) > ROWS:
        lines += ["", f"and {len(ordered) - ROWS} more, in jobs.csv"]
    return "\n".join(lines)


def _sets_threads(job: Job) -> bool:
    return any(_split(text)[0] == "threads" for text in job.overrides)


def _cell(text: str) -> str:
    """A text in a cell of a Markdown table."""
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""
