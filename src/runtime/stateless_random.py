"""Random numbers as functions of integers (seed, epoch, index), so that order, workers and resuming do not matter."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB

BITS = 24  # as many as a float32 holds exactly


def mix(*values: int, state: int = 0) -> int:
    """A 64-bit seed from any integers (splitmix64 chained); the order counts, and near inputs give unrelated seeds.

    `mix(a, b, c)` equals `mix(c, state=mix(a, b))`, which spares mixing the same beginning again and again.
    """
    for value in values:
        state = ((state ^ (value & _MASK)) + _STEP) & _MASK
        state = ((state ^ (state >> 30)) * _FIRST) & _MASK
        state = ((state ^ (state >> 27)) * _SECOND) & _MASK
        state ^= state >> 31
    return state


def generator(*values: int) -> torch.Generator:
    """A fresh CPU generator seeded from `mix(*values)`."""
    return torch.Generator().manual_seed(mix(*values))


def draws(index: Tensor, key: int, streams: int) -> Tensor:
    """Independent integers in [0, 2**24) for each index (B,) under a 64-bit key: int64 (streams, B).

    Row s of the result depends on nothing but (index, key, s).
    """
    lanes = torch.arange(1, streams + 1, dtype=torch.int64, device=index.device).mul_(_signed(_STEP))
    # int64 products wrap round, which is the arithmetic modulo 2**64 that the hash is defined in
    rows = _scramble(index * _signed(_STEP) + _signed(key))
    hashed = _scramble(rows.unsqueeze(0) + lanes.unsqueeze(1))
    return _shift(hashed, 64 - BITS)


def _scramble(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _signed(_FIRST)
    x = (x ^ _shift(x, 27)) * _signed(_SECOND)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Right shift that fills with zeros; torch's own copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
