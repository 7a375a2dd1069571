"""Answers of a trained run about new rows, one way for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from omegaconf import DictConfig

from src.inference.answers.base import Columns
from src.inference.answers.detection import detected
from src.inference.answers.forecasting import forecast
from src.inference.answers.language import continued, filled
from src.inference.answers.question_answering import answered
from src.inference.answers.recommendation_rows import ranked, rated
from src.inference.answers.verification import embedded
from src.inference.load import Trained

ANSWERS: dict[str, Callable[[Trained, DictConfig], Iterator[Columns]]] = {
    "causal_lm": continued,
    "masked_lm": filled,
    "question_answering": answered,
    "forecasting": forecast,
    "detection": detected,
    "verification": embedded,
    "ranking": ranked,
    "rating": rated,
}
