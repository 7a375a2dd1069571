"""The leaderboard: groups of runs from the best down, each with what its figure is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.comparison import groups, statistics
from src.comparison.groups import Group
from src.comparison.statistics import Interval
from src.errors import UserError, suggest
from src.metrics.modes import TAG, Mode, mode_of, read_tag

TESTED = 300  # groups whose pairs are all tested; of more, the best ones


@dataclass(frozen=True)
class Row:
    """One group.

    Attributes:
        mean, std: of its values; std is NaN for one value.
        interval: of the mean; None for one value.
        p: of the mean being that of the best group, by a paired test on the seeds that both have, corrected for all
            pairs; NaN for the best itself and where they share less than two seeds.
        pareto: whether no group is both better and cheaper (parameters, floating-point operations, seconds or
            energy).
    """

    group: Group
    mean: float
    std: float
    interval: Interval | None
    p: float
    pareto: bool

    @property
    def n(self) -> int:
        """Number of runs in the group that have the metric."""
        return len(self.group.values)


@dataclass(frozen=True)
class Leaderboard:
    """All groups, the best first.

    Attributes:
        settings: names of what the groups differ in.
        pooled: names of what differs within a group.
        advice: how many seeds the two best need, in words; None for one group.
        left_out: runs without the metric, by their status.
    """

    metric: str
    direction: Mode
    level: float
    rows: list[Row]
    settings: list[str]
    pooled: list[str]
    advice: str | None
    left_out: dict[str, int]

    def frame(self) -> pd.DataFrame:
        """A row a group: settings, n, mean, std, low, high, p, costs, runs."""
        return pd.DataFrame(
            [
                {key: row.group.settings.get(key, row.group.name) for key in self.settings or ["group"]}
                | {"n": row.n, "mean": row.mean, "std": row.std}
                | dict(zip(("low", "high"), row.interval or (np.nan, np.nan), strict=True))
                | {"p": row.p, "pareto": row.pareto}
                | dict(row.group.costs)
                | {"runs": " ".join(row.group.runs)}
                for row in self.rows
            ]
        )


def leaderboard(
    table: pd.DataFrame,
    metric: str | None = None,
    by: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Leaderboard:
    """Compare runs by a metric.

    Args:
        table: of `tracking.table`.
        metric: such as test/accuracy; None: that which the runs' task monitors, of the test split if all have it.
        by: settings that make the groups; None: all in which the runs differ.
        level, resamples, seed: of the intervals.

    Raises:
        UserError: no runs, a metric or a setting that none of them has.
    """
    metric = metric or _monitored(table)
    column = f"metrics.{metric}"
    if column not in table:
        known = [name.removeprefix("metrics.") for name in table if name.startswith("metrics.")]
        raise UserError(f"metric={metric}: no run has it{suggest(metric, known)}")
    way = mode_of(metric, _recorded_modes(table))
    if way is None:
        raise UserError(f"metric={metric}: it is not known whether more of it is better")
    found, pooled = groups.groups(table, metric, by)
    trivial = groups.baseline(table, metric)
    settings = list(found[0].settings)
    ordered = sorted([*found, *([trivial] if trivial else [])], key=lambda group: _badness(group, way))
    p = _p_of_best(ordered)
    costly = _efficient(ordered, way)
    rows = [
        Row(
            group,
            float(group.values.mean()),
            statistics.deviation(group.values.to_numpy()),
            statistics.interval(group.values.to_numpy(), level=level, resamples=resamples, seed=seed),
            float(p[i]),
            bool(costly[i]),
        )
        for i, group in enumerate(ordered)
    ]
    missing = table[table[column].isna()]["status"].value_counts()
    advice = _advice(rows, 1 - level)
    return Leaderboard(metric, way, level, rows, settings, pooled, advice, {str(k): int(v) for k, v in missing.items()})


def _recorded_modes(table: pd.DataFrame) -> dict[str, Mode]:
    """Modes of metrics that the runs' tasks bring themselves; of several the newest run's."""
    found: dict[str, Mode] = {}
    for text in table.get(f"tags.{TAG}", pd.Series(dtype=object)).dropna().unique():
        found = read_tag({TAG: text}) | found
    return found


def _monitored(table: pd.DataFrame) -> str:
    if table.empty:
        raise UserError("no runs to compare")
    monitors = set(table.get("tags.labbook.monitor", pd.Series(dtype=object)).dropna())
    metrics = [name.removeprefix("metrics.") for name in table if name.startswith("metrics.")]
    if len(monitors) != 1:
        common = [name for name in metrics if "/" in name and table[f"metrics.{name}"].notna().all()]
        which = ", ".join(name for name in common if name.startswith(("test/", "val/"))) or "none"
        why = f"they monitor {', '.join(sorted(monitors))}" if monitors else "what they monitor was not recorded"
        raise UserError(f"the runs have no common metric to be compared by ({why}): metric=, all have {which}")
    monitor = monitors.pop()
    tested = f"test/{monitor.rpartition('/')[2]}"
    finished = table[table["status"] == "FINISHED"]
    everywhere = f"metrics.{tested}" in table and finished[f"metrics.{tested}"].notna().all()
    return tested if everywhere and len(finished) else f"{monitor}_best"


def _badness(group: Group, way: Mode) -> float:
    mean = group.values.mean()
    if not np.isfinite(mean):
        return np.inf
    return float(mean if way == "min" else -mean)


def _p_of_best(ordered: Sequence[Group]) -> np.ndarray:
    """Corrected p of each group against the first."""
    some = ordered[:TESTED]
    matrix = pd.concat([group.values for group in some], axis=1).to_numpy().T
    found = np.full(len(ordered), np.nan)
    found[: len(some)] = statistics.holm_correction(statistics.p_values(matrix))[0]
    return found


def _efficient(ordered: Sequence[Group], way: Mode) -> np.ndarray:
    """True where no other group is at least as good and at least as cheap in everything, and better in one of them."""
    points = np.array(
        [[_badness(group, way), *(group.costs.get(name, np.nan) for name in groups.COSTS)] for group in ordered]
    )
    points = points[:, np.isfinite(points).any(axis=0)]
    return np.array(
        [
            bool(group.runs) and not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
            for group, point in zip(ordered, points, strict=True)
        ]
    )


def _advice(rows: Sequence[Row], alpha: float) -> str | None:
    own = [row for row in rows if row.group.runs]
    if len(own) < 2:
        return None
    best, second = own[:2]
    differences = (best.group.values - second.group.values).dropna().to_numpy()
    if len(differences) < 2:
        return "the two best share less than two seeds: run both with the same ones (repeats=5) to compare them"
    what = f"the two best differ by {abs(differences.mean()):.4g} ± {differences.std(ddof=1):.2g}"
    what += f" over {len(differences)} seeds"
    if second.p < alpha:
        return f"{what}: separated (p = {second.p:.2g})"
    needed = statistics.seeds_needed(differences, alpha=alpha)
    if needed is None:
        return f"{what}: as good as equal, a thousand seeds would not separate them"
    if needed <= len(differences):
        return f"{what}: separated if they were the only two, not among all {len(rows)} rows"
    return f"{what}: about {needed} seeds each would separate them, {needed - len(differences)} more"
