"""Modes of metrics: whether a lower or a higher value is better. Imports no torch, so that results are found fast.

The table holds the metrics of this package; a task may bring others, which a run records in a tag of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal

Mode = Literal["min", "max"]

TAG = "labbook.metric_modes"  # of a run: the modes of metrics that the table lacks
MODES: dict[str, Mode] = {
    "loss": "min",
    # labels
    "accuracy": "max",
    "auroc": "max",
    "f1": "max",
    "average_precision": "max",
    # numbers and series
    "mae": "min",
    "rmse": "min",
    "r2": "max",
    "mase": "min",
    # pairs
    "eer": "min",
    "tar_at_1_percent": "max",
    "recall_at_1": "max",
    # rows given back, and their density
    "mse": "min",
    "psnr": "max",
    "negative_elbo": "min",
    "reconstruction": "min",
    "kl": "min",
    "nll_bound": "min",
    # text
    "perplexity": "min",
    "bits_per_character": "min",
    "exact_match": "max",
    "bleu": "max",
    "chrf": "max",
    # boxes
    "map": "max",
    "map50": "max",
    # lists of items
    "ndcg_10": "max",
    "hit_rate_10": "max",
    "recall_10": "max",
    "mrr": "max",
    # samples
    "frechet": "min",
    "diversity": "max",
    "duplicates": "min",
    "coverage": "max",
    "class_entropy": "max",
    "classifier_accuracy": "max",
    # episodes
    "return": "max",
    "return_std": "min",
    "length": "max",
    # cost
    "parameters": "min",
    "flops": "min",
    "seconds": "min",
    "samples_per_second": "max",
    "mfu": "max",
    "peak_memory_megabytes": "min",
    "peak_gpu_memory_megabytes": "min",
    "energy_joules": "min",
}


# how the name of a metric may end of which no more is known, such as `own_loss` or `val_acc`
ENDINGS: dict[str, Mode] = {
    **dict.fromkeys(("loss", "error", "nll", "perplexity", "mae", "mse", "rmse"), "min"),
    **dict.fromkeys(("accuracy", "acc", "auroc", "auc", "f1", "precision", "recall", "iou", "dice"), "max"),
}


def modes(*names: str) -> dict[str, Mode]:
    """Modes of some metrics of the table, in this order."""
    return {name: MODES[name] for name in names}


def mode_of(metric: str, own: Mapping[str, Mode] | None = None) -> Mode | None:
    """Mode of a logged metric such as `val/accuracy_best`; None where it is not known.

    Args:
        own: modes that a run brings itself, see `read_tag`; they win over the table, and that over the name's ending.
    """
    name = metric.rpartition("/")[2].removesuffix("_best")
    return (own or {}).get(name) or MODES.get(name) or ENDINGS.get(name.rpartition("_")[2])


def without_stage(metric: str) -> str:
    """Name of a metric without the stage that it may begin with: `margin` of `val/margin` and of `val_margin`."""
    return re.sub(r"^(train|training|val|valid|validation|test)[/_](?=.)", "", metric)


def tags(metric_modes: Mapping[str, Mode]) -> dict[str, str]:
    """The tag of a run for the modes of its task that the table lacks, or has otherwise; empty where there are none."""
    own = {name: mode for name, mode in metric_modes.items() if MODES.get(name) != mode}
    return {TAG: json.dumps(own, sort_keys=True)} if own else {}


def read_tag(run_tags: Mapping[str, str]) -> dict[str, Mode]:
    """Modes that a run brings itself, from its tags; what is no mode is left out."""
    try:
        found = json.loads(run_tags.get(TAG, "{}"))
    except ValueError:
        return {}
    return {name: mode for name, mode in found.items() if mode in ("min", "max")} if isinstance(found, dict) else {}
