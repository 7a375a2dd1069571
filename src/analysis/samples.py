"""Some rows of a dataset, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src import plots
from src.analysis.leakage import single_columns
from src.data.core.chunks import spread
from src.data.core.modality import modality_of
from src.data.core.module import DataModule
from src.spec import DataSpec

DRAWN = 20_000  # rows of a histogram


def draw_samples(path: Path, data: DataModule) -> None:
    """Draw rows of the training split as their modality is drawn; of columns, how their values lie."""
    figure = modality_of(data.spec).draw(data)
    plots.base.save(
        path, plots.samples.histograms(*_columns(data.spec, data.splits["train"])) if figure is None else figure
    )


def _columns(spec: DataSpec, train: Mapping[str, Any]) -> tuple[dict[str, Any], Any, list[str], dict[str, list[str]]]:
    """Columns in their own units (of many, those that tell most of the target by themselves), the group of each row,
    the groups' names, and those of the categories."""
    modality, count = modality_of(spec), train["input"].shape[1]
    names, places = modality.column_names(count), list(range(count))
    if count > plots.samples.COLUMNS:
        scores = single_columns(spec, train["input"], train["target"]).values
        ranked = sorted(places, key=lambda place: -torch.nan_to_num(torch.tensor(scores[place])))
        places = sorted(ranked[: plots.samples.COLUMNS])
    index = spread(len(train["input"]), DRAWN)
    values, target = train["input"][index].double().numpy(), train["target"][index]
    mean, std = modality.units(modality.numeric_columns(count))
    columns = {names[p]: values[:, p] * std[p] + mean[p] if p < len(mean) else values[:, p] for p in places}
    groups, group_names = _groups(spec, target)
    return columns, groups.numpy(), group_names, modality.categories()


def _groups(spec: DataSpec, target: Tensor) -> tuple[Tensor, list[str]]:
    """The class of each row (N,), the largest ones apart; of numbers the third that it is in."""
    if not spec.class_names:
        thirds = torch.quantile(target, torch.tensor([1 / 3, 2 / 3]))
        return torch.bucketize(target, thirds), ["low target", "middle", "high target"]
    most = plots.samples.GROUPS
    ranked = sorted(range(spec.num_classes), key=lambda label: -spec.class_counts[label])
    shown = ranked if len(ranked) <= most else ranked[: most - 1]
    group = torch.full((spec.num_classes,), len(shown))
    group[shown] = torch.arange(len(shown))
    names = [spec.class_names[label] for label in shown] + (["other classes"] if len(shown) < len(ranked) else [])
    return group[target], names
