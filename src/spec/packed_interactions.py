"""Interactions of the training split as plain text in a spec, and the classical estimates made from them."""

from __future__ import annotations

import base64
import zlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from src.spec.interactions import InteractionsSpec

DAMPING = 4.0  # ratings of the mean that each bias starts from


SWEEPS = 20


class Interactions(NamedTuple):
    """Interactions of users with items, each user's together and in the order of time (N,).

    Attributes:
        users, items: int64 codes from 1 on; 0 is a user or an item that the training split does not have.
        ratings: float32; 0 where there are none.
    """

    users: Tensor
    items: Tensor
    ratings: Tensor

    def pack(self) -> str:
        """Write as text, for a spec: some three bytes an interaction."""
        codes = [column.to(torch.int32).numpy().tobytes() for column in (self.users, self.items)]
        content = b"".join([*codes, self.ratings.float().numpy().tobytes()])
        return base64.b64encode(zlib.compress(content, 6)).decode("ascii")

    @classmethod
    def of(cls, spec: InteractionsSpec) -> Interactions:
        """Read the interactions that the spec of a model holds."""
        content = zlib.decompress(base64.b64decode(spec.packed)) if spec.packed else b""
        size = len(content) // 3
        users, items = (np.frombuffer(content[i * size : (i + 1) * size], np.int32).astype(np.int64) for i in (0, 1))
        ratings = np.frombuffer(content[2 * size :], np.float32).copy()
        return cls(torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(ratings))

    def counts(self, items: int) -> Tensor:
        """Count how often each item (items + 1,) occurs, float32."""
        return torch.bincount(self.items, minlength=items + 1).float()

    def biases(self, users: int, items: int) -> tuple[float, Tensor, Tensor]:
        """Baseline estimates of Koren, Bell and Volinsky 2009 ("Matrix factorization techniques for recommender
        systems"): the mean rating, and how far each user (users + 1,) and item (items + 1,) is from it, by regularised
        alternating least squares. Code 0 has none.
        """
        if not len(self.ratings):
            return 0.0, torch.zeros(users + 1), torch.zeros(items + 1)
        user, item, rating = self.users.numpy(), self.items.numpy(), self.ratings.double().numpy()
        mean = rating.mean()
        of_user, of_item = np.zeros(users + 1), np.zeros(items + 1)
        per_user = np.bincount(user, minlength=users + 1) + DAMPING
        per_item = np.bincount(item, minlength=items + 1) + DAMPING
        for _ in range(SWEEPS):
            of_item = np.bincount(item, rating - mean - of_user[user], minlength=items + 1) / per_item
            of_user = np.bincount(user, rating - mean - of_item[item], minlength=users + 1) / per_user
        of_user[0] = of_item[0] = 0
        return float(mean), torch.from_numpy(of_user).float(), torch.from_numpy(of_item).float()
