"""Learning curves drawn: every run's error against its training rows, the fit, its band, the extrapolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from src.plots.base import short


class Expected(NamedTuple):
    """The error that is expected of so many rows, with its interval."""

    rows: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Fitted:
    """A fitted curve.

    Attributes:
        rows, errors, low, high: the curve and its band (N,).
        measured: how many of the N points lie among the sizes with results; the others are extrapolated.
        expected: errors of more rows.
        formula, band, outlook: labels of the curve, of its band, and of what is expected.
    """

    rows: np.ndarray
    errors: np.ndarray
    low: np.ndarray
    high: np.ndarray
    measured: int
    expected: Sequence[Expected]
    formula: str
    band: str
    outlook: str


@dataclass(frozen=True)
class Drawn:
    """One curve: its name, the errors of the runs by their number of rows, and its fit where there is one."""

    name: str
    errors: dict[int, list[float]]
    fit: Fitted | None


def data_requirements(curves: Sequence[Drawn], metric: str) -> Figure:
    """Draw curves on logarithmic axes, where a power law is a straight line that bends towards its floor.

    Args:
        metric: what the error is of.
    """
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]  # of a ListedColormap
    for place, curve in enumerate(curves):
        colour = colours[place % len(colours)]
        sizes = [rows for rows, some in curve.errors.items() for _ in some]
        axes.scatter(sizes, [error for some in curve.errors.values() for error in some], s=14, alpha=0.45, color=colour)
        means = [float(np.mean(some)) for some in curve.errors.values()]
        label = short(curve.name, 40) or "mean of the runs"
        axes.plot(list(curve.errors), means, "o", markersize=6, color=colour, label=label)
        if curve.fit is not None:
            _draw_fit(axes, curve.fit, colour, named=len(curves) == 1)
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


def _draw_fit(axes, fit: Fitted, colour, *, named: bool) -> None:
    known, beyond = slice(0, fit.measured), slice(fit.measured, None)
    axes.plot(fit.rows[known], fit.errors[known], color=colour, lw=1.6, label=fit.formula if named else None)
    axes.plot(fit.rows[beyond], fit.errors[beyond], color=colour, lw=1.6, ls="--")
    lowest = 0.2 * max(fit.errors[beyond].min(), 1e-12)  # a band that reaches 0 ends nowhere on such an axis
    band = fit.band if named else None
    axes.fill_between(fit.rows, np.maximum(fit.low, lowest), fit.high, color=colour, alpha=0.15, lw=0, label=band)
    for count, (rows, error, low, high) in enumerate(fit.expected):
        ends = [[error - max(low, lowest)], [high - error]]
        axes.errorbar(
            rows, error, yerr=np.maximum(ends, 0), fmt="D", markersize=5, mfc="white", capsize=3, color=colour,
            label=fit.outlook if named and not count else None,
        )  # fmt: skip
