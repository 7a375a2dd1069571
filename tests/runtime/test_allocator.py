"""Freed memory is used again: pages are counted, not seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

FAULTS = """
import resource, sys, torch
from src.runtime import allocator
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    allocator.keep_freed()
x = torch.zeros(20_000_000, dtype=torch.uint8)
for step in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    (x.float() - 1) * 2
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU allocator")
def test_a_step_uses_the_memory_of_the_step_before() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < 10 < faults("as it is")


def test_the_command_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import src.train as train
    from src.runtime import allocator

    called = []
    monkeypatch.setattr(allocator, "keep_freed", lambda: called.append(True) or sys.exit(0))
    monkeypatch.setattr(sys, "argv", ["train", "tracking=none"])
    with pytest.raises(SystemExit):
        train.main()
    assert called
