"""What is found behind an error."""

from __future__ import annotations

import signal

import pytest

from src.errors import Interrupted, chain, stop_behind


def test_errors_that_lead_back_to_themselves_come_once() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__context__ = second, first
    assert list(chain(first)) == [first, second]
    assert stop_behind(first) is None


@pytest.mark.parametrize(
    ("stop", "signum"), [(Interrupted(signal.SIGTERM), signal.SIGTERM), (KeyboardInterrupt(), signal.SIGINT)]
)
def test_a_signal_is_found_behind_what_a_library_raised_on_its_way_out(stop: BaseException, signum: int) -> None:
    try:
        try:
            raise stop
        finally:
            raise AttributeError("half of an object")
    except AttributeError as error:
        found = stop_behind(error)
    assert found is not None and found.signum == signum
