"""Private members of torch, each with a public way for versions that lack it. Tested with torch >=2.11,<2.15."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

TESTED = ">=2.11,<2.15"


def is_compiled(module: nn.Module) -> bool:
    """True if `module.compile()` was called, and where this torch does not say: outputs are then copied in vain."""
    return getattr(module, "_compiled_call_impl", True) is not None


def lerp_(tensors: Sequence[Tensor], ends: Sequence[Tensor], weight: float) -> None:
    """Move each tensor towards its end in place, t + weight (end - t): all in one call where torch has one."""
    if hasattr(torch, "_foreach_lerp_"):
        torch._foreach_lerp_(list(tensors), list(ends), weight)
        return
    for tensor, end in zip(tensors, ends, strict=True):
        tensor.lerp_(end, weight)


def copy_(tensors: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Overwrite each tensor with its source: all in one call where torch has one."""
    if hasattr(torch, "_foreach_copy_"):
        torch._foreach_copy_(list(tensors), list(sources))
        return
    for tensor, source in zip(tensors, sources, strict=True):
        tensor.copy_(source)


def worker_stop(iterator: Any) -> Callable[[], None]:
    """The function that ends the workers of a DataLoader's iterator.

    Where torch has none it does nothing: the workers end when the iterator is collected.
    """
    return getattr(iterator, "_shutdown_workers", _nothing)


def _nothing() -> None:
    pass
