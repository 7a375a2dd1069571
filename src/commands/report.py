"""One page about a run or a sweep, to send to a colleague: question, result, data, pictures, cost, provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from src import tracking
from src.comparison.history import histories
from src.comparison.leaderboard import leaderboard
from src.config.recipes import CONF
from src.errors import UserError
from src.pages.document import Document
from src.pages.run import latest_evaluation, of_run
from src.pages.sweep import Facts, LearningCurve, of_sweep
from src.runtime import output as outputs
from src.runtime.console import say
from src.sweeps.data_requirements import curves as learning
from src.sweeps.jobs.ledger import Ledger
from src.tracking import RunInfo


def report(config: DictConfig) -> None:
    """Write the page.

    Raises:
        UserError: a run or a sweep that is not there, an output that cannot be used.
    """
    console, uri = Console(), config.tracking.get("uri")
    if (config.run is None) == (config.sweep is None):
        raise UserError("say what the report is about: run=ID or sweep=ID")
    output = Path(config.output)
    if output.suffix not in (".html", ".md"):
        raise UserError(f"output={output}: ends in .html or .md")
    outputs.check(output, config.force)
    outputs.check_folder(output)
    if config.run is not None:
        run = tracking.find_run(config.run, uri=uri)
        document = of_run(run, _evaluated(run, config, console))
    else:
        document = _of_sweep(Ledger.find_by_id(tracking.place(uri), config.sweep), uri)
    text = document.html() if output.suffix == ".html" else document.markdown(output.with_name(f"{output.stem}_files"))
    outputs.write(output, text)
    say(console, f"written to {output}")


def _of_sweep(ledger: Ledger, uri: str | None) -> Document:
    board = leaderboard(tracking.table(uri, sweep=ledger.id, constants=False))
    own, _ = ledger.own_run
    facts = Facts(
        id=ledger.id,
        command=ledger.about["command"],
        jobs=len(ledger.jobs),
        counts={str(status): count for status, count in ledger.counts().items()},
        space=ledger.about.get("space") or {},
        curves=learning_curves(ledger),
        run=None if own is None else tracking.run_of_sweep(own, uri),
    )
    return of_sweep(facts, board, histories(board, uri))


def learning_curves(ledger: Ledger) -> list[LearningCurve]:
    """The learning curves of a study of data requirements: what was measured, what more data would bring."""
    found = []
    for curve in learning.curves_of(ledger) if ledger.about["study"] else []:
        said = ": ".join(filter(None, (curve.name, learning.sentence(curve))))
        found.append(LearningCurve(learning.heading(curve), learning.cells(curve), said))
    return found


def _evaluated(run: RunInfo, config: DictConfig, console: Console) -> dict[str, Any] | None:
    """Read the evaluation of the run's own test rows; make it now if there is none and it is asked for."""
    found = latest_evaluation(run)
    if found is None and config.evaluate and any(name.startswith("test/") for name in run.metrics):
        from src.commands.evaluate import evaluate  # noqa: PLC0415 - imports torch

        file: DictConfig = OmegaConf.load(CONF / "evaluate.yaml")  # type: ignore[assignment]
        options = OmegaConf.masked_copy(file, [str(key) for key in file if key not in ("defaults", "hydra")])
        options.update(run=run.id, tracking=config.tracking)
        try:
            evaluate(options)
        except UserError as error:
            say(console, f"without intervals: {error}")
        found = latest_evaluation(run)
    return found
