"""Output of a run on the terminal: what was trained, the results beside the baseline, predictions for a few rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from src.runtime.format import number
from src.spec import DataSpec


def print_start(
    console: Console, spec: DataSpec, model: str, task: str, costs: Mapping[str, float], device: str
) -> None:
    sizes = " / ".join(f"{spec.splits.get(split, 0):,}" for split in ("train", "val", "test"))
    shape = "x".join(map(str, spec.input_shape))
    console.print(
        f"[bold]{model}[/] on [bold]{spec.name}[/]: {task}, {sizes} rows of {shape} to train / validate / test,"
        f" {costs['cost/parameters']:,} parameters, on {device}",
        highlight=False,
        soft_wrap=not console.is_terminal,  # a terminal would break the line inside a word
    )


def print_results(
    console: Console,
    history: Mapping[str, Sequence[Sequence[float]]],
    best: Mapping[str, tuple[int, float]],
    baseline: Mapping[str, float],
    chosen_epoch: int,
) -> None:
    """Print a table: metric, validation and test with the chosen epoch's weights, the trivial baseline's test, and the
    metric's own best validation.
    """
    title = f"results with the weights of epoch {chosen_epoch}" if chosen_epoch else "results"
    table = Table("metric")
    for column in ("validation", "test", "baseline", "best val", "epoch"):
        table.add_column(column, justify="right")
    names = dict.fromkeys(name.split("/", 1)[1] for name in history if not name.startswith("train/"))
    for name in names:
        chosen = {epoch: value for epoch, value in history.get(f"val/{name}", ())}.get(chosen_epoch)
        test = history.get(f"test/{name}")
        epoch, value = best.get(f"val/{name}", (None, None))
        cells = (chosen, test[-1][1] if test else None, baseline.get(name), value)
        table.add_row(name, *map(number, cells), "-" if epoch is None else str(epoch))
    console.print(title, style="italic", highlight=False)
    console.print(table)


def print_cost(console: Console, costs: Mapping[str, float], energy: str) -> None:
    """Print the costs of the training in one line; `energy` says how that was found."""
    words = [f"{costs['cost/seconds']:.1f} s"]
    if "cost/samples_per_second" in costs:
        words.append(f"{costs['cost/samples_per_second']:,.0f} rows a second")
    words.append(f"{costs['cost/peak_memory_megabytes']:,.0f} MB at most")
    if "cost/peak_gpu_memory_megabytes" in costs:
        words.append(f"{costs['cost/peak_gpu_memory_megabytes']:,.0f} MB on the GPU")
    if "cost/energy_joules" in costs:
        words.append(f"{costs['cost/energy_joules']:,.3g} J ({energy})")
    console.print(f"cost: {', '.join(words)}", highlight=False, soft_wrap=not console.is_terminal)
