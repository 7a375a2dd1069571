"""What is shown of a class, of one of two, or of a number: as `RowView` has it, with what is explained of each."""

from __future__ import annotations

from src.tasks.explained import Explained, MeanOfNumbers, OneOfMany, OneOfTwo
from src.tasks.view import RowView


class ClassificationView(RowView):
    """Of one of several classes."""

    @property
    def explained(self) -> Explained:
        """The likeliest class."""
        return OneOfMany(self.task)


class BinaryView(RowView):
    """Of one of two classes."""

    @property
    def explained(self) -> Explained:
        """The likelier class."""
        return OneOfTwo()


class RegressionView(RowView):
    """Of a number."""

    @property
    def explained(self) -> Explained:
        """The number."""
        return MeanOfNumbers()
