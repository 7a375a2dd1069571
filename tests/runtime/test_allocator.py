"""Freed memory is used again: pages are counted, not seconds."""

from __future__ import annotations

import sys

import pytest

from tests import process
from tests.conftest import ROOT

FAULTS = """
import resource, torch
from src.runtime import allocator
torch.set_num_threads(1)
x = torch.zeros(20_000_000, dtype=torch.uint8)
for kept in (False, True):
    if kept:
        allocator.keep_freed()
    for step in range(6):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        (x.float() - 1) * 2
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU allocator")
def test_a_step_uses_the_memory_of_the_step_before() -> None:
    output, errors = process.program(FAULTS, cwd=ROOT).communicate(timeout=60)
    as_it_is, kept = map(int, output.split())
    assert kept < 10 < as_it_is, errors


def test_the_command_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import src.train as train
    from src.runtime import allocator

    called = []
    monkeypatch.setattr(allocator, "keep_freed", lambda: called.append(True) or sys.exit(0))
    monkeypatch.setattr(sys, "argv", ["train", "tracking=none"])
    with pytest.raises(SystemExit):
        train.main()
    assert called
