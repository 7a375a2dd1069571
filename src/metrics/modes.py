"""Which way is better: for each metric whether more or less of it; imports no torch, so that results are found fast."""

from __future__ import annotations

from typing import Literal

Mode = Literal["min", "max"]

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


def modes(*names: str) -> dict[str, Mode]:
    """Of some metrics, in this order."""
    return {name: MODES[name] for name in names}


def mode_of(metric: str) -> Mode | None:
    """Of a logged metric such as `val/accuracy_best`; None where it is not known."""
    return MODES.get(metric.rpartition("/")[2].removesuffix("_best"))
