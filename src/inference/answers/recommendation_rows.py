"""Recommendations and ratings for new rows."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from src.inference.answers import recommendation
from src.inference.answers.base import Columns, data_path, reading_options
from src.inference.load import Trained


def ranked(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The first items of each user's list, of those that the user has not taken yet."""
    return recommendation.ranked(
        trained, data_path(config), reading_options(config, recommendation.COLUMNS), config.top_n
    )


def rated(trained: Trained, config: DictConfig) -> Iterator[Columns]:
    """The rating of each row's item by its user."""
    return recommendation.rated(
        trained, data_path(config), reading_options(config, recommendation.COLUMNS), config.batch_size
    )
