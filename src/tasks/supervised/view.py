"""View of a class, of one of two, or of a number: as `RowView` has it, with what is explained of each."""

from __future__ import annotations

from src.tasks.explained import Explained, MeanOfNumbers, OneOfMany, OneOfTwo
from src.tasks.view import RowView


class ClassificationView(RowView):
    """View of one class of several."""

    @property
    def explained(self) -> Explained:
        """The likeliest class."""
        return OneOfMany(self.task)


class BinaryView(RowView):
    """View of one class of two."""

    @property
    def explained(self) -> Explained:
        """The likelier class."""
        return OneOfTwo()


class RegressionView(RowView):
    """View of a number."""

    @property
    def explained(self) -> Explained:
        """The number."""
        return MeanOfNumbers()
