"""Data looked at before it is trained on: read as training would read it, then described, checked and drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from src.config.sources import CONF
from src.data.audio import Recordings
from src.data.base import DataModule, without_targets
from src.data.folder import ImageFolder
from src.errors import UserError
from src.experiment import fitting_models, quieten
from src.models.base import Model
from src.reports import detections, findings, overview
from src.reports.findings import Finding
from src.reports.rows import spread
from src.reports.single_columns import single_columns
from src.reports.spectrograms import axes, upright
from src.spec import DataSpec
from src.training.randomness import seed_everything

TEXTS = ("tokens", "pairs")  # kinds of data whose rows are printed, not drawn
IMAGES, ROWS = 8, 5  # drawn, printed
DRAWN = 20_000  # rows of a histogram


def inspect(config: DictConfig) -> list[Finding]:
    """Prints what data is, which models fit it and what should be looked into, and draws some rows.

    Raises:
        UserError: data that cannot be read, or a picture that exists already; nothing was written.
    """
    quieten()
    seed_everything(config.seed, config.threads)
    console = Console()
    if config.data is None:
        overview.print_fits(console, _matrix(_families()))
        return []
    if "_target_" not in config.data:
        raise UserError(f"data.{next(iter(config.data), '')}: of which data? add data=NAME, such as data=csv")
    data: DataModule = instantiate(config.data, _convert_="all")
    output = _output(config, data)
    data.prepare_data()
    data.setup("fit")
    spec, described = data.spec, data.describe()
    overview.print_overview(console, spec, data.parts, described, getattr(data, "times", ()))
    families = _families()
    overview.print_models(console, {m: _usual(families[m], spec.tasks, config) for m in fitting_models(spec)})
    found = findings.find(
        spec,
        data.parts,
        {name: column["missing"] for name, column in described.get("columns", {}).items()},
        config.rows,
        getattr(data, "row_name", findings.in_part),
        ordered=not isinstance(data, ImageFolder | Recordings),  # whose rows come class by class
    )
    overview.print_findings(console, found)
    if spec.kind in TEXTS:
        overview.print_texts(console, spec, data.head("train", ROWS))
    elif output is not None and not spec.environment:
        _draw(output, data)
        console.print(f"some rows are drawn in {output}", highlight=False, soft_wrap=True, markup=False)
    return found


def _output(config: DictConfig, data: DataModule) -> Path | None:
    """Where the picture goes, before anything is read."""
    if config.output is None or data.kind in TEXTS:
        return None
    path = Path(config.output).expanduser()
    if path.suffix != ".png":
        raise UserError(f"output={path}: a name that ends in .png")
    if path.exists() and not config.force:
        raise UserError(f"output={path} exists: force=true writes over it, output=null draws nothing")
    if not path.parent.is_dir():
        raise UserError(f"output={path}: there is no folder {path.parent}")
    return path


# models ---------------------------------------------------------------------------------------------------------------


def _families() -> dict[str, type[Model]]:
    """The class of each model in conf/model."""
    targets = {path.stem: OmegaConf.load(path).get("_target_") for path in sorted((CONF / "model").glob("*.yaml"))}
    return {name: get_class(target) for name, target in targets.items() if target}


def _usual(family: type[Model], tasks: tuple[str, ...], config: DictConfig) -> str:
    """The task that training would take: the one asked for where both have it, else the first of both."""
    common = [task for task in tasks if task in family.tasks]
    return config.task.name if config.task.name in common else common[0]


def _matrix(models: Mapping[str, type[Model]]) -> dict[str, dict[str, list[str]]]:
    """Of each dataset in conf/data the usual task of each model that fits, by what their classes say; nothing is read.
    Where the target decides, all tasks that it may turn out to be."""
    fits: dict[str, dict[str, list[str]]] = {}
    for path in sorted((CONF / "data").glob("*.yaml")):
        node = OmegaConf.load(path)
        data: Any = get_class(node["_target_"])
        if not any(OmegaConf.is_missing(node, key) for key in node):
            root = OmegaConf.create({"seed": 0, "task": {"name": "auto"}, "data": node})
            with contextlib.suppress(UserError):  # one that wants an option which is null
                data = instantiate(root.data, _convert_="all")  # some know their tasks by then
        kinds, fits[path.stem] = getattr(data, "kinds", (data.kind,)), {}
        offered = dict.fromkeys([*data.tasks, *(task for kind in kinds for task in without_targets(data, kind))])
        for name, family in models.items():
            common = [task for task in offered if task in family.tasks]
            if common and set(kinds) & set(family.kinds):
                fits[path.stem][name] = common if "task" in node else common[:1]
    return fits


# pictures -------------------------------------------------------------------------------------------------------------


def _draw(path: Path, data: DataModule) -> None:
    from src.reports import samples  # imports matplotlib
    from src.reports.figures import save

    spec, train = data.spec, data.parts["train"]
    if spec.kind == "image":
        plain, augmented, names = _images(data)
        augmented = None if augmented is None else upright(spec, augmented)
        figure = samples.images(upright(spec, plain), augmented, names, axes(spec))
    elif spec.kind == "series" and spec.horizon:
        bounds = {
            name: (int(part["target"].starts[0]), int(part["target"].starts[-1]) + part["target"].length)
            for name, part in data.parts.items()
        }
        figure = samples.channels(train["input"].values.numpy(), bounds, spec.feature_names)
    elif spec.kind == "series":
        names = findings.feature_names(spec, spec.input_shape[1])
        figure = samples.channels(data.head("train", 1)["input"][0].numpy(), {}, names)
    else:
        figure = samples.histograms(*_columns(spec, train))
    save(path, figure)


def _images(data: DataModule) -> tuple[Any, Any, list[str]]:
    """The first images that training would see, as they are and as it would see them, and their classes."""
    loader = data.train_dataloader()
    batch = next(iter(loader))
    loader.close()
    batch = {name: values[:IMAGES] for name, values in batch.items()}
    active = data._augmentation() is not None
    if data.spec.boxes:
        return _boxes(data, batch, active)
    plain = data.parts["train"]["input"][batch["index"]] if active else batch["input"]
    names = [_named(data.spec, value.item()) for value in batch["target"]]
    return plain.numpy(), batch["input"].numpy() if active else None, names


def _boxes(data: DataModule, batch: Mapping[str, Tensor], augmented: bool) -> tuple[Any, Any, list[str]]:
    """As `_images`, with the boxes drawn."""
    spec = data.spec

    def pictures(rows: Mapping[str, Tensor]) -> Any:
        found = zip(rows["input"], rows["boxes"], rows["labels"], strict=True)
        names = spec.class_names
        return torch.stack(
            [
                detections.drawn(image, boxes[n >= 0], n[n >= 0], [names[i] for i in n[n >= 0]], spec.levels)
                for image, boxes, n in found
            ]
        ).numpy()

    plain = {name: column[batch["index"]] for name, column in data.parts["train"].items()}
    counts = [f"{count} boxes" for count in (plain["labels"] >= 0).sum(1).tolist()]
    return pictures(plain), pictures(batch) if augmented else None, counts


def _named(spec: DataSpec, value: float) -> str:
    return spec.class_names[int(value)] if spec.class_names else f"{value:.4g}"


def _columns(spec: DataSpec, train: Mapping[str, Any]) -> tuple[dict[str, Any], Any, list[str], dict[str, list[str]]]:
    """Columns in their own units (of many, those that tell most of the target by themselves), the group of each row,
    the groups' names, and those of the categories."""
    from src.reports.samples import COLUMNS

    count = train["input"].shape[1]
    names, places = findings.feature_names(spec, count), list(range(count))
    if count > COLUMNS:
        scores = single_columns(spec, train["input"], train["target"]).values
        places = sorted(sorted(places, key=lambda place: -torch.nan_to_num(torch.tensor(scores[place])))[:COLUMNS])
    index = spread(len(train["input"]), DRAWN)
    values, target = train["input"][index].double().numpy(), train["target"][index]
    mean, std = findings.units(spec, count - len(spec.cardinalities))
    columns = {names[p]: values[:, p] * std[p] + mean[p] if p < len(mean) else values[:, p] for p in places}
    categories = {
        column["name"]: ["others", *(name or "(missing)" for name in column["categories"])]
        for column in spec.columns
        if column["type"] == "category"
    }
    groups, group_names = _groups(spec, target)
    return columns, groups.numpy(), group_names, categories


def _groups(spec: DataSpec, target: Tensor) -> tuple[Tensor, list[str]]:
    """The class of each row (N,), the largest ones apart; of numbers the third that it is in."""
    from src.reports.samples import GROUPS

    if not spec.class_names:
        thirds = torch.quantile(target, torch.tensor([1 / 3, 2 / 3]))
        return torch.bucketize(target, thirds), ["low target", "middle", "high target"]
    ranked = sorted(range(spec.num_classes), key=lambda label: -spec.class_counts[label])
    shown = ranked if len(ranked) <= GROUPS else ranked[: GROUPS - 1]
    group = torch.full((spec.num_classes,), len(shown))
    group[shown] = torch.arange(len(shown))
    names = [spec.class_names[label] for label in shown] + (["other classes"] if len(shown) < len(ranked) else [])
    return group[target], names
