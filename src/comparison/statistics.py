"""Statistics of a few seeds: intervals of a mean, paired tests of all pairs at once, and the seeds that a test needs.

scipy.special alone, since scipy.stats takes longer to import than a thousand runs take to compare.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

Values: TypeAlias = NDArray[np.float64]
FEWEST = 5  # values for a bootstrap: of fewer, too many resamples hold one value only


class Interval(NamedTuple):
    low: float
    high: float


def interval(values: Values, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval | None:
    """Confidence interval of the mean.

    The bootstrap-t of Efron and Tibshirani (1993, An Introduction to the Bootstrap, ch. 12.5): the percentile method
    covers too little at the few seeds that runs have. Of less than five values Student's interval.

    Args:
        values: (n,), finite.

    Returns:
        None for less than two values.
    """
    n = len(values)
    if n < 2:
        return None
    mean, error = values.mean(), values.std(ddof=1) / math.sqrt(n)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if deviation(values) == 0:
        return Interval(mean, mean)
    quantiles = special.stdtrit(n - 1, tails)
    if n >= FEWEST:
        drawn = values[np.random.default_rng(seed).integers(0, n, (resamples, n))]
        spread = drawn.std(axis=1, ddof=1)
        kept = spread > _rounding(values)
        quantiles = np.quantile((drawn.mean(axis=1)[kept] - mean) / spread[kept] * math.sqrt(n), tails)
    return Interval(float(mean - quantiles[1] * error), float(mean - quantiles[0] * error))


def deviation(values: Values) -> float:
    """Standard deviation (n - 1), 0 where it is nothing but rounding, NaN of one value."""
    if len(values) < 2:
        return math.nan
    spread = float(values.std(ddof=1))
    return 0.0 if spread <= _rounding(values) else spread


def p_values(values: Values) -> Values:
    """Two-sided p of each pair of rows having the same mean: Student's paired test on the columns that both have.

    Args:
        values: (G, S), groups by seeds; NaN where a group lacks a seed.

    Returns:
        (G, G), symmetric; NaN on the diagonal and where a pair has less than two columns in common.
    """
    groups = len(values)
    found = np.full((groups, groups), np.nan)
    for row in range(groups - 1):
        found[row, row + 1 :] = found[row + 1 :, row] = _paired(values[row + 1 :] - values[row])
    return found


def _paired(differences: Values) -> Values:
    """p of each row of differences (K, S) having the mean 0."""
    n = np.isfinite(differences).sum(axis=1)
    with np.errstate(all="ignore"):
        mean = np.nansum(differences, axis=1) / n
        spread = np.sqrt(np.nansum((differences - mean[:, None]) ** 2, axis=1) / (n - 1))
        t = mean / (spread / np.sqrt(n))
    # differences that are all the same: certain, unless they are all zero
    t = np.where(spread <= 1e-12 * np.abs(mean), np.where(mean == 0, 0.0, np.inf), t)
    return np.where(n > 1, 2 * special.stdtr(np.maximum(n - 1, 1), -np.abs(t)), np.nan)


def holm_correction(p: Values) -> Values:
    """Apply Holm's correction (1979, "A simple sequentially rejective multiple test procedure") over all pairs.

    All pairs are one family, not only those with the best row: which row is best was chosen from the same figures.

    Args:
        p: (G, G), symmetric, NaN where there is no test.
    """
    upper = np.triu_indices(len(p), 1)
    tests = np.flatnonzero(np.isfinite(p[upper]))
    flat = p[upper][tests]
    order = flat.argsort(kind="stable")
    stepped = np.maximum.accumulate(flat[order] * np.arange(len(flat), 0, -1))
    adjusted = np.full(len(upper[0]), np.nan)
    adjusted[tests[order]] = np.minimum(stepped, 1.0)
    found = np.full_like(p, np.nan)
    found[upper] = adjusted
    found.T[upper] = adjusted
    return found


def seeds_needed(differences: Values, *, alpha: float = 0.05, power: float = 0.8, most: int = 1000) -> int | None:
    """Number of pairs that a paired t-test needs to find a difference of this mean and spread, from the noncentral t.

    Args:
        differences: (n,) of the pairs there are, two or more.

    Returns:
        The least number; None where it is above `most`.
    """
    spread = deviation(differences)
    if spread == 0:
        return 2 if abs(differences.mean()) > 0 else None
    n = np.arange(2, most + 1)
    critical, shift = special.stdtrit(n - 1, 1 - alpha / 2), abs(differences.mean()) / spread * np.sqrt(n)
    reached = 1 - special.nctdtr(n - 1, shift, critical) + special.nctdtr(n - 1, shift, -critical)
    enough = np.flatnonzero(reached >= power)
    return int(n[enough[0]]) if len(enough) else None


def _rounding(values: Values) -> float:
    """A spread that is nothing but rounding."""
    return 1e-12 * float(np.abs(values).max(initial=0.0))
