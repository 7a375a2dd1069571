"""Name that the base of all datasets had in the release before; kept for one release."""

from src.data.core.module import DataModule

__all__ = ["DataModule"]
