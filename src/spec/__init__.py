"""DataSpec: all that a model may know about its data, as plain values that travel in every checkpoint."""

from src.spec.base import DataSpec

__all__ = ["DataSpec"]
