"""Writers of the runs that a test starts in its own process."""

from __future__ import annotations

import pytest

from src import tracking
from src.tracking.writer import prefork


@pytest.fixture(scope="session")
def warm_writers() -> None:
    """Writers are forked from a process that has imported MLflow, as those of a sweep's jobs are."""
    tracking.keep_warm()


@pytest.fixture
def cold_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers start from nothing, as those of single runs do, whatever other tests have asked for."""
    monkeypatch.setattr(prefork, "_requests", None)
