"""The learning curve error = a n^-b + c in the number n of training rows: fitted, extrapolated, or refused.

The power law with an offset is the form of Hestness et al. 2017 (arXiv:1712.00409), and the one that Viering and Loog
2022 (arXiv:2103.10948) find to fit best among simple ones. For each exponent of a grid the other two numbers are a
linear least-squares problem (variable projection, Golub and Pereyra 1973), so that no start is needed and none is bad.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

EXPONENTS = np.geomspace(0.02, 3.0, 300)  # outside of what is found in practice, 0.05 to 1
SIZES = 4  # the least: the curve has three numbers
DRAWS = 2_000
PRIOR = 4  # how many repeats' worth the spread of all sizes together counts in that of one
TREND = 0.02  # p from which on there is no trend
AT_MOST = 1e4  # times the rows: beyond that a figure says nothing


class Interval(NamedTuple):
    """A value, with the interval that should hold it."""

    value: float
    low: float
    high: float


class Unfit(Exception):
    """No curve can be told from these points; the message says why."""


class Flat(Unfit):
    """The error does not fall with the rows, as far as so many runs can tell."""


@dataclass(frozen=True)
class Fit:
    """A fitted curve.

    Attributes:
        rows: the sizes (K,), ascending.
        means: errors at these sizes (K,).
        parameters: a, b and c, with a in the unit of the error at the largest size.
        draws: the same of curves that the points could as well have come from (D, 3).
        noise: standard deviation of one run's error at the largest size.
        repeats: runs of each size.
        level: of the intervals.
        strayed: by how much the points stray from the curve more than their spread explains; the intervals are
            wider by that factor. 1: they do not.
    """

    rows: np.ndarray
    means: np.ndarray
    parameters: np.ndarray
    draws: np.ndarray
    noise: float
    repeats: int
    level: float
    strayed: float

    def curve(self, rows: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The error at so many rows (N,), and the band of the curve itself."""
        x = np.asarray(rows, dtype=float) / self.rows[-1]
        some = _errors(self.draws, x)
        low, high = np.quantile(some, self._ends, axis=0)
        return _errors(self.parameters[None], x)[0], low, high

    def expected(self, rows: float) -> Interval:
        """The mean error of as many runs again with so many rows: the band, and those runs' own spread."""
        x = np.array([rows / self.rows[-1]])
        random = np.random.default_rng(0)
        some = _errors(self.draws, x)[:, 0]
        some = some + random.standard_t(self._freedom, len(some)) * self.noise / math.sqrt(self.repeats)
        low, high = np.quantile(some, self._ends)
        low = max(low, 0.0) if self.means.min() >= 0 else low
        return Interval(float(_errors(self.parameters[None], x)[0, 0]), float(low), float(high))

    def halving(self) -> Interval:
        """Factor of rows that halves the error of the curve at the largest size; infinite: none do."""
        factors = _halving(self.draws)
        low, high = np.quantile(factors, self._ends, method="nearest")
        return Interval(float(_halving(self.parameters[None])[0]), float(low), float(high))

    @property
    def gain(self) -> float:
        """Decrease of the error with twice the rows."""
        now, twice = _errors(self.parameters[None], np.array([1.0, 2.0]))[0]
        return float(now - twice)

    @property
    def detectable(self) -> float:
        """The least difference of two sizes that so many runs of each can tell."""
        t = stats.t.ppf(1 - (1 - self.level) / 2, 2 * max(1, self.repeats - 1))
        return float(t * self.noise * math.sqrt(2 / self.repeats))

    @property
    def flat(self) -> bool:
        """True if the curve has become so flat that the runs could not tell what twice the rows buy."""
        return self.gain < self.detectable

    @property
    def floor(self) -> Interval:
        """The error that no number of rows gets below."""
        low, high = np.quantile(self.draws[:, 2], self._ends)
        return Interval(float(self.parameters[2]), float(low), float(high))

    @property
    def _ends(self) -> tuple[float, float]:
        return (1 - self.level) / 2, (1 + self.level) / 2

    @property
    def _freedom(self) -> int:
        return _freedom(len(self.rows), self.repeats)


def fit(rows: Sequence[float], errors: Sequence[Sequence[float]], *, level: float = 0.95, seed: int = 0) -> Fit:
    """Fit the curve to repeated errors at each size.

    The spread of one size is taken from its repeats and, as three of them say little, from that of all sizes relative
    to their means. Uncertainty is a parametric bootstrap: curves fitted to the first one's values with that spread, in
    Student's distribution for as many repeats as there were.

    Args:
        rows: the sizes (K,).
        errors: of the runs at each size, those of one seed at the same place.

    Raises:
        Unfit: fewer than four sizes, no trend (Flat), or an error that rises with the rows.
    """
    order = np.argsort(rows)
    sizes = np.asarray(rows, dtype=float)[order]
    values = [np.asarray(errors[i], dtype=float) for i in order]
    _check(sizes, values)
    means = np.array([value.mean() for value in values])
    counts = np.array([len(value) for value in values])
    spread = _spread(values, means)
    weights, x = counts / spread**2, sizes / sizes[-1]
    bounded = bool(means.min() >= 0)
    parameters = _solved(x, means[None], weights, bounded)[0]
    if parameters[0] <= 0:
        raise Unfit("no power law falls as these errors do")
    fitted = _errors(parameters[None], x)[0]
    chi = float((weights * (means - fitted) ** 2).sum()) / (len(sizes) - 3)
    strayed = math.sqrt(chi) if counts.max() == 1 else max(1.0, math.sqrt(chi))
    freedom = _freedom(len(sizes), int(counts.min()))
    random = np.random.default_rng(seed)
    scale = strayed * np.sqrt(freedom / random.chisquare(freedom, (DRAWS, 1)))
    noise = random.normal(size=(DRAWS, len(sizes))) * spread / np.sqrt(counts)
    draws = _solved(x, fitted + scale * noise, weights, bounded)
    one = float(spread[-1]) * (strayed if counts.max() == 1 else 1.0)
    return Fit(sizes, means, parameters, draws, one, int(counts.min()), level, strayed if counts.max() > 1 else 1.0)


def _check(sizes: np.ndarray, values: Sequence[np.ndarray]) -> None:
    if len(sizes) < SIZES:
        raise Unfit(f"{len(sizes)} sizes with results: a curve of three numbers needs {SIZES} or more")
    if not np.isfinite(np.concatenate(values)).all():
        raise Unfit("an error is not finite")
    if _trend([-value for value in values]) < TREND:
        raise Unfit("the error rises with the rows, which no learning curve does: look at rate, epochs and split")
    if _trend(values) >= TREND:
        raise Flat("the curve is flat")


def _trend(values: Sequence[np.ndarray]) -> float:
    """Probability of a fall like this one from size to size by chance alone: within each seed by Page's test."""
    if np.ptp(np.concatenate(values)) == 0:
        return 1.0
    counts = {len(value) for value in values}
    if len(counts) == 1 and counts.pop() > 1:
        return float(stats.page_trend_test(-np.stack(values, 1)).pvalue)
    sizes = np.repeat(np.arange(len(values)), [len(value) for value in values])
    return float(stats.kendalltau(sizes, np.concatenate(values), alternative="less").pvalue)


def _spread(values: Sequence[np.ndarray], means: np.ndarray) -> np.ndarray:
    """Standard deviation of a run at each size (K,): its own, drawn to that of all sizes relative to their means."""
    scale = np.maximum(np.abs(means), 1e-3 * np.abs(means).max())
    own = np.array([value.var(ddof=1) if len(value) > 1 else 0.0 for value in values])
    free = np.array([len(value) - 1 for value in values])
    if not free.sum():
        return scale  # the residuals say how large it is
    common = (free * own / scale**2).sum() / free.sum()
    variance = (PRIOR * common * scale**2 + free * own) / (PRIOR + free)
    return np.sqrt(np.maximum(variance, (1e-6 * scale) ** 2))


def _freedom(sizes: int, repeats: int) -> int:
    """Degrees of freedom of what is known of the spread."""
    return max(1, sizes * (repeats - 1) if repeats > 1 else sizes - 3)


def _errors(parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Errors (D, N) of curves (D, 3) at N sizes relative to the largest."""
    a, b, c = parameters.T[:, :, None]
    return a * x ** (-b) + c


def _halving(parameters: np.ndarray) -> np.ndarray:
    a, b, c = parameters.T
    part = ((a + c) / 2 - c) / np.maximum(a, 1e-300)  # of the power law's own share
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(part > 0, np.maximum(part, 1e-300) ** (-1 / b), np.inf)


def _solved(x: np.ndarray, errors: np.ndarray, weights: np.ndarray, bounded: bool) -> np.ndarray:
    """The best a, b, c (D, 3) for errors (D, K); a is not below 0, nor c where errors cannot be.

    Args:
        x: the sizes (K,), relative to the largest.
    """
    powers = x ** -EXPONENTS[:, None]  # (B, K)
    total = weights / weights.sum()
    center, middle = powers @ total, errors @ total  # (B,), (D,)
    apart = powers - center[:, None]
    a = (errors * total) @ apart.T / (apart**2 @ total)  # (D, B)
    a = np.maximum(a, 0.0)
    c = middle[:, None] - a * center
    if bounded:
        alone = np.maximum((errors * total) @ powers.T / (powers**2 @ total), 0.0)
        a, c = np.where(c < 0, alone, a), np.maximum(c, 0.0)
    loss = sum(
        weight * (errors[:, [k]] - a * powers[:, k] - c) ** 2 for k, weight in enumerate(total)
    )  # (D, B); K terms in turn take less memory than all at once
    best = loss.argmin(1)
    pick = np.arange(len(errors)), best
    return np.stack([a[pick], EXPONENTS[best], c[pick]], 1)
