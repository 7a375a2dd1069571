"""Differences of two runs, the likeliest causes of another result first: settings, code, data, environment, machine."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.markup import escape
from rich.table import Table

from src import tracking
from src.errors import UserError
from src.runtime import renames
from src.runtime.format import shorten
from src.tracking import RunInfo
from src.tracking.provenance import LABBOOK, PROJECT, VOLATILE_KEYS

MACHINE = ("device", "threads", "cpu", "cores", "memory_gb", "host")
PACKAGES = ("torch", "torchvision", "pytorch-lightning", "numpy", "mlflow")  # first: they compute
SHOWN = 12  # lines of a kind
LONGEST = 60  # characters of a value in the table


@dataclass(frozen=True)
class Difference:
    """One thing that two runs do not have in common."""

    kind: str
    what: str
    one: str
    other: str


@dataclass(frozen=True)
class Report:
    """Two runs and all their differences."""

    one: RunInfo
    other: RunInfo
    differences: list[Difference]


def differences(one: RunInfo, other: RunInfo) -> Report:
    """Compare what was recorded of two runs."""
    found = [*_settings(one, other), *_code(one, other), *_data(one, other), *_environment(one, other)]
    found += [*_tags("machine", MACHINE, one, other), *_metrics(one, other)]
    return Report(one, other, found)


def _settings(one: RunInfo, other: RunInfo) -> Iterator[Difference]:
    def volatile(key: str) -> bool:
        return key.partition(".")[0] in VOLATILE_KEYS

    ours, theirs = renames.parameters(one.params), renames.parameters(other.params)
    keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    for key in sorted(keys, key=volatile):
        kind = "bookkeeping" if volatile(key) else "setting"
        yield Difference(kind, key, ours.get(key, "-"), theirs.get(key, "-"))


def _code(one: RunInfo, other: RunInfo) -> Iterator[Difference]:
    for where in (PROJECT, LABBOOK):
        commits = [run.tags.get(where.commit, "-")[:12] for run in (one, other)]
        if commits[0] != commits[1]:
            yield Difference("code", f"{where.whose}commit", *commits)
        patches = [
            tracking.artifact_text(run, where.patch) if run.tags.get(where.dirty) == "true" else ""
            for run in (one, other)
        ]
        if patches[0] != patches[1]:
            touched = [_files(patch) for patch in patches]
            lines = [line[:1] for line in difflib.ndiff(patches[0].splitlines(), patches[1].splitlines())]
            what = f"{where.whose}uncommitted changes ({lines.count('+') + lines.count('-')} lines differ)"
            yield Difference("code", what, *(", ".join(files) or "none" for files in touched))


def _files(patch: str) -> list[str]:
    return [line.split(" b/", 1)[1] for line in patch.splitlines() if line.startswith("diff --git ") and " b/" in line]


def _data(one: RunInfo, other: RunInfo) -> Iterator[Difference]:
    digests = [run.tags.get("labbook.data_sha256", "-")[:12] for run in (one, other)]
    if digests[0] != digests[1]:
        yield Difference("data", "fingerprint", *digests)


def _environment(one: RunInfo, other: RunInfo) -> Iterator[Difference]:
    def packages(run: RunInfo) -> dict[str, str]:
        first, *lines = tracking.artifact_text(run, "environment.txt").splitlines() or [""]
        found = dict(line.split("==", 1) for line in lines if "==" in line)
        return {"python": first.removeprefix("# Python ")} | found

    own, others = packages(one), packages(other)
    keys = [key for key in {**own, **others} if own.get(key) != others.get(key)]
    for key in sorted(keys, key=lambda key: (key not in PACKAGES, key)):
        yield Difference("environment", key, own.get(key, "-"), others.get(key, "-"))


def _tags(kind: str, names: tuple[str, ...], one: RunInfo, other: RunInfo) -> Iterator[Difference]:
    for name in names:
        values = [run.tags.get(f"labbook.{name}", "-") for run in (one, other)]
        if values[0] != values[1]:
            yield Difference(kind, name, *values)


def _metrics(one: RunInfo, other: RunInfo) -> Iterator[Difference]:
    """The final figures first, each kind by how far apart they are."""
    order = ("test", "val", "train")
    keys = [key for key in {**one.metrics, **other.metrics} if not key.startswith(("system/", "baseline/"))]

    def place(key: str) -> tuple[int, float]:
        kind, values = key.partition("/")[0], [run.metrics.get(key, math.nan) for run in (one, other)]
        scale = max(abs(value) for value in values) or 1.0
        apart = abs(values[0] - values[1]) / scale
        return order.index(kind) if kind in order else len(order), -apart if math.isfinite(apart) else 0.0

    for key in sorted(keys, key=place):
        values = [run.metrics.get(key) for run in (one, other)]
        if values[0] != values[1]:
            kind = "cost" if key.startswith("cost/") else "metric"
            yield Difference(kind, key, *("-" if value is None else f"{value:.6g}" for value in values))


def table(report: Report) -> Table:
    """Table for the terminal: of each kind the first lines."""
    found = Table(title=_verdict(report), title_justify="left", title_style="italic")
    for heading in ("", "what", f"{report.one.id[:8]} {report.one.name}", f"{report.other.id[:8]} {report.other.name}"):
        found.add_column(escape(heading), overflow="fold")
    for kind in dict.fromkeys(one.kind for one in report.differences):
        lines = [one for one in report.differences if one.kind == kind]
        for i, line in enumerate(lines[:SHOWN]):
            values = (shorten(value, LONGEST, "...") for value in (line.one, line.other))
            found.add_row(kind if i == 0 else "", *map(escape, (line.what, *values)))
        if len(lines) > SHOWN:
            found.add_row("", f"and {len(lines) - SHOWN} more (format=json shows all)", "", "")
        found.add_section()
    return found


def _verdict(report: Report) -> str:
    """Summarise in a line what could explain another result."""
    kinds = {one.kind for one in report.differences}
    causes = [kind for kind in ("setting", "code", "data", "environment", "machine") if kind in kinds]
    told = "metric" in kinds
    if not told:
        return "the same figures" + (f", though {_and(causes)} differ" if causes else "")
    return (
        f"the figures differ, and so do {_and(causes)}"
        if causes
        else "the figures differ, and nothing recorded says why"
    )


def _and(kinds: Sequence[str]) -> str:
    plural = {"setting": "settings"}
    words = [plural.get(kind, kind) for kind in kinds]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def text(report: Report, kind: str) -> str:
    """Format as json, csv or markdown.

    Raises:
        UserError: another format.
    """
    rows = [asdict(one) for one in report.differences]
    if kind == "json":
        return json.dumps({"one": report.one.id, "other": report.other.id, "differences": rows}, indent=1)
    if kind == "csv":
        import pandas as pd  # noqa: PLC0415 (slow to import, and for this format alone)

        return pd.DataFrame(rows, columns=["kind", "what", "one", "other"]).to_csv(index=False).rstrip()
    if kind == "markdown":
        lines = [
            ["", "what", report.one.id[:8], report.other.id[:8]],
            ["---"] * 4,
            *(list(row.values()) for row in rows),
        ]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    raise UserError(
        f"format={kind}: of two runs, table, markdown, csv or json; by=seed makes it a comparison of groups"
    )
