"""Early stopping where validation no longer improves, and stopping where a signal asks for it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from typing_extensions import override

from src.errors import Interrupted, UserError

ECHO_SECONDS = 3.0


class EarlyStopping(pl.callbacks.EarlyStopping):
    """Lightning's early stopping, whose decision is kept over a resume.

    Args:
        monitor, mode: the watched metric and its good direction; the task's by default, filled in by the caller.
        patience: validations without improvement before training stops; null is never.
        min_delta: what counts as an improvement.
    """

    def __init__(self, *, monitor: str, mode: str, patience: int | None = None, min_delta: float = 0.0) -> None:
        if patience is not None and patience < 0:
            raise UserError(f"early_stopping.patience={patience}: epochs from 0, or null for never")
        rules: dict[str, Any] = {"patience": patience, "min_delta": min_delta}  # null: no run uses this callback
        super().__init__(monitor=monitor, mode=mode, **rules, check_finite=False)

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state | {"patience": self.patience})  # a resumed run may have more of it

    @override
    def on_train_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        # Lightning saves stopped_epoch and forgets to act on it: a resumed run would train one epoch more
        if self.stopped_epoch and self.wait_count >= self.patience:
            trainer.should_stop = True


class Signals:
    """SIGINT and SIGTERM as `Interrupted`, at once or, inside `deferred`, at the end of the step under way.

    A second signal never waits, but for the echo of a SIGTERM, which clusters send to a job and to each process of it.
    Use as a context manager in the main thread; elsewhere it does nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False
        self._since = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
            self.install()
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}

    def install(self) -> None:
        """Install the handlers (again: Lightning replaces SIGTERM's when training starts)."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, self._handle)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let a first signal wait for the next `check`."""
        self.deferred = True
        try:
            yield
        finally:
            self.deferred = False

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
        if not (first and self.deferred):
            raise Interrupted(self.received)
        if signum == signal.SIGINT and sys.stderr.isatty():
            print("\nstopping after this step; Ctrl-C again stops at once", file=sys.stderr)


class StopOnSignal(pl.Callback):
    """Callback that lets a signal during training wait for the end of the step, where `Checkpoint` saves and stops."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals

    @override
    def on_train_start(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self.signals.install()
        self.signals.deferred = True

    @override
    def on_validation_batch_end(self, trainer: pl.Trainer, *args: object, **kwargs: object) -> None:
        # a validation can be long and cannot be resumed in its middle: the last checkpoint stands
        self.signals.check()

    @override
    def on_train_end(self, trainer: pl.Trainer, model: pl.LightningModule) -> None:
        self.signals.deferred = False
        self.signals.check()

    @override
    def on_exception(self, trainer: pl.Trainer, model: pl.LightningModule, exception: BaseException) -> None:
        self.signals.deferred = False
