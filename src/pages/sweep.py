"""The page of one sweep."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from src.comparison.leaderboard import Leaderboard
from src.pages import comparison
from src.pages.document import Code, Document, Picture, Table, Text
from src.pages.run import caption, folded, question
from src.tracking import RunInfo


@dataclass(frozen=True)
class LearningCurve:
    """One learning curve of a study of data requirements as text.

    Attributes:
        header, rows: table of what was measured and what is extrapolated.
        sentence: what more data would bring.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentence: str


@dataclass(frozen=True)
class Facts:
    """A sweep as its page shows it.

    Attributes:
        command: words of the command line.
        counts: jobs by status.
        space: what varies, as the command writes it, by key.
        curves: of a study of data requirements.
        run: the sweep's own; None where it is not tracked.
    """

    id: str
    command: Sequence[str]
    jobs: int
    counts: Mapping[str, int]
    space: Mapping[str, str]
    curves: Sequence[LearningCurve]
    run: RunInfo | None


def of_sweep(sweep: Facts, board: Leaderboard, histories: Mapping[str, pd.DataFrame]) -> Document:
    """Build the page about a sweep.

    Args:
        board: its runs compared.
        histories: by run, `step` and `value` of the metric that is compared.
    """
    document = Document(f"Sweep {sweep.id}")
    counts = ", ".join(f"{count} {status}" for status, count in sweep.counts.items())
    document.add("Question", *question(list(sweep.command)))
    space = [[key, values] for key, values in sweep.space.items()]
    document.add(
        "What was tried",
        Text(f"{sweep.jobs} jobs: {counts}"),
        Table(["what varies", "values"], space) if space else None,
    )
    document.add("How much data", *_learning_curves(sweep.curves))
    comparison.add(document, board, histories, "Result")
    if sweep.run is not None:
        pictures = sorted((sweep.run.directory / "figures").glob("*.png"))
        document.add("The search space", *(Picture(path, caption(path)) for path in pictures))
        document.add("The best configuration", folded(sweep.run, "best_config.yaml", "as YAML"))
    document.add("To have it again", Code(shlex.join(sweep.command)))
    return document


def _learning_curves(curves: Sequence[LearningCurve]) -> list[Text | Table]:
    return [block for curve in curves for block in (Table(curve.header, curve.rows), Text(curve.sentence))]
