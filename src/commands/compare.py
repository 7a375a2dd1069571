"""Compare runs: pick them, compare them, show or write the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from src import plots, tracking
from src.comparison import diff, formats, pareto
from src.comparison.history import histories
from src.comparison.leaderboard import Leaderboard, leaderboard
from src.errors import UserError
from src.runtime import output as outputs
from src.runtime.console import say
from src.sweeps.jobs.ledger import Ledger

SUFFIXES = {".csv": "csv", ".json": "json", ".md": "markdown", ".html": "html"}


def compare(config: DictConfig) -> None:
    """Carry out the command.

    Raises:
        UserError: runs, settings, a metric or an output that cannot be used; nothing was written.
    """
    console = Console()
    kind, output = _output(config)
    given = [name for name in ("runs", "sweep", "filter") if config[name] is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)}: give one of them")
    if not 0 < config.level < 1:
        raise UserError(f"level={config.level}: between 0 and 1, such as 0.95")
    uri = config.tracking.get("uri")
    runs = [tracking.find_run(reference, uri=uri) for reference in _parts(config.runs) or []]
    by = _parts(config.by)
    if len(runs) == 2 and by is None and config.pareto is None:
        report = diff.differences(*runs)
        text = diff.table(report) if kind == "table" else diff.text(report, kind)
        _show(console, text, output)
        return
    table = tracking.table(uri, **chosen(config, [run.id for run in runs]), constants=False)
    if table.empty:
        raise UserError(f"{_described(config)}: there are no such runs")
    board = leaderboard(table, config.metric, by, level=config.level, resamples=config.resamples, seed=config.seed)
    if config.pareto is not None:
        _costs(console, board, config, kind, output)
    elif kind == "html":
        from src.pages import comparison  # noqa: PLC0415 - imports matplotlib, which tables do without
        from src.pages.document import Document  # noqa: PLC0415 - the same

        document = Document(f"{board.metric}: {_described(config)}")
        comparison.add(document, board, histories(board, uri))
        _show(console, document.html(), output)
    elif kind == "table":
        _print(console, board, config.rows)
    else:
        _show(console, formats.text(board, kind), output)


def _costs(console: Console, board: Leaderboard, config: DictConfig, kind: str, output: Path | None) -> None:
    """Show the groups against one cost: print the table, and draw the picture where a name for it is given."""
    found = pareto.front(board, config.pareto)
    if kind in ("table", "png"):
        console.print(found.table(config.rows))
        say(console, found.remark())
        if output is not None:
            with outputs.replacing(output, suffix=".png") as new:
                plots.base.save(new, found.figure())
            say(console, f"drawn in {output}")
    else:
        _show(console, found.text(kind), output)


def _output(config: DictConfig) -> tuple[str, Path | None]:
    """Check the format and the file, which is not there yet unless it may be written over."""
    output = None if config.output is None else Path(config.output)
    kind = config.format or (SUFFIXES.get(output.suffix.lower()) if output else "table")
    if config.pareto is not None and output is not None and output.suffix.lower() == ".png":
        kind = "png"
    if kind is None:
        raise UserError(f"output={output}: ends in {', '.join(SUFFIXES)}, or give the format")
    if kind == "html" and output is None:
        raise UserError("format=html: give a file, output=comparison.html")
    if kind == "html" and config.pareto is not None:
        raise UserError(f"output={output}: the page shows all costs, without pareto=")
    if kind == "table" and output is not None:
        raise UserError(f"output={output}: a table is for the terminal; format=markdown, csv, json or html")
    if output is not None:
        outputs.check(output, config.force)
        outputs.check_folder(output)
    return kind, output


def _parts(text: str | None) -> list[str] | None:
    """Parts of `A,B` or `[A,B]`."""
    return None if text is None else [part.strip() for part in text.strip("[] ").split(",")]


def chosen(config: DictConfig, ids: Sequence[str]) -> dict[str, Any]:
    """Arguments of `tracking.table` for the runs with these ids, of a sweep or of a filter; without any, all runs."""
    if ids:
        return {"ids": list(ids)}
    if config.sweep is not None:
        place = tracking.place(config.tracking.get("uri"))
        known = Ledger.all(place)  # of a sweep on another machine only its full id is known
        return {"sweep": Ledger.find_by_id(place, config.sweep).id if known else config.sweep}
    return {"filter": config.filter}


def _described(config: DictConfig) -> str:
    for name in ("runs", "sweep", "filter"):
        if config[name] is not None:
            return f"{name}={config[name]}"
    return "all runs"


def _print(console: Console, board: Leaderboard, rows: int) -> None:
    console.print(formats.table(board, rows, console.width))
    for line in formats.remarks(board):
        say(console, line)


def _show(console: Console, what: object, output: Path | None) -> None:
    if output is None:
        say(console, what)
        return
    outputs.write(output, str(what))
    say(console, f"written to {output}")
