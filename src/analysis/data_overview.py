"""Overview of data, as tables on the terminal, and which models fit which data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from src.analysis.data_checks import Finding
from src.data.core.chunks import Split
from src.data.core.modality import Listing, modality_of
from src.data.core.splits import moments
from src.runtime.console import say
from src.runtime.format import number
from src.spec import DataSpec

SHOWN = 30  # columns or classes of a table


def print_overview(
    console: Console,
    spec: DataSpec,
    splits: Mapping[str, Split],
    described: Mapping[str, Any],
    times: Sequence[str] = (),
) -> None:
    """Modality, tasks and sizes, then what the modality has: columns, classes, vocabulary, channels.

    Args:
        spec, splits: of the data.
        described: as `DataModule.describe()` gives it.
        times: of a series, a text for each row.
    """
    modality = modality_of(spec)
    facts = [
        *_general(spec, described),
        *modality.describe(splits, described, times),
        *_target(splits, described),
    ]
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        say(console, f"{name:<{width}}  {value}")
    if (columns := modality.columns(described)) is not None:
        print_listing(console, columns)
    if spec.class_counts:
        _print_classes(console, spec, splits)


def _general(spec: DataSpec, described: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "data", f"{spec.name} ({described['source']})" if described.get("source") else spec.name
    yield "modality", f"{spec.modality}, {'x'.join(map(str, spec.input_shape))}"
    yield "tasks", ", ".join(spec.tasks) + ("; the first one is its usual one" if len(spec.tasks) > 1 else "")
    yield "rows", ", ".join(f"{size:,} {split}" for split, size in spec.splits.items())


def _target(splits: Mapping[str, Split], described: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    target = splits["train"].get("target")
    if isinstance(target, Tensor) and target.is_floating_point() and target.ndim == 1:
        low, high = (number(value.item()) for value in target.aminmax())
        (mean,), (deviation,) = moments(target.unsqueeze(1))
        name = described.get("target", "target")
        yield "target", f"{name}: {low} to {high}, mean {number(mean)}, deviation {number(deviation)}"
    elif "target" in described:
        yield "target", str(described["target"])


# tables ---------------------------------------------------------------------------------------------------------------


def print_listing(console: Console, listing: Listing) -> None:
    """Print the first rows of a listing, and how many more there are."""
    table = Table()
    for heading in listing.headings:
        table.add_column(heading, justify="right" if heading in listing.numbers else "left")
    for row in listing.rows[:SHOWN]:
        table.add_row(*map(escape, row))
    console.print(table)
    _print_rest(console, len(listing.rows), listing.what)


def _print_classes(console: Console, spec: DataSpec, splits: Mapping[str, Split]) -> None:
    """Rows, or boxes, of each class in each part, the largest class first."""
    counted = {
        name: torch.bincount(labels[labels >= 0], minlength=spec.num_classes).tolist()
        for name, split in splits.items()
        if isinstance(labels := split.get("labels", split.get("target")), Tensor) and name != "predict"
    }
    table = Table("class")
    for name in (*counted, "share"):
        table.add_column(name, justify="right")
    total = max(1, sum(spec.class_counts))
    ranked = sorted(range(spec.num_classes), key=lambda label: -spec.class_counts[label])
    for label in ranked[:SHOWN]:
        share = f"{100 * spec.class_counts[label] / total:.1f} %"
        table.add_row(escape(spec.class_names[label]), *(f"{rows[label]:,}" for rows in counted.values()), share)
    console.print(table)
    _print_rest(console, spec.num_classes, "classes")


def _print_rest(console: Console, count: int, what: str) -> None:
    if count > SHOWN:
        console.print(f"and {count - SHOWN:,} more {what}", highlight=False)


# models and findings --------------------------------------------------------------------------------------------------


def print_models(console: Console, fitting: Mapping[str, str]) -> None:
    """Print the models that fit, each with the task that it would get."""
    by_task: dict[str, list[str]] = {}
    for model, task in fitting.items():
        by_task.setdefault(task, []).append(model)
    text = "; ".join(f"{', '.join(models)} ({task})" for task, models in by_task.items())
    say(console, f"models that fit: {text or 'none'}")


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print the findings, a line each."""
    colours = {"warning": "yellow", "note": "cyan"}
    for level, subject, text in findings:
        line = f"[{colours[level]}]{level}[/] {subject}: {escape(text)}"
        console.print(line, highlight=False, soft_wrap=True)
    if not findings:
        console.print("nothing to look into was found", highlight=False)


def print_fits(console: Console, fits: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Print a line for each dataset: the models that fit, by the task that is usual for both.

    Args:
        fits: of each dataset, `{model: tasks}`; of several tasks the target decides.
    """
    table = Table("data", "models that fit", box=None, padding=(0, 2, 0, 0))
    for data, tasks in fits.items():
        by_task: dict[str, list[str]] = {}
        for model, usual in tasks.items():
            by_task.setdefault(" or ".join(usual), []).append(model)
        table.add_row(data, "; ".join(f"{task}: {' '.join(models)}" for task, models in by_task.items()))
    console.print(table, highlight=False)
