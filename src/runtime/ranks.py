"""Processes of a distributed run: test for several, and collection of what each of them has."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def is_distributed() -> bool:
    """True if several processes train together."""
    return bool(dist.is_available() and dist.is_initialized())


def gather(own: Any) -> list[Any]:
    """Collect what each rank has, in their order."""
    parts = [own]
    if is_distributed():
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, own)
    return parts
