"""Boxes in the format of COCO's results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from src.errors import UserError
from src.runtime import output as outputs
from src.tasks.detection.view import Found


class CocoResults:
    """JSON file of `images`, `categories` and `annotations` with a score each, as `data=coco` reads it; there only
    when it is whole. Otherwise like `Output` of src/inference/output.py.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path.expanduser().absolute()
        outputs.check_folder(self.path, shown=path)
        outputs.check(self.path, force, shown=f"output={path}")
        self.rows = 0
        self.head: dict[str, list[Any]] = {}
        self.class_names: Sequence[str] = ()
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def __enter__(self) -> CocoResults:
        return self

    def write(self, columns: Mapping[str, list[Any]]) -> None:
        """Append boxes, a row each, and their images, also those without a box."""
        assert isinstance(columns, Found)  # what detections are
        numbers = {name: number for number, name in enumerate(self.class_names)}
        places = {}
        for name, height, width in columns.images:
            places[name] = len(self._images) + 1
            self._images.append({"id": places[name], "file_name": name, "height": height, "width": width})
        for file, label, score, x1, y1, x2, y2 in zip(*columns.values(), strict=True):
            self.rows += 1
            box = [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]
            self._annotations.append(
                {"id": self.rows, "image_id": places[file], "category_id": numbers[label], "bbox": box}
                | {"area": round(box[2] * box[3], 2), "iscrowd": 0, "score": round(score, 6)}
            )
        more = 10 - len(next(iter(self.head.values()), ()))
        self.head = {name: [*self.head.get(name, ()), *values[: max(0, more)]] for name, values in columns.items()}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            return
        categories = [{"id": number, "name": name} for number, name in enumerate(self.class_names)]
        content = {"images": self._images, "categories": categories, "annotations": self._annotations}
        try:
            outputs.write(self.path, json.dumps(content))
        except OSError as problem:
            raise UserError(f"output={self.path} cannot be written ({problem.strerror or problem})") from None
