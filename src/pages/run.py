"""The page of one run."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from src import tracking
from src.comparison.formats import quantity
from src.config.recipes import RECIPES
from src.errors import UserError
from src.models.load import load_model
from src.pages.document import Code, Document, Picture, Table, Text
from src.plots.comparison import curves
from src.runtime import invocation
from src.runtime.format import number
from src.tracking import RunInfo
from src.tracking.provenance import LABBOOK, PROJECT

FIRST = ("curve_", "explained_")  # of a run's pictures, those that stand elsewhere than under Pictures


CLASSES = 20  # that are named


COSTS = {
    "seconds": "seconds of training",
    "samples_per_second": "rows a second",
    "parameters": "parameters",
    "flops": "floating-point operations a row",
    "peak_memory_megabytes": "memory at its peak, MB",
    "energy_joules": "energy, J",
}


def of_run(run: RunInfo, judged: dict[str, Any] | None) -> Document:
    """The page about one run.

    Args:
        judged: the latest evaluation of its test split, with intervals.
    """
    overrides = yaml.safe_load(tracking.artifact_text(run, "overrides.yaml") or "[]")
    document = Document(f"Run {run.name}")
    document.add("Question", *question(overrides))
    failure = run.tags.get("labbook.failure")
    began = f"{datetime.fromtimestamp(run.start):%Y-%m-%d %H:%M}"
    state = f"{run.status}{f' ({failure})' if failure else ''}; began {began}; run {run.id}"
    document.add("Result", Text(state), _figures(run, judged))
    document.add("Data", *_data(run))
    document.add("Curves", *_curves(run))
    kept = sorted((run.directory / "figures").glob("*.png"))
    document.add("Pictures", *(Picture(path, caption(path)) for path in kept if not path.name.startswith(FIRST)))
    explained = [path for path in kept if path.name.startswith("explained_")]
    document.add("What predictions rest on", *(Picture(path, caption(path)) for path in explained))
    costs = [
        [words, quantity(run.metrics[f"cost/{name}"])] for name, words in COSTS.items() if f"cost/{name}" in run.metrics
    ]
    document.add("Cost", Table(["", ""], costs) if costs else None, _tagged(run, "labbook.energy", "energy"))
    document.add("Configuration", Code("\n".join(overrides) or "all defaults"), folded(run, "config.yaml", "all of it"))
    document.add("Provenance", *_provenance(run))
    again = [f"{invocation.command('rerun')} run={run.id[:8]} verify=true", run.tags.get("labbook.command", "")]
    document.add("To have it again", Code("\n".join(filter(None, again))))
    return document


def latest_evaluation(run: RunInfo) -> dict[str, Any] | None:
    """Read the latest evaluation of the run's own test rows; None where there is none."""
    folders = (run.directory / "evaluations").glob("[0-9]*")
    for folder in sorted(folders, key=lambda path: int(path.name), reverse=True):
        kept = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        if not kept["config"]["data"] and kept["config"].get("split", kept["config"].get("part")) == "test":
            return kept
    return None


def question(words: list[str]) -> list[Text | Code]:
    """The header of the recipe that was used, if one was."""
    names = [word.partition("=")[2] for word in words if word.lstrip("+").startswith("experiment=")]
    files = [folder / f"{names[-1]}.yaml" for folder in RECIPES] if names else []
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [
        line.removeprefix("#").removeprefix(" ")
        for line in lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)]
    ]
    return [Code("\n".join(header))]


def _figures(run: RunInfo, judged: dict[str, Any] | None) -> Table | None:
    """Test figures beside the trivial baseline, with intervals where they were computed."""
    names = [name.removeprefix("test/") for name in run.metrics if name.startswith("test/")]
    rows = []
    for name in sorted(names, key=lambda name: (name != "loss", name)):
        bounds = (judged or {"intervals": {}})["intervals"].get(name)
        base = run.metrics.get(f"baseline/{name}")
        interval = f"{number(bounds['low'])} to {number(bounds['high'])}" if bounds else "-"
        rows.append([name, number(run.metrics[f"test/{name}"]), interval, "-" if base is None else number(base)])
    level = f"{judged['config']['level']:.0%} interval" if judged else "interval"
    return Table(["test", "value", level, "baseline"], rows) if rows else None


def _data(run: RunInfo) -> list[Text | Table | None]:
    names = ("data._target_", "data.path", "data.target", "data.val_fraction", "data.test_fraction", "data.split_seed")
    rows = [[name, run.params[name]] for name in names if run.params.get(name) not in (None, "None")]
    return [*_spec(run), Table(["option", "value"], rows), _tagged(run, "labbook.data_sha256", "sha256 of all rows")]


def _spec(run: RunInfo) -> list[Text]:
    """Describe the data by the spec in the checkpoint."""
    try:
        model = load_model(tracking.download(run, "checkpoints/best.ckpt"))
    except UserError:  # a run without one
        return []
    spec = model.spec
    sizes = ", ".join(f"{rows:,} {part}" for part, rows in spec.splits.items())
    lines = [f"{spec.name}: {model.task.name} on {spec.modality} data of shape {spec.input_shape}; rows: {sizes}"]
    if spec.class_names:
        counts = zip(spec.class_names, spec.class_counts or [None] * spec.num_classes, strict=True)
        shown = [name if count is None else f"{name} ({count:,})" for name, count in counts]
        rest = f" and {len(shown) - CLASSES} more" if len(shown) > CLASSES else ""
        lines.append(f"classes, with their training rows: {', '.join(shown[:CLASSES])}{rest}")
    return [Text(line) for line in lines]


def _curves(run: RunInfo) -> list[Picture]:
    """Each metric of training and validation by step."""
    points = tracking.points(run.uri, [run.id]).get(run.id)
    if points is None:
        return []
    names = sorted({key.partition("/")[2] for key in points["key"] if re.fullmatch(r"(train|val)/[^/]+", key)})
    found = []
    for name in (name for name in names if not name.endswith(("_best", "_step"))):
        lines = [(split, [points[points["key"] == f"{split}/{name}"][["step", "value"]]]) for split in ("train", "val")]
        figure = curves(lines, name)
        if figure is not None:
            found.append(Picture(figure))
    return found


def _provenance(run: RunInfo) -> list[Table | Code | None]:
    rows = [["commit", PROJECT.words(run.tags)]]
    if LABBOOK.commit in run.tags:
        rows.append([f"{LABBOOK.whose}commit", LABBOOK.words(run.tags)])
    rows += [
        [{"version": "labbook"}.get(name, name), run.tags[f"labbook.{name}"]]
        for name in ("device", "threads", "cpu", "cores", "memory_gb", "version", "python", "torch")
        if f"labbook.{name}" in run.tags
    ]
    return [
        Table(["", ""], rows),
        folded(run, "environment.txt", "installed"),
        *(folded(run, where.patch, f"{where.whose}uncommitted changes") for where in (PROJECT, LABBOOK)),
    ]


def _tagged(run: RunInfo, tag: str, words: str) -> Text | None:
    return Text(f"{words}: {run.tags[tag]}") if tag in run.tags else None


def folded(run: RunInfo, name: str, heading: str) -> Code | None:
    text = tracking.artifact_text(run, name)
    return Code(text, heading) if text else None


def caption(path: Path) -> str:
    return path.stem.replace("_", " ")
