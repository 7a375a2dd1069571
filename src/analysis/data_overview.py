"""Overview of data, as tables on the terminal, and which models fit which data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from src.analysis.data_checks import Finding
from src.analysis.names import feature_names, listed
from src.data.core.chunks import Split
from src.runtime.console import say
from src.runtime.format import number
from src.spec import (
    AudioSpec,
    Boxes,
    ColumnSchema,
    DataSpec,
    EnvironmentSpec,
    Horizon,
    ImageSpec,
    TableSpec,
    TextPairSpec,
    TokenizedSpec,
)
from src.spec.tokenizer import UNK, Tokenizer
from src.tasks import view

SHOWN = 30  # columns or classes of a table
LETTERS = 300  # of an example's text


def print_overview(
    console: Console,
    spec: DataSpec,
    splits: Mapping[str, Split],
    described: Mapping[str, Any],
    times: Sequence[str] = (),
) -> None:
    """Modality, tasks and sizes, then what the modality has: columns, classes, vocabulary, channels.

    Args:
        spec, parts: of the data.
        described: as `DataModule.describe()` gives it.
        times: of a series, a text for each row.
    """
    facts = [*_general(spec, described), *_of_modality(spec, splits, described, times)]
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        say(console, f"{name:<{width}}  {value}")
    if "columns" in described:
        _print_file_columns(console, spec, described["columns"])
    elif isinstance(spec.input, TableSpec) or isinstance(spec.target, Horizon):
        _print_columns(console, spec)
    if spec.class_counts:
        _print_classes(console, spec, splits)


def _general(spec: DataSpec, described: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "data", f"{spec.name} ({described['source']})" if described.get("source") else spec.name
    yield "modality", f"{spec.modality}, {'x'.join(map(str, spec.input_shape))}"
    yield "tasks", ", ".join(spec.tasks) + ("; the first one is its usual one" if len(spec.tasks) > 1 else "")
    yield "rows", ", ".join(f"{size:,} {split}" for split, size in spec.splits.items())


def _of_modality(
    spec: DataSpec, splits: Mapping[str, Split], described: Mapping[str, Any], times: Sequence[str]
) -> Iterable[tuple[str, str]]:
    if isinstance(spec.input, AudioSpec):
        yield from _sounds(spec, described)
    elif isinstance(spec.input, ImageSpec):
        mean, std = (" ".join(number(value) for value in values) for values in (spec.input.mean, spec.input.std))
        yield "pixels", f"0 to {spec.input.levels}" + (f", mean {mean}, deviation {std}" if mean else "")
    if isinstance(spec.target, Boxes):
        yield "boxes", ", ".join(f"{n:,} {split}" for split, n in described["boxes"].items()) + ", by class below"
        for what, count in described.get("changed", {}).items():
            yield "", f"{count:,} {what}"
    if isinstance(spec.input, EnvironmentSpec):
        limit = spec.input.max_steps
        yield "actions", f"{spec.num_classes} to choose from in each of at most {limit:,} steps of an episode"
    if isinstance(spec.input, TokenizedSpec):
        yield from _texts(spec, splits, described)
    if isinstance(spec.target, Horizon):
        yield "window", f"{spec.target.steps} steps ahead from {spec.input_shape[0]} known ones"
        yield "season", f"{spec.input.season} steps" if spec.input.season else "none was given (data.season=)"
        if len(times) > 1:
            yield "steps", f"{len(times):,} from {times[0]}, {times[1]} to {times[-1]}"
    target = splits["train"].get("target")
    if isinstance(target, Tensor) and target.is_floating_point() and target.ndim == 1:
        low, high = (number(value.item()) for value in target.aminmax())
        name = described.get("target", "target")
        mean, std = number(spec.target.mean), number(spec.target.std)
        yield "target", f"{name}: {low} to {high}, mean {mean}, deviation {std}"
    elif "target" in described:
        yield "target", str(described["target"])


def _sounds(spec: DataSpec, described: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    sound, (_, frames, bands) = spec.input.log_mel, spec.input_shape
    steps = f"{frames} frames, {sound.hop_ms:g} ms apart, of {bands} mel bands"
    yield "clips", f"{sound.seconds:g} s at {sound.sample_rate:,} Hz: {steps}"
    if spec.input.mean:
        mean, std = number(spec.input.mean[0]), number(spec.input.std[0])
        yield "values", f"-{sound.range_db:g} to 0 decibels, mean {mean}, deviation {std}"
    if "seconds" in described:
        low, middle, high = described["seconds"]
        changed = f"{described['cropped']:,} are cropped, {described['padded']:,} padded with silence"
        yield "files", f"{low:.2f} to {high:.2f} s, median {middle:.2f} s; {changed}"
        rates, channels = described["sample_rates"], described["channels"]
        rates = ", ".join(f"{int(rate):,} Hz ({count:,})" for rate, count in rates.items())
        yield "stored at", f"{rates}; channels: " + ", ".join(f"{n} ({count:,})" for n, count in channels.items())


def _texts(spec: DataSpec, splits: Mapping[str, Split], described: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    size, characters = len(spec.input.token_counts), spec.input.characters_per_token
    yield "vocabulary", f"{size:,} tokens, {characters:.2f} characters each"
    for name, split in splits.items():
        for side in ("input", "target"):
            lengths = getattr(split.get(side), "lengths", None)
            if lengths is None:
                continue
            low, middle, high, most = (int(length) for length in np.quantile(lengths.numpy(), (0, 0.5, 0.95, 1)))
            text = (
                f"{low} to {most} a row, {lengths.double().mean():.1f} on average, median {middle}, 95 % up to {high}"
            )
            unknown = int((split[side].tokens == UNK).sum()) / max(1, len(split[side].tokens))
            text += f"; {100 * unknown:.2f} % unknown" if unknown else ""
            yield f"{name} tokens" + (f" ({side})" if isinstance(spec.input, TextPairSpec) else ""), text
    for what in ("texts_cut", "training_pairs_left_out"):
        if described.get(what):
            yield what.replace("_", " "), f"{described[what]:,} are longer than data.max_tokens"


# tables ---------------------------------------------------------------------------------------------------------------


def _print_file_columns(console: Console, spec: DataSpec, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Columns of a file: what each was taken for, and what the training rows say about it."""
    fitted = {column.name: column for column in spec.input.columns}
    table = Table("column", "type")
    table.add_column("missing", justify="right")
    table.add_column("training rows, or why not")
    for name, column in list(found.items())[:SHOWN]:
        share = f"{100 * column['missing']:.1f} %" if column["missing"] else "-"
        table.add_row(escape(name), column["type"], share, escape(column["note"] or _fitted(fitted.get(name))))
    console.print(table)
    _print_rest(console, len(found), "columns")


def _fitted(column: ColumnSchema | None) -> str:
    if column is None:
        return "-"
    if column.type == "category":
        names = [name or "(missing)" for name in column.categories]
        return f"{len(names):,} categories: {listed(names, 4)}" if names else "no category twice"
    if column.type == "number":
        return f"mean {number(column.mean[0])}, deviation {number(column.std[0])}"
    return column.format or "-"


def _print_columns(console: Console, spec: DataSpec) -> None:
    if not spec.input.mean:
        return
    table = Table("column")
    errors = spec.target.naive_errors if isinstance(spec.target, Horizon) else None
    for name in ("mean", "deviation", *(["naive error"] if errors is not None else [])):
        table.add_column(name, justify="right")
    names = feature_names(spec, len(spec.input.mean))
    errors = [] if errors is None else [*errors, *[None] * len(names)]
    for place, name in enumerate(names[:SHOWN]):
        values = [spec.input.mean[place], spec.input.std[place], *errors[place : place + 1]]
        table.add_row(escape(name), *map(number, values))
    console.print(table)
    _print_rest(console, len(names), "columns")


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
    """The models that fit, each with the task that it would get."""
    by_task: dict[str, list[str]] = {}
    for model, task in fitting.items():
        by_task.setdefault(task, []).append(model)
    text = "; ".join(f"{', '.join(models)} ({task})" for task, models in by_task.items())
    say(console, f"models that fit: {text or 'none'}")


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """One line each."""
    colours = {"warning": "yellow", "note": "cyan"}
    for level, subject, text in findings:
        line = f"[{colours[level]}]{level}[/] {subject}: {escape(text)}"
        console.print(line, highlight=False, soft_wrap=True)
    if not findings:
        console.print("nothing to look into was found", highlight=False)


def print_texts(console: Console, spec: DataSpec, batch: Mapping[str, Tensor]) -> None:
    """Some rows of text, and what is to be told from each."""
    tokenizer = Tokenizer(spec.input.tokenizer)
    table = Table("text", *(["target"] if spec.class_names or isinstance(spec.input, TextPairSpec) else []))
    contents = view.content(spec, batch["input"])
    for row, content in enumerate(contents):
        cells = [content["text"]]
        if spec.class_names:
            cells.append(spec.class_names[int(batch["target"][row])])
        elif isinstance(spec.input, TextPairSpec):
            cells.append(tokenizer.decode(batch["target"][row].tolist()))
        table.add_row(*(escape(cell if len(cell) <= LETTERS else f"{cell[:LETTERS]}\u2026") for cell in cells))
    console.print(table)


def print_fits(console: Console, fits: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """A line for each dataset: the models that fit, by the task that is usual for both.

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
