"""Recommendations and ratings for new rows."""

from __future__ import annotations

from collections.abc import Iterator

from src.inference.answers import recommendation
from src.inference.answers.base import Columns, Request, register_answer
from src.inference.load import Trained


@register_answer("ranking")
def ranked(trained: Trained, request: Request, *, top_n: int) -> Iterator[Columns]:
    """The first items of each user's list, of those that the user has not taken yet."""
    return recommendation.ranked(trained, request.file, request.options(*recommendation.COLUMNS), top_n)


@register_answer("rating")
def rated(trained: Trained, request: Request) -> Iterator[Columns]:
    """The rating of each row's item by its user."""
    return recommendation.rated(trained, request.file, request.options(*recommendation.COLUMNS), request.batch_size)
