"""Tasks: loss, metrics, prediction, baseline and monitored metric of each kind of problem; a folder each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.runtime import lazy

if TYPE_CHECKING:
    from src.tasks.base import Task
    from src.tasks.registry import make_task, register_task

_PLACES = {"Task": "src.tasks.base", "make_task": "src.tasks.registry", "register_task": "src.tasks.registry"}
__all__ = ["Task", "make_task", "register_task"]

__getattr__ = lazy.names(__name__, _PLACES)
