"""Answers of a trained run about new rows, one way for each task.

An answer is a function `(trained, request, *, options of its own) -> columns of some rows at a time`, registered under
the names of its tasks. It lies in a module of this package, all of which are imported for the first question, or
anywhere else that is imported before.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from src.errors import UserError
from src.inference.answers.base import Answer, Request, keywords, register_answer, registered
from src.inference.load import Trained

__all__ = ["Answer", "Request", "answer_of", "arguments", "register_answer"]

ROWS = "rows"  # the answer of tasks that have none of their own
SAMPLES = "samples"  # the answer of models that draw new rows, whatever their task


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def answer_of(task: str) -> Answer:
    """The answer that is registered for a task, else that of one class, number or score a row."""
    _import_all()
    return registered().get(task) or registered()[ROWS]


def arguments(answer: Answer, trained: Trained, values: Mapping[str, Any], given: Iterable[str]) -> dict[str, Any]:
    """An answer's own options, of the values of all options of answers.

    Args:
        given: names that the user typed.

    Raises:
        UserError: one of these belongs to other answers.
    """
    for name in given:
        owners = [task for task, other in registered().items() if name in other.options]
        users = ["num_samples" if task == SAMPLES else task for task in owners]
        if users and name not in answer.options:
            task = trained.model.task.name
            own = f"; its options: {', '.join(answer.options)}" if answer.options else ""
            told = f"{name}={values[name]} is for {', '.join(users)}"
            raise UserError(f"{told}, the task of run {trained.name} is {task}{own}")
    return {name: values[name.rstrip("_")] for name in keywords(answer.call)}
