"""Recommenders: vectors of users and items whose fit is a rating, or a place in a list.

Matrix factorisation (Koren, Bell and Volinsky 2009, "Matrix factorization techniques for recommender systems"); neural
collaborative filtering (He et al. 2017, arXiv:1708.05031); two towers (Yi et al. 2019, "Sampling-bias-corrected neural
modeling for large corpus item recommendations"). A user can be a vector of their own, or what they rated: the mean of
its items' vectors (Kabbur et al. 2013, "FISM"), in which late ones may count for more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import override

from src.errors import UserError
from src.models.base import Model
from src.runtime.ranges import PositiveInt, Share
from src.spec import DataSpec, InteractionsSpec, Number
from src.spec.interactions import HISTORY, ITEM, USER
from src.tasks.base import Task
from src.tasks.recommendation.task import Rating

STD = 0.1  # of vectors at first
OUT_OF_REACH = -1e4  # logit of a place without an item


class Recommender(Model):
    """Scores of items for users.

    For ratings the biases of users and items are those of the task's baseline, which ridge regression gives; what is
    learnt is the rest. For lists each item has a bias that is learnt. A user or item that training did not have has no
    vector: the biases answer for it.

    Input is a row `user, item, history, its ratings` as `src.data.InteractionData` makes it; outputs are of the row's
    item (B, 1) where ratings are asked for, else of all items (B, I), or of the candidates (B, C) given.

    Args:
        kind: mf (dot product), ncf (NeuMF: the first half of each vector for a weighted product, the second for an MLP)
            or two_tower (an MLP each for users and items, then the cosine).
        user: vector (one a user), history (the mean of the items' vectors, the weight of each place learnt), both, or
            auto: vector for ratings, history for lists.
        width: of a vector.
        depth: layers of an MLP; unused by mf.
        dropout: share of a history's items that training leaves out at random.

    Raises:
        UserError: an option out of its range.
    """

    inputs = (InteractionsSpec,)
    tasks = ("rating", "ranking")

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        kind: Literal["mf", "ncf", "two_tower"] = "mf",
        user: Literal["auto", "vector", "history", "both"] = "auto",
        width: Annotated[int, Ge(2)] = 32,
        depth: PositiveInt = 2,
        dropout: Share = 0.0,
    ) -> None:
        super().__init__(spec, task)
        self.of_user: nn.Module
        self.of_item: nn.Module
        for option, value, known in (
            ("kind", kind, ("mf", "ncf", "two_tower")),
            ("user", user, ("auto", "vector", "history", "both")),
        ):
            if value not in known:
                raise UserError(f"model.{option}={value}: one of {', '.join(known)}")
        if width % 2:
            raise UserError(f"model.width={width} must be even")
        self.rates = task.name == "rating"
        self.kind, self.dropout = kind, dropout
        if user == "auto":
            user = "vector" if self.rates else "history"
        interactions = spec.input_as(InteractionsSpec)
        self.items = _vectors(len(interactions.items), width)
        self.users = _vectors(len(interactions.users), width) if user != "history" else None
        length = interactions.history_length
        self.recency = nn.Parameter(torch.zeros(length)) if user != "vector" else None  # logits, the latest first
        self.item_bias = None if self.rates else nn.Parameter(torch.zeros(len(interactions.items) + 1))
        if kind == "ncf":
            half = width // 2
            self.of_user, self.of_item = nn.Linear(half, width), nn.Linear(half, width, bias=False)
            self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
            self.head = nn.Linear(half + width, 1, bias=False)
        elif kind == "two_tower":
            self.of_user, self.of_item = _tower(width, depth), _tower(width, depth)
            self.log_scale = nn.Parameter(torch.tensor(0.0 if self.rates else 2.0))

    def forward(self, x: Tensor, candidates: Tensor | None = None) -> Tensor:
        """Rows `user, item, history, ratings` to scores (B, 1), (B, I) or, of the candidates (B, C), (B, C)."""
        user, item = x[:, USER].long(), x[:, ITEM].long()
        length = (x.shape[1] - HISTORY) // 2
        past = x[:, HISTORY : HISTORY + length].long()
        z, known = self.represented(user, past)
        if self.rates:
            q = self.items(item).unsqueeze(1)
            residual = self.fit(z, q).squeeze(1) * known * (item > 0)
            assert isinstance(self.task, Rating)
            rating = self.spec.target_as(Number)
            estimate = (self.task.estimate(user, item) - rating.mean) / rating.std
            return (residual + estimate.to(residual.dtype)).unsqueeze(1)
        assert self.item_bias is not None  # of lists
        if candidates is None:
            return self.fit(z, self.items.weight[1:]) * known.unsqueeze(1) + self.item_bias[1:]
        return self.fit(z, self.items(candidates)) * known.unsqueeze(1) + self.item_bias[candidates]

    def explanation_problem(self) -> str | None:
        """Reason why predictions cannot be attributed to a history with these options; None where they can."""
        if self.recency is None:
            return "users who are vectors of their own have no items to attribute to; model.user=history"
        return None

    @override
    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self(batch["input"], batch.get("candidates"))

    def represented(self, user: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, D) of users (B,) with histories (B, L), and a mask (B,) of users of whom anything is known."""
        z, known = torch.zeros((), device=user.device), torch.zeros_like(user, dtype=torch.bool)
        if self.users is not None:
            z, known = self.users(user), user > 0
        if self.recency is None:
            return z, known
        inside = past > 0
        known = known | inside.any(1)
        if self.training and self.dropout:
            inside = inside & (torch.rand(past.shape, device=past.device) >= self.dropout)
        logits = torch.where(inside, self.recency, OUT_OF_REACH)
        weight = logits.softmax(1) * inside
        return z + (weight.unsqueeze(1) @ self.items(past)).squeeze(1), known

    def fit(self, z: Tensor, q: Tensor) -> Tensor:
        """Scores (B, C) of users (B, D) with items of their own (B, C, D), or all with the same (C, D)."""
        if self.kind == "ncf":
            half = z.shape[1] // 2
            z = z.unsqueeze(1)
            product = z[..., :half] * q[..., :half]
            hidden = F.relu(self.of_user(z[..., half:]) + self.of_item(q[..., half:]))
            for layer in self.layers:
                hidden = F.relu(layer(hidden))
            return self.head(torch.cat([product, hidden], dim=-1)).squeeze(-1)
        if self.kind == "two_tower":
            z = F.normalize(self.of_user(z), dim=-1) * self.log_scale.exp()
            q = F.normalize(self.of_item(q), dim=-1)
        return z @ q.T if q.ndim == 2 else (q @ z.unsqueeze(2)).squeeze(2)


def _vectors(count: int, width: int) -> nn.Embedding:
    """Table of a vector for each code; that of 0 is zero and stays so."""
    vectors = nn.Embedding(count + 1, width, padding_idx=0)
    nn.init.normal_(vectors.weight[1:], std=STD)
    return vectors


def _tower(width: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, width))
