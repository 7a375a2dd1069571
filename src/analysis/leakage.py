"""Scores of how well each column of a table predicts the target by itself, on rows that it was not fitted to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from src.data.core.chunks import spread
from src.data.core.lazy import Column
from src.data.core.modality import modality_of
from src.spec import DataSpec

COLUMNS = 500  # scored at most
_SAMPLE = 20_000  # training rows
_LEAST = 40  # rows below which a column that predicts all may do so by chance
_LEAVES = 32


class Scores(NamedTuple):
    """Scores of how well each column predicts the target by itself: (F,), NaN where it has no score."""

    metric: str
    values: np.ndarray


def single_columns(spec: DataSpec, table: Tensor | Column, target: Tensor) -> Scores:
    """Score each of the first 500 columns (N, F) alone: a decision tree of at most 32 leaves, for categories the
    target's distribution in each, is fitted on half of the training rows, up to 20,000 in all, and scored on the rest.
    Rows are drawn, and of each class or range of the target every other one goes to either half.

    Returns:
        AUROC for two classes, accuracy averaged over more classes, R2 for numbers.
    """
    metric = {0: "R2", 2: "AUROC"}.get(spec.num_classes, "balanced accuracy")
    scores = np.full(table.shape[1], np.nan)
    if len(table) < _LEAST:
        return Scores(metric, scores)
    index = spread(len(table), _SAMPLE)
    values, wanted = table[index].numpy(), target[index].numpy()
    order = np.random.default_rng(0).permutation(len(wanted))  # rows may repeat a pattern
    order = order[np.argsort(wanted[order], kind="stable")]
    seen, other = order[::2], order[1::2]
    if len(np.unique(wanted[seen])) < 2 or len(np.unique(wanted[other])) < 2:
        return Scores(metric, scores)
    first_category = modality_of(spec).numeric_columns(table.shape[1])
    for place in range(min(COLUMNS, table.shape[1])):
        fit = _by_category if place >= first_category else _by_tree
        told = fit(values[seen, place], wanted[seen], values[other, place], spec.num_classes)
        scores[place] = _score(metric, wanted[other], told)
    return Scores(metric, scores)


def _by_tree(seen: np.ndarray, target: np.ndarray, other: np.ndarray, num_classes: int) -> np.ndarray:
    """Probabilities (N, C) of the other rows, or values (N,)."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # noqa: PLC0415 - slow to import, few ask for it

    options = {"max_leaf_nodes": _LEAVES, "min_samples_leaf": 3, "random_state": 0}
    if not num_classes:
        return DecisionTreeRegressor(**options).fit(seen[:, None], target).predict(other[:, None])
    tree = DecisionTreeClassifier(**options).fit(seen[:, None], target)
    told = np.zeros((len(other), num_classes))
    told[:, tree.classes_] = tree.predict_proba(other[:, None])
    return told


def _by_category(seen: np.ndarray, target: np.ndarray, other: np.ndarray, num_classes: int) -> np.ndarray:
    """Predictions by the code of a category; an unseen one tells no more than all rows together do."""
    wanted = np.eye(num_classes)[target] if num_classes else target[:, None].astype(np.float64)
    codes = int(max(seen.max(), other.max())) + 1
    sums, counts = np.zeros((codes, wanted.shape[1])), np.zeros(codes)
    np.add.at(sums, seen.astype(int), wanted)
    np.add.at(counts, seen.astype(int), 1)
    means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], wanted.mean(0))
    told = means[other.astype(int)]
    return told if num_classes else told[:, 0]


def _score(metric: str, target: np.ndarray, told: np.ndarray) -> float:
    from sklearn import metrics  # noqa: PLC0415 - slow to import, few ask for it

    if metric == "R2":
        return float(metrics.r2_score(target, told))
    if metric == "AUROC":
        return float(metrics.roc_auc_score(target, told[:, 1]))
    chosen = told.argmax(1)
    return float(np.mean([(chosen[target == label] == label).mean() for label in np.unique(target)]))
