"""SIGINT and SIGTERM as exceptions: at once, or where the work under way allows it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from src.errors import Interrupted

STOP = (signal.SIGINT, signal.SIGTERM)
ECHO_SECONDS = 3.0


class Signals:
    """SIGINT and SIGTERM as `Interrupted`, at once or, while they are deferred, where `check` is called next.

    A second signal never waits, but for the echo of a SIGTERM, which clusters send to a job and to each process of it.
    Use as a context manager in the main thread; elsewhere it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._deferred, self._note = False, ""
        self._since = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {signum: signal.getsignal(signum) for signum in STOP}
            self.install()
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def install(self) -> None:
        """Install the handlers (again: Lightning replaces SIGTERM's when training starts)."""
        if threading.current_thread() is threading.main_thread():
            for signum in STOP:
                signal.signal(signum, self._handle)

    def defer(self, note: str = "") -> None:
        """Let a first signal wait for the next `check`.

        Args:
            note: what a person who presses Ctrl-C is told.
        """
        self._deferred, self._note = True, note

    def resume(self) -> None:
        """Let signals raise at once again; for one that waits call `check`."""
        self._deferred = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Defer signals over a block; call `check` behind it."""
        self.defer()
        try:
            yield
        finally:
            self.resume()

    def check(self) -> None:
        """Raise Interrupted where a signal waits."""
        if self.received:
            raise Interrupted(self.received)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        first = self.received is None
        if first:
            self._since = time.monotonic()
        elif signum == signal.SIGTERM == self.received and time.monotonic() - self._since < ECHO_SECONDS:
            return
        self.received = self.received or signum
        if not (first and self._deferred):
            raise Interrupted(self.received)
        if self._note and signum == signal.SIGINT and sys.stderr.isatty():
            print(f"\n{self._note}", file=sys.stderr)


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """SIGTERM as an exception, from composition on: Hydra and Lightning would end with code 0."""
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Hold signals back over a fork: a new process has this one's handlers until it calls `accept` or `unblock`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Let signals through that were held back when this process was forked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)


def accept() -> None:
    """Raise Interrupted at a signal, and KeyboardInterrupt at a Ctrl-C, whatever this process was forked from does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _raise)
    unblock()


def _raise(signum: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(signum)
