"""Batches of k rows of each of several classes, so that every row meets another one of its class.

As metric learning draws them (Schroff et al. 2015, "FaceNet", arXiv:1503.03832, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from src.data.loading import ORDER, EpochSampler, permutation
from src.randomness import mix

_GROUPS, _CLASSES = 1, 2  # streams within the order's


class ClassBalanced(EpochSampler):
    """An EpochSampler whose order goes through groups of `per_class` rows of one class.

    In an epoch each class is cut at random into groups; the last one is filled up with rows of its own class, so a few
    are served twice. Then the classes take turns: one group of each, in random order, a second one of those that have
    more, and so on. A function of (seed, epoch) alone.

    Args:
        target: class of each row (N,), int64.
        per_class: rows in a group.
        options: of an EpochSampler.
    """

    def __init__(self, target: Tensor, per_class: int, batch_size: int, **options) -> None:
        target = target.cpu()
        self._rows_of = [(target == label).nonzero().squeeze(1) for label in target.unique().tolist()]
        self._per_class = per_class
        groups = sum(-(-len(rows) // per_class) for rows in self._rows_of)
        super().__init__(groups * per_class, batch_size, **options)

    def order(self, epoch: int) -> Tensor:
        key = mix(self.seed, ORDER, epoch)
        turns, groups = [], []
        for label, rows in enumerate(self._rows_of):
            rows = rows[permutation(len(rows), mix(_GROUPS, label, state=key))]
            count = -(-len(rows) // self._per_class)
            groups.append(rows[torch.arange(count * self._per_class) % len(rows)].view(count, -1))
            turns.append(torch.arange(count))
        turn, whole = torch.cat(turns), torch.cat(groups)
        shuffled = permutation(len(whole), mix(_CLASSES, state=key))
        return whole[shuffled[turn[shuffled].sort(stable=True).indices]].flatten()
