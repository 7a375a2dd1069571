"""The processes of a distributed run: whether there are several, and what each of them has."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _of_all_ranks(own: Any) -> list[Any]:
    """What each rank has, in their order."""
    parts = [own]
    if _distributed():
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, own)
    return parts
