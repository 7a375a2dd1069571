"""What a sweep says of itself: points of several jobs, and its own run in MLflow with tables and figures."""

from __future__ import annotations

import pytest

from src.sweeps.board import results
from src.sweeps.ledger import Frozen, Ledger
from src.sweeps.points import best_first, points_of


def made(tmp_path, *jobs: tuple[str, int, float | None], mode: str = "max") -> Ledger:
    """A ledger of jobs with overrides, point and objective; those without one have failed."""
    frozen = [Frozen(text.split(), "a: 1", text, text, point) for text, point, _ in jobs]
    ledger = Ledger.create(tmp_path, "key", frozen, ["python", "-m", "src.train"], 1)
    for job, (_, _, value) in zip(ledger.jobs, jobs, strict=True):
        known = {"status": "failed"} if value is None else {"status": "finished", "objective": value}
        job.note(**known, mode=mode, metric="val/f1", seconds=10.0)
    return ledger


# points --------------------------------------------------------------------------------------------------------------


def test_the_objective_of_a_point_is_the_mean_of_its_jobs_and_none_while_one_is_missing(tmp_path) -> None:
    jobs = [("lr=1 fold=0", 0, 0.1), ("lr=1 fold=1", 0, 0.3), ("lr=10 fold=0", 1, 0.9), ("lr=10 fold=1", 1, None)]
    ledger = made(tmp_path, *jobs, ("lr=2 fold=0", 2, 0.3), ("lr=2 fold=1", 2, 0.5))
    one, missing, other = points_of(ledger.jobs)
    assert (one.name, missing.name, other.name) == ("lr=1", "lr=10", "lr=2")
    assert (one.objective, missing.objective) == (pytest.approx(0.2), None)
    assert one.deviation == pytest.approx(0.1414, abs=1e-4) and missing.deviation is None
    assert [point.number for point in best_first([missing, one, other])] == [2, 0, 1]
    for job in ledger.jobs:
        job.note(mode="min")
    assert [point.number for point in best_first([missing, one, other])] == [0, 2, 1]
    table = results(ledger)
    assert [list(column.cells) for column in table.columns] == [
        ["lr=1", "lr=2", "lr=10"],
        ["2/2", "2/2", "1/2"],
        ["0.2 ± 0.14 (2)", "0.4 ± 0.14 (2)", "0.9 (1)"],
        ["20 s", "20 s", "20 s"],
    ]
