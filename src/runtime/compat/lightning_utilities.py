"""Optional packages hidden from Lightning and torchmetrics while these are imported, so that start-up is short.

Tested with lightning-utilities >=0.11.8,<0.16 and torchmetrics >=1.8,<1.10. Where a member is gone nothing is hidden,
and start-up takes as long as the libraries' own imports do.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lightning_utilities.core import imports

TESTED = ">=0.11.8,<0.16"  # of lightning-utilities
# which use torchvision, and transformers
OPTIONAL_PARTS = re.compile(r"torchmetrics(\.functional)?\.(detection|image|text)\b")


def missing() -> str | None:
    """The member that this version lacks, by its name."""
    for owner, name in ((imports.RequirementCache, "_check_available"), (imports, "package_available")):
        if not hasattr(owner, name):
            return name
    return None


@contextmanager
def hidden(packages: Sequence[str]) -> Iterator[None]:
    """Hide packages: while it holds, Lightning and torchmetrics take them for missing.

    Both ask `RequirementCache` what is there; afterwards it tells the truth again. The parts of torchmetrics that use
    these packages are forgotten, so that whoever imports them gets them whole, and plotting imports matplotlib when it
    is used.
    """
    if missing():
        yield
        return
    denied: list[Any] = []
    cache_class: Any = imports.RequirementCache
    module: Any = imports
    check, available = cache_class._check_available, module.package_available

    def answer(cache: Any) -> None:
        name = re.split(r"\W", cache.requirement or cache.module)[0]
        if name in packages and not hasattr(cache, "available"):
            cache.available, cache.message = False, f"{name} is left out to start faster"
            denied.append(cache)
        check(cache)

    cache_class._check_available = answer
    module.package_available = lambda name: name not in packages and available(name)
    try:
        yield
    finally:
        cache_class._check_available, module.package_available = check, available
        for cache in denied:
            del cache.available
        for name in [name for name in sys.modules if OPTIONAL_PARTS.match(name)]:
            del sys.modules[name]
        plot: Any = sys.modules.get("torchmetrics.utilities.plot")
        if plot is not None and not hasattr(plot, "plt"):
            plot.matplotlib, plot.plt = map(imports.lazy_import, ("matplotlib", "matplotlib.pyplot"))
