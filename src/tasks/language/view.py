"""View of texts: predictions and right answers are ids of tokens (N, L), which the data's tokenizer reads."""

from __future__ import annotations

from torch import Tensor

from src.spec import TokenizedSpec
from src.spec.tokenizer import Tokenizer
from src.tasks.terminal import Table
from src.tasks.view import RowView


class TextView(RowView):
    """A text a row."""

    def table(self, predictions: Tensor, targets: Tensor | None, width: int) -> Table:
        """The predicted text, and the right one where it is known."""
        texts = self._texts(predictions) if targets is None else self._texts(predictions, targets)
        rows = [[str(row), *cells] for row, cells in enumerate(texts)]
        return Table("predictions", ["row", "predicted", *(["actual"] if targets is not None else [])], rows)

    def rows(self, predictions: Tensor, targets: Tensor | None) -> list[dict[str, str]]:
        """The true text and the predicted one."""
        assert targets is not None
        return [{"true": right, "predicted": text} for right, text in self._texts(targets, predictions)]

    def _texts(self, *ids: Tensor) -> list[tuple[str, ...]]:
        tokenizer = Tokenizer(self.spec.input_as(TokenizedSpec).tokenizer)
        return list(zip(*([tokenizer.decode(row) for row in each.tolist()] for each in ids), strict=True))


class NextTokenView(TextView):
    """A text whose every token is foretold."""

    def content(self, inputs: Tensor) -> list[dict[str, str]]:
        """Empty columns: the true text is all there is."""
        return [{} for _ in inputs]
