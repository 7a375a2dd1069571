"""View of a generator: images that it draws; it predicts nothing of the rows that it is given."""

from __future__ import annotations

from torch import Tensor

from src.tasks.terminal import Table
from src.tasks.view import Examples, Maker, RowView


class DrawnView(RowView):
    """New rows: there are no predictions (N, ...) to speak of."""

    def table(self, predictions: Tensor, targets: Tensor | None, width: int) -> Table:
        """A line that says so."""
        return Table("no predictions: new rows are drawn, and none is predicted", (), ())

    def figures(self, examples: Examples) -> dict[str, Maker]:
        """No figures: images are drawn after each validation."""
        return {}
