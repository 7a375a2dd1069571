"""List, show, tag and delete tracked runs, clear leftovers, and repair the paths of a store that was moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from src import tracking
from src.commands.compare import chosen
from src.errors import UserError
from src.runtime import invocation
from src.runtime.console import say
from src.runtime.format import duration, number
from src.tracking import RunInfo, housekeeping
from src.tracking.provenance import PROJECT

FINAL = ("test", "val", "baseline", "cost")  # kinds of metrics that are shown of one run, in this order


def runs(config: DictConfig) -> None:
    """Carry out the action.

    Raises:
        UserError: it cannot be; nothing was changed by the step that says so.
    """
    if config.tags and config.action != "tag":
        raise UserError(f"tags: {config.action} changes none, `{invocation.command('runs')} tag run=...` does")
    ACTIONS[config.action](config, Console())


def _list(config: DictConfig, console: Console) -> None:
    table = _table(config)
    found = Table()
    for heading in ("run", "name", "status", "began", "took"):
        found.add_column(heading, overflow="fold")
    found.add_column("best validation", justify="right")
    for one, row in table.head(config.rows).iterrows():
        began = datetime.fromtimestamp(row["start"] / 1000)
        took = duration((row["end"] - row["start"]) / 1000) if pd.notna(row["end"]) else "-"
        cells = (str(one)[:8], str(row["name"]), row["status"], f"{began:%Y-%m-%d %H:%M}", took, _best(row))
        found.add_row(*map(escape, cells))
    if len(table) > config.rows:
        found.caption = f"and {len(table) - config.rows:,} more; rows={len(table)} shows them"
    console.print(found)


def _best(row: pd.Series) -> str:
    monitor = row.get("tags.labbook.monitor")
    value = row.get(f"metrics.{monitor}_best")
    return "-" if value is None or pd.isna(value) else f"{monitor.rpartition('/')[2]} {number(value)}"


def _show(config: DictConfig, console: Console) -> None:
    run = _run(config)

    def line(text: str) -> None:
        say(console, text)

    line(f"run {run.id}  {run.name}")
    failure = run.tags.get("labbook.failure")
    line(f"{run.status}{f': {failure}' if failure else ''}, began {datetime.fromtimestamp(run.start):%Y-%m-%d %H:%M}")
    line(f"command: {run.tags.get('labbook.command', '-')}")
    line(f"code: {PROJECT.words(run.tags, 12)}")
    own = {key: value for key, value in run.tags.items() if not key.startswith(("labbook.", "mlflow."))}
    if own:
        line("tags: " + ", ".join(f"{key}={value}" for key, value in sorted(own.items())))
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    for kind in FINAL:
        for key in sorted(key for key in run.metrics if key.partition("/")[0] == kind):
            table.add_row(escape(key), number(run.metrics[key]))
        table.add_section()
    console.print(table)
    if run.directory.is_dir():
        files = sorted(path.relative_to(run.directory) for path in run.directory.rglob("*") if path.is_file())
        line(f"{len(files)} files in {run.directory}")
    again, figures = (f"{invocation.command(name)} run={run.id[:8]}" for name in ("rerun", "evaluate"))
    line(f"again: {again}; its figures: {figures}")


def _tag(config: DictConfig, console: Console) -> None:
    if not config.tags:
        raise UserError("tags: say which, such as tags.purpose=baseline; null takes one away")
    tags = _dotted(OmegaConf.to_container(config.tags))  # type: ignore[arg-type]
    if any(key.startswith(("labbook.", "mlflow.")) for key in tags):
        raise UserError("tags: those that begin with labbook. or mlflow. are not a person's")
    for run in _several(config):
        housekeeping.tag(run, tags)
        console.print(f"run {run.id[:8]}: tagged", highlight=False)


def _dotted(tags: Mapping[Any, Any], prefix: str = "") -> dict[str, str | None]:
    """`{"a.b": "1"}` of `tags.a.b=1`."""
    found: dict[str, str | None] = {}
    for key, value in tags.items():
        if isinstance(value, Mapping):
            found |= _dotted(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = None if value is None else str(value)
    return found


def _delete(config: DictConfig, console: Console) -> None:
    found = _several(config)
    if len(found) > 1 and not config.force:
        raise UserError(f"that would delete {len(found)} runs and their files for good: force=true does")
    for run in found:
        freed = housekeeping.delete(run)
        console.print(f"run {run.id[:8]} {run.name}: deleted, {_megabytes(freed)} freed", highlight=False, markup=False)


def _gc(config: DictConfig, console: Console) -> None:
    uri = config.tracking.get("uri")
    found = housekeeping.leftovers(uri)
    for one in found:
        what = "of a run marked as deleted" if one.run else "of no run in the store"
        say(console, f"{one.path} ({_megabytes(one.bytes)}): {what}")
    if not found:
        console.print("nothing is left over")
    elif not config.force:
        console.print(f"{len(found)} to be removed; force=true does", highlight=False)
    else:
        console.print(f"{_megabytes(housekeeping.clear(found, uri))} freed", highlight=False)


def _relocate(config: DictConfig, console: Console) -> None:
    before, now, changed = housekeeping.relocate(config.path, config.tracking.get("uri"))
    say(console, f"{changed} places changed from {before} to {now}")


def _run(config: DictConfig) -> RunInfo:
    if config.run is None:
        raise UserError(f"{config.action}: say which, run=ID (its beginning, last or best:METRIC)")
    return tracking.find_run(config.run, uri=config.tracking.get("uri"))


def _several(config: DictConfig) -> list[RunInfo]:
    """The run, or those of a sweep or a filter."""
    if config.run is not None:
        return [_run(config)]
    if config.sweep is None and config.filter is None:
        raise UserError(f"{config.action}: say which, run=ID, sweep=ID or filter=...")
    uri = config.tracking.get("uri")
    return [tracking.find_run(one, uri=uri) for one in _table(config).index]


def _table(config: DictConfig) -> pd.DataFrame:
    table = tracking.table(config.tracking.get("uri"), **chosen(config, []), constants=False)
    if table.empty:
        raise UserError("there are no such runs")
    return table


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


ACTIONS: dict[str, Callable[[DictConfig, Console], None]] = {
    "list": _list,
    "show": _show,
    "tag": _tag,
    "delete": _delete,
    "gc": _gc,
    "relocate": _relocate,
}
