"""Jobs of a study of how much data is enough, and its learning curves on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typing_extensions import override

from src.runtime.console import say
from src.sweeps.data_requirements.curves import cells, curves_of, heading, sentence
from src.sweeps.jobs.run import PendingJobs


class StudyJobs(PendingJobs):
    """Jobs of a study, in the ledger's order; at its end the curves."""

    @override
    def conclude(self, console: Console) -> None:
        """Print a table of each learning curve, and a sentence about what more data would bring."""
        for curve in (curve for curve in curves_of(self.ledger) if curve.values):
            title = " of ".join(filter(None, ("data requirements", curve.name)))
            table = Table(title=escape(title), title_justify="left", title_style="italic")
            for name in heading(curve):
                table.add_column(escape(name), justify="right")
            for row in cells(curve):
                table.add_row(*map(escape, row))
            console.print(table)
            say(console, sentence(curve))
