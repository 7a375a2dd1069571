"""Importing Lightning in half the time: without what only its rarer parts need, and without collecting garbage."""

from __future__ import annotations

import atexit
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LEFT_OUT = ("torchvision", "scipy", "matplotlib")
RARER_PARTS = re.compile(r"torchmetrics(\.functional)?\.(detection|image)\b")


@contextmanager
def quickly() -> Iterator[None]:
    """For the imports of a command: what they make stays until it ends, so it is never searched for garbage.

    Nothing happens where Lightning is there already: a sweep's next job would have the last one's garbage kept.
    """
    if "pytorch_lightning" in sys.modules:
        yield
        return
    gc.disable()
    try:
        with _fewer():
            yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)  # or the interpreter takes a second to look through everything once more


@contextmanager
def _fewer() -> Iterator[None]:
    """While it holds, Lightning and torchmetrics take torchvision, scipy and matplotlib for missing.

    Both ask `RequirementCache` what is there; afterwards it tells the truth again. The parts of torchmetrics that use
    torchvision are forgotten, so that whoever imports them gets them whole, and plotting imports matplotlib when it is
    used.
    """
    from lightning_utilities.core import imports

    denied: list[imports.RequirementCache] = []
    check, available = imports.RequirementCache._check_available, imports.package_available

    def answer(cache: imports.RequirementCache) -> None:
        name = re.match(r"\w*", cache.requirement or cache.module)[0]
        if name in LEFT_OUT and not hasattr(cache, "available"):
            cache.available, cache.message = False, f"{name} is left out to start faster"
            denied.append(cache)
        check(cache)

    imports.RequirementCache._check_available = answer
    imports.package_available = lambda name: name not in LEFT_OUT and available(name)
    try:
        yield
    finally:
        imports.RequirementCache._check_available, imports.package_available = check, available
        for cache in denied:
            del cache.available
        for name in [name for name in sys.modules if RARER_PARTS.match(name)]:
            del sys.modules[name]
        plot = sys.modules.get("torchmetrics.utilities.plot")
        if plot is not None and not hasattr(plot, "plt"):
            plot.matplotlib, plot.plt = map(imports.lazy_import, ("matplotlib", "matplotlib.pyplot"))
