"""Rows that a program hands over, read as files are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from src.data.core.inputs import Unseen
from src.data.tables.inputs import Arrays, Table
from src.data.text.inputs import Texts
from src.spec import DataSpec, ImageSpec, TableSpec, TokenizedSpec


def handed(spec: DataSpec, rows: Any, folder: Path) -> Unseen:
    """Rows that a program hands over, read by what reads files, so that they mean the same.

    Args:
        rows: a table's as a DataFrame with its columns; texts as a DataFrame with a column `text`, or a list; else an
            array (N, ...) of raw values.
        folder: for a file in between, to stay until the rows are read.
    """
    if isinstance(spec.input, TokenizedSpec):
        return Texts(spec, texts=[str(text) for text in (rows["text"] if hasattr(rows, "columns") else rows)])
    if isinstance(spec.input, TableSpec) and hasattr(rows, "to_csv"):
        rows.to_csv(folder / "rows.csv", index=False)
        return Table(spec, path=folder / "rows.csv", reading={"separator": ",", "header": True})
    values = np.asarray(rows)
    if isinstance(spec.input, ImageSpec) and (values == np.clip(np.rint(values), 0, 255)).all():
        values = values.astype(np.uint8)  # as pictures in arrays are
    np.savez(folder / "rows.npz", inputs=values)
    return Arrays(spec, path=folder / "rows.npz", inputs="inputs")
