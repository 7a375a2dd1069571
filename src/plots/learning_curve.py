"""The picture of learning curves: every run's error against its training rows, the fit, its band, what is foretold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from src.analysis.learning_curve.fit import Fit
from src.plots.base import short


@dataclass(frozen=True)
class Drawn:
    """One curve: its name, the errors of the runs by their number of rows, and its fit where there is one."""

    name: str
    errors: dict[int, list[float]]
    fit: Fit | None


def data_requirements(curves: Sequence[Drawn], metric: str, times: Sequence[float]) -> Figure:
    """On logarithmic axes, where a power law is a straight line that bends towards its floor.

    Args:
        metric: what the error is of.
        times: so many times the rows that are there are looked ahead to.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["tab10"].colors
    for place, curve in enumerate(curves):
        colour = colours[place % len(colours)]
        sizes = [rows for rows, some in curve.errors.items() for _ in some]
        axes.scatter(sizes, [error for some in curve.errors.values() for error in some], s=14, alpha=0.45, color=colour)
        means = [float(np.mean(some)) for some in curve.errors.values()]
        label = short(curve.name, 40) or "mean of the runs"
        axes.plot(list(curve.errors), means, "o", markersize=6, color=colour, label=label)
        if curve.fit is not None:
            _draw_fit(axes, curve.fit, times, colour, named=len(curves) == 1)
    values = [error for curve in curves for some in curve.errors.values() for error in some]
    axes.set_xscale("log")
    if values and min(values) > 0:
        axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{rows:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{error:.3g}"))
    if values and max(values) < 10 * max(min(values), 1e-12):  # less than a decade: its ticks are all that there is
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda error, _: f"{error:.2g}"))
    else:
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="training rows", ylabel=metric)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False, fontsize="small")
    return figure


def _draw_fit(axes, fit: Fit, times: Sequence[float], colour, *, named: bool) -> None:
    measured = np.geomspace(fit.rows[0], fit.rows[-1], 60)
    beyond = np.geomspace(fit.rows[-1], fit.rows[-1] * max(times), 40)
    a, b, c = fit.parameters
    text = f"{a * fit.rows[-1] ** b:.3g} n$^{{-{b:.2f}}}$ + {c:.2g}"
    axes.plot(measured, fit.curve(measured)[0], color=colour, lw=1.6, label=text if named else None)
    axes.plot(beyond, fit.curve(beyond)[0], color=colour, lw=1.6, ls="--")
    whole = np.concatenate([measured, beyond])
    _, low, high = fit.curve(whole)
    lowest = 0.2 * max(fit.curve(beyond)[0].min(), 1e-12)  # a band that reaches 0 ends nowhere on such an axis
    band = f"{fit.level:.0%} band of the curve" if named else None
    axes.fill_between(whole, np.maximum(low, lowest), high, color=colour, alpha=0.15, lw=0, label=band)
    for count, time in enumerate(times):
        value, low, high = fit.expected(time * fit.rows[-1])
        ends = [[value - max(low, lowest)], [high - value]]
        label = f"expected of {' '.join(f'{one:g}x' for one in times)} the rows" if named and not count else None
        axes.errorbar(
            time * fit.rows[-1], value, yerr=np.maximum(ends, 0), fmt="D", markersize=5, mfc="white", capsize=3,
            color=colour, label=label,
        )  # fmt: skip
