"""The page of one sweep."""

from __future__ import annotations

import shlex

from src import tracking
from src.commands.compare import courses
from src.comparison.leaderboard import leaderboard
from src.pages import comparison
from src.pages.document import Code, Document, Picture, Table, Text
from src.pages.run import caption, folded, question
from src.sweeps.data_requirements import curves as learning
from src.sweeps.jobs.ledger import Ledger


def of_sweep(ledger: Ledger, uri: str | None) -> Document:
    """The page about a sweep."""
    document = Document(f"Sweep {ledger.id}")
    counts = ", ".join(f"{count} {status}" for status, count in ledger.counts().items())
    command = shlex.join(ledger.about["command"])
    document.add("Question", *question(ledger.about["command"]))
    space = [[key, values] for key, values in (ledger.about.get("space") or {}).items()]
    document.add(
        "What was tried",
        Text(f"{len(ledger.jobs)} jobs: {counts}"),
        Table(["what varies", "values"], space) if space else None,
    )
    document.add("How much data", *_requirements(ledger))
    board = leaderboard(tracking.table(uri, sweep=ledger.id, constants=False))
    comparison.add(document, board, courses(board, uri), "Result")
    own, _ = ledger.own_run
    if own is not None:
        run = tracking.run_of_sweep(own, uri)
        pictures = sorted((run.directory / "figures").glob("*.png"))
        document.add("The search space", *(Picture(path, caption(path)) for path in pictures))
        document.add("The best configuration", folded(run, "best_config.yaml", "as YAML"))
    document.add("To have it again", Code(command))
    return document


def _requirements(ledger: Ledger) -> list[Text | Table]:
    """The learning curves of a study of data requirements: what was measured and is foretold, and what that says."""
    curves = learning.curves_of(ledger) if ledger.about["study"] else []
    blocks: list[Text | Table] = []
    for curve in curves:
        said = ": ".join(filter(None, (curve.name, learning.sentence(curve))))
        blocks += [Table(learning.heading(curve), learning.cells(curve)), Text(said)]
    return blocks
