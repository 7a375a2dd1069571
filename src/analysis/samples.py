"""Some rows of a dataset, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src import plots
from src.analysis import names as findings
from src.analysis.leakage import single_columns
from src.data.core.chunks import spread
from src.data.core.module import DataModule
from src.plots.spectrograms import axes, upright
from src.spec import Boxes, DataSpec, Horizon, ImageSpec, SeriesSpec, TableSpec

IMAGES, ROWS = 8, 5  # drawn, printed


DRAWN = 20_000  # rows of a histogram


# pictures -------------------------------------------------------------------------------------------------------------


def draw_samples(path: Path, data: DataModule) -> None:
    spec, train = data.spec, data.splits["train"]
    if isinstance(spec.input, ImageSpec):
        plain, augmented, names = _images(data)
        augmented = None if augmented is None else upright(spec, augmented)
        figure = plots.samples.images(upright(spec, plain), augmented, names, axes(spec))
    elif isinstance(spec.target, Horizon):
        bounds = {
            name: (int(split["target"].starts[0]), int(split["target"].starts[-1]) + split["target"].length)
            for name, split in data.splits.items()
        }
        figure = plots.samples.channels(train["input"].values.numpy(), bounds, spec.input.feature_names)
    elif isinstance(spec.input, SeriesSpec):
        names = findings.feature_names(spec, spec.input_shape[1])
        figure = plots.samples.channels(data.head("train", 1)["input"][0].numpy(), {}, names)
    else:
        figure = plots.samples.histograms(*_columns(spec, train))
    plots.base.save(path, figure)


def _images(data: DataModule) -> tuple[Any, Any, list[str]]:
    """The first images that training would see, as they are and as it would see them, and their classes."""
    loader = data.train_dataloader()
    batch = next(iter(loader))
    loader.close()
    batch = {name: values[:IMAGES] for name, values in batch.items()}
    active = data.augmentation() is not None
    if isinstance(data.spec.target, Boxes):
        return _boxes(data, batch, active)
    plain = data.splits["train"]["input"][batch["index"]] if active else batch["input"]
    names = [_named(data.spec, value.item()) for value in batch["target"]]
    return plain.numpy(), batch["input"].numpy() if active else None, names


def _boxes(data: DataModule, batch: Mapping[str, Tensor], augmented: bool) -> tuple[Any, Any, list[str]]:
    """Images as of `_images`, with the boxes drawn."""
    spec = data.spec

    def pictures(rows: Mapping[str, Tensor]) -> Any:
        found = zip(rows["input"], rows["boxes"], rows["labels"], strict=True)
        names = spec.class_names
        return torch.stack(
            [
                plots.detections.draw_boxes(
                    image, boxes[n >= 0], n[n >= 0], [names[i] for i in n[n >= 0]], spec.input.levels
                )
                for image, boxes, n in found
            ]
        ).numpy()

    plain = {name: column[batch["index"]] for name, column in data.splits["train"].items()}
    counts = [f"{count} boxes" for count in (plain["labels"] >= 0).sum(1).tolist()]
    return pictures(plain), pictures(batch) if augmented else None, counts


def _named(spec: DataSpec, value: float) -> str:
    return spec.class_names[int(value)] if spec.class_names else f"{value:.4g}"


def _columns(spec: DataSpec, train: Mapping[str, Any]) -> tuple[dict[str, Any], Any, list[str], dict[str, list[str]]]:
    """Columns in their own units (of many, those that tell most of the target by themselves), the group of each row,
    the groups' names, and those of the categories."""
    count = train["input"].shape[1]
    names, places = findings.feature_names(spec, count), list(range(count))
    if count > plots.samples.COLUMNS:
        scores = single_columns(spec, train["input"], train["target"]).values
        places = sorted(
            sorted(places, key=lambda place: -torch.nan_to_num(torch.tensor(scores[place])))[: plots.samples.COLUMNS]
        )
    index = spread(len(train["input"]), DRAWN)
    values, target = train["input"][index].double().numpy(), train["target"][index]
    mean, std = findings.units(spec, findings.numeric_columns(spec, count))
    columns = {names[p]: values[:, p] * std[p] + mean[p] if p < len(mean) else values[:, p] for p in places}
    categories = {
        column.name: ["others", *(name or "(missing)" for name in column.categories)]
        for column in (spec.input.columns if isinstance(spec.input, TableSpec) else ())
        if column.type == "category"
    }
    groups, group_names = _groups(spec, target)
    return columns, groups.numpy(), group_names, categories


def _groups(spec: DataSpec, target: Tensor) -> tuple[Tensor, list[str]]:
    """The class of each row (N,), the largest ones apart; of numbers the third that it is in."""
    if not spec.class_names:
        thirds = torch.quantile(target, torch.tensor([1 / 3, 2 / 3]))
        return torch.bucketize(target, thirds), ["low target", "middle", "high target"]
    ranked = sorted(range(spec.num_classes), key=lambda label: -spec.class_counts[label])
    shown = ranked if len(ranked) <= plots.samples.GROUPS else ranked[: plots.samples.GROUPS - 1]
    group = torch.full((spec.num_classes,), len(shown))
    group[shown] = torch.arange(len(shown))
    names = [spec.class_names[label] for label in shown] + (["other classes"] if len(shown) < len(ranked) else [])
    return group[target], names
