"""Tiny pictures with boxes."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from tests.scratch import Tiny, at, scratch


def box_folder() -> str:
    """Pictures of bright squares on black, annotated as Pascal VOC and as COCO have it."""
    folder = scratch() / "boxes"
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for row in range(10):
        pixels = np.zeros((30, 40, 3), np.uint8)
        x, y, label = 2 + row, 3 + row, ("small", "large")[row % 2]
        side = 8 + 8 * (row % 2)
        pixels[y : y + side, x : x + side] = 255
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{row}.png")
        box = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + side}</xmax><ymax>{y + side}</ymax>"
        text = f"<annotation><object><name>{label}</name><bndbox>{box}</bndbox></object></annotation>"
        (folder / "Annotations" / f"{row}.xml").write_text(text)
        images.append({"id": row, "file_name": f"JPEGImages/{row}.png"})
        annotations.append({"id": row, "image_id": row, "category_id": row % 2, "bbox": [x, y, side, side]})
    categories = [{"id": 0, "name": "small"}, {"id": 1, "name": "large"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return str(folder)


SCENES = ["data.scenes=60", "data.size=40", "data.most=3"]
DATASETS = {"voc": at(box_folder), "coco": at(box_folder), "scenes": Tiny(lambda: SCENES)}
