"""Names and units of features, and short lists of them."""

from __future__ import annotations

from collections.abc import Sequence

from src.spec import DataSpec, TableSpec

# names and units ------------------------------------------------------------------------------------------------------


def feature_names(spec: DataSpec, count: int) -> list[str]:
    return list(spec.input.feature_names) or [f"column {place}" for place in range(count)]


def numeric_columns(spec: DataSpec, count: int) -> int:
    """Count how many of so many columns hold numbers; in a table those of categories are the last ones."""
    return count - len(spec.input.cardinalities) if isinstance(spec.input, TableSpec) else count


def units(spec: DataSpec, count: int) -> tuple[list[float], list[float]]:
    """Mean and deviation by which each of the numeric columns was standardised when it was read."""
    columns = spec.input.columns if isinstance(spec.input, TableSpec) else ()
    if not columns:
        return [0.0] * count, [1.0] * count
    mean, std = [], []
    for column in columns:
        if column.type != "category":
            scaled = not column.quantiles
            flag = [column.missing] if column.missing else []
            mean += [*(column.mean if scaled else [0.0] * len(column.mean)), *(0.0 for _ in flag)]
            std += [*(column.std if scaled else [1.0] * len(column.std)), *(1.0 for _ in flag)]
    return mean, std


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names, the first ones of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
