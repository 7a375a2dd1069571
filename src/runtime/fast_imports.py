"""Importing Lightning in half the time: without what only its rarer parts need, and without collecting garbage."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LEFT_OUT = ("torchvision", "scipy", "matplotlib", "transformers")


@contextmanager
def quickly() -> Iterator[None]:
    """Speed up the imports of a command: what they make stays until it ends, so it is never searched for garbage.

    Nothing happens where Lightning is there already: a sweep's next job would have the last one's garbage kept.
    """
    if "pytorch_lightning" in sys.modules:
        yield
        return
    gc.disable()
    try:
        from src.runtime.compat.lightning_utilities import hidden  # noqa: PLC0415 (--help need not)

        with hidden(LEFT_OUT):
            yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)  # or the interpreter takes a second to look through everything once more
