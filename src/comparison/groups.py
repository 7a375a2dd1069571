"""Groups of runs that differ in nothing but their seed or fold, and what sets the groups apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from src.errors import UserError, suggest
from src.runtime import renames
from src.tracking.provenance import VOLATILE_KEYS

REPLICATES = ("seed", "data.fold")  # of runs that repeat each other
COSTS = ("seconds", "flops", "parameters", "energy_joules")
BASELINE = "baseline"
_TARGET = "._target_"
_NONE = "-"


@dataclass(frozen=True)
class Group:
    """Runs that repeat each other.

    Attributes:
        settings: its values of what sets the groups apart, by the name that is shown; `{"": "baseline"}` is the trivial
            baseline of the others.
        values: the metric by seed and fold; of a seed that was run twice the newest.
        runs: their ids, in the order of `values`.
        costs: means of `cost/...`, where the runs have them.
    """

    settings: Mapping[str, str]
    values: pd.Series
    runs: Sequence[str]
    costs: Mapping[str, float]

    @property
    def name(self) -> str:
        """Name such as `model=cnn optimizer.lr=0.01`."""
        return " ".join(f"{key}={value}" if key else value for key, value in self.settings.items()) or "all runs"


def groups(table: pd.DataFrame, metric: str, by: Sequence[str] | None = None) -> tuple[list[Group], list[str]]:
    """Groups of the runs that have the metric, and the settings in which runs of one group differ all the same.

    Args:
        table: of `tracking.table`.
        by: the settings that make the groups, such as `model` or `optimizer.lr`; None: all in which the runs differ,
            but seeds and folds.

    Raises:
        UserError: a setting that no run has.
    """
    column = f"metrics.{metric}"
    table = table[table[column].notna()] if column in table else table.iloc[:0]
    params = _parameters(table)
    differing = _differing(params)
    keys = differing if by is None else [_key(name, params) for name in by]
    pooled = [display_name(key) for key in differing if key not in keys]
    replicate = params.reindex(columns=list(REPLICATES)).astype(object).fillna("").agg(" ".join, axis=1)
    named = params[keys].astype(object).fillna(_NONE)
    rows_of = named.groupby(keys, sort=False).indices if keys else {(): range(len(table))}
    found = []
    for settings, rows in rows_of.items():
        settings = settings if isinstance(settings, tuple) else (settings,)
        runs = table.iloc[list(rows)]  # the newest first
        values = pd.Series(runs[column].to_numpy(), index=replicate.loc[runs.index].to_numpy())
        newest = ~values.index.duplicated()
        costs = {name: runs[f"metrics.cost/{name}"].mean() for name in COSTS if f"metrics.cost/{name}" in runs}
        words = {display_name(key): _word(key, value) for key, value in zip(keys, settings, strict=True)}
        found.append(Group(words, values[newest], list(runs.index[newest]), costs))
    return found, pooled


def _parameters(table: pd.DataFrame) -> pd.DataFrame:
    """The parameters of the runs by name, in today's names: runs of before and after a rename are alike."""
    params = table.filter(regex=r"^params\.").rename(columns=lambda name: name.removeprefix("params."))
    targets = [key for key in params if key.endswith(_TARGET)]
    if not targets:
        return _todays(params)
    # options are renamed by the class that they are of, so all runs with the same classes at once
    parts = [_todays(part) for _, part in params.groupby(targets, dropna=False, sort=False)]
    found = pd.concat(parts).reindex(params.index) if parts else params
    return found[sorted(found)]


def _todays(params: pd.DataFrame) -> pd.DataFrame:
    """Groups of runs that all have the same classes."""
    params = params.dropna(axis=1, how="all")
    names = {}
    for key in params:
        node, _, option = key.rpartition(".")
        known = renames.options(params[f"{node}{_TARGET}"].iloc[0]) if f"{node}{_TARGET}" in params else {}
        names[key] = f"{node}.{known[option]}" if option in known else renames.keys("train").get(key, key)
    targets = {key: params[key].map(renames.target) for key in params if key.endswith(_TARGET)}
    empty = {key: params[key].where(params[key] != "{}") for key in renames.LATER if key in params}
    found = params.assign(**targets, **empty).rename(columns=names)
    twice = found.columns.duplicated()  # some runs have the old name of a key, others the new one
    first, second = found.loc[:, ~twice], found.loc[:, twice]
    return first.assign(**{key: first[key].where(first[key].notna(), second[key]) for key in second})


def baseline(table: pd.DataFrame, metric: str) -> Group | None:
    """The trivial baseline of a test metric, where all runs have the same one for a seed and fold."""
    split, _, name = metric.rpartition("/")
    column = f"metrics.{BASELINE}/{name}"
    if split != "test" or column not in table:
        return None
    params = (
        table.reindex(columns=[f"params.{key}" for key in REPLICATES]).astype(object).fillna("").agg(" ".join, axis=1)
    )
    values = table[column].groupby(params).agg(["min", "max"]).dropna()
    if values.empty or (values["max"] - values["min"] > 1e-9 * values["max"].abs()).any():
        return None
    return Group({"": BASELINE}, values["max"].rename(None), [], {})


def display_name(key: str) -> str:
    """Shorten `model._target_` to `model`."""
    return key.removesuffix(_TARGET)


def _differing(params: pd.DataFrame) -> list[str]:
    """Settings in which the runs differ, without those that follow from another: the seed, or the choice of a class."""
    varying = [
        key
        for key in params
        if key not in REPLICATES
        and key.partition(".")[0] not in VOLATILE_KEYS
        and params[key].nunique(dropna=False) > 1
        and not ("seed" in params and (params[key] == params["seed"]).all())
    ]
    return [key for key in varying if not _follows(key, varying, params)]


def _follows(key: str, varying: Sequence[str], params: pd.DataFrame) -> bool:
    """True if the class of the node that holds the key differs, and the key does not within any one class."""
    for target in varying:
        if target.endswith(_TARGET) and target != key and key.startswith(target.removesuffix("_target_")):
            return params.groupby(target, dropna=False)[key].nunique(dropna=False).max() == 1
    return False


def _key(name: str, params: pd.DataFrame) -> str:
    for key in (name, f"{name}{_TARGET}"):
        if key in params:
            return key
    raise UserError(f"by={name}: no run has such a setting{suggest(name, [display_name(key) for key in params])}")


def _word(key: str, value: str) -> str:
    return value.rpartition(".")[2].lower() if key.endswith(_TARGET) else value
