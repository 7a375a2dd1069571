"""A fitted learning curve as the numbers that its picture shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from src.analysis.learning_curve.fit import Fit
from src.plots.learning_curve import Expected, Fitted

MEASURED, BEYOND = 60, 40  # points of the line


def fitted(fit: Fit, times: Sequence[float]) -> Fitted:
    """Sample a fit from its smallest size to so many times its largest one.

    Args:
        times: what is expected of so many times the rows of the largest size is marked.
    """
    largest = fit.rows[-1]
    measured = np.geomspace(fit.rows[0], largest, MEASURED)
    rows = np.concatenate([measured, np.geomspace(largest, largest * max(times), BEYOND)])
    errors, low, high = fit.curve(rows)
    a, b, c = fit.parameters
    return Fitted(
        rows=rows,
        errors=errors,
        low=low,
        high=high,
        measured=MEASURED,
        expected=[Expected(time * largest, *fit.expected(time * largest)) for time in times],
        formula=f"{a * largest**b:.3g} n$^{{-{b:.2f}}}$ + {c:.2g}",
        band=f"{fit.level:.0%} band of the curve",
        outlook=f"expected of {' '.join(f'{time:g}x' for time in times)} the rows",
    )
