"""Tiny tables."""

from __future__ import annotations

import numpy as np

from tests.scratch import at, scratch


def mixed_table() -> str:
    """Numbers, categories and dates, some of them missing, and two classes."""
    path = scratch() / "mixed.csv"
    rows = [
        f"{'' if i % 7 == 6 else i % 11},{('red', 'green', 'blue', '?')[i % 4]},2024-01-{1 + i % 28:02d},{i % 2}"
        for i in range(90)
    ]
    path.write_text("\n".join(["size,colour,day,bought", *rows]))
    return str(path)


def arrays() -> str:
    path = scratch() / "arrays.npz"
    draw = np.random.default_rng(0)
    np.savez(path, x=draw.normal(size=(60, 4)), y=np.arange(60) % 3)
    return str(path)


DATASETS = {"csv": at(mixed_table, "data.target=bought"), "npz": at(arrays)}
