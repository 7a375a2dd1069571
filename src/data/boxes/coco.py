"""Boxes in the form of COCO (Lin et al. 2014, arXiv:1405.0312): one JSON file for all pictures of a part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typing_extensions import override

from src.data.boxes.annotated import Annotated, AnnotatedPictures, coordinates
from src.errors import UserError

USUAL = ("annotations.json", "_annotations.coco.json", "instances.json")


class Coco(AnnotatedPictures):
    """A folder of pictures with a JSON file of `images`, `annotations` (`bbox` is x, y, width, height) and
    `categories`. Parts without a file are split from that of `train`. A picture without annotations shows none of the
    classes. Annotations of crowds, whose boxes are not of one object, are left out and counted.

    Args:
        train: the JSON file, a relative one below `path`; null: annotations.json, or the only .json file there.
        val, test: of these parts; null: pictures of `train`.
        options: as of `AnnotatedPictures`. Pictures lie below `path`, or in its folder `images`, or in the folder that
            the JSON file lies in or is named after, as train2017 is of instances_train2017.json.

    Raises:
        UserError: a file that is missing or cannot be read (line named), an annotation of an image or a category that
            is not there, a box that is not four numbers.
    """

    name = "coco"

    def __init__(
        self,
        *,
        path: str,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        **options: Any,  # noqa: ANN401 (options of the base)
    ) -> None:
        super().__init__(path=path, **options)
        self.files = {"train": train, "val": val, "test": test}

    @override
    def annotated(self) -> dict[str, list[Annotated]]:
        files = {split: self.path / name for split, name in self.files.items() if name is not None}
        if not files:
            return {"all": self._read(self._default())}
        if "train" not in files:
            raise UserError(f"data.train: which file is it beside data.{next(iter(files))}?")
        splits = {split: self._read(file) for split, file in files.items()}
        return splits if len(splits) > 1 else {"all": splits["train"]}

    def _default(self) -> Path:
        found = sorted(self.path.glob("*.json"))
        usual = [file for file in found if file.name in USUAL] or found
        if len(usual) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise UserError(f"data.train: which JSON file has the annotations? {self.path} has {names}")
        return usual[0]

    def _read(self, file: Path) -> list[Annotated]:
        content = read_json(file)
        names = {one["id"]: str(one["name"]) for one in _listed(content, "categories", ("id", "name"), file)}
        folders = [self.path, self.path / "images", file.parent, self.path / file.stem.removeprefix("instances_")]
        pictures: dict[Any, Annotated] = {}
        for image in _listed(content, "images", ("id", "file_name"), file):
            if image["id"] in pictures:
                raise UserError(f"data.path: {file}: two images have the id {image['id']}")
            places = [folder / str(image["file_name"]) for folder in folders]
            pictures[image["id"]] = Annotated(next((place for place in places if place.is_file()), places[0]))
        for number, one in enumerate(_listed(content, "annotations", ("image_id", "category_id", "bbox"), file)):
            place = f"data.path: {file}, annotation {one.get('id', number)}"
            if one["image_id"] not in pictures:
                raise UserError(f"{place}: there is no image with the id {one['image_id']}")
            if one["category_id"] not in names:
                known = ", ".join(map(str, sorted(names, key=str)))
                raise UserError(f"{place}: there is no category with the id {one['category_id']} (known: {known})")
            if one.get("iscrowd"):
                self.counted["of crowds, left out"] += 1
                continue
            if not isinstance(one["bbox"], list) or len(one["bbox"]) != 4:
                raise UserError(f"{place}: bbox is {one['bbox']!r}, not x, y, width and height")
            x, y, width, height = coordinates(one["bbox"], place)
            picture = pictures[one["image_id"]]
            picture.boxes.append((x, y, x + width, y + height))
            picture.classes.append(names[one["category_id"]])
        return list(pictures.values())


def read_json(file: Path) -> dict[str, Any]:
    """An object of a JSON file.

    Raises:
        UserError: it is missing, or no JSON (line named), or no object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"data.path: {file} cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise UserError(f"data.path: {file} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise UserError(f"data.path: {file}, line {error.lineno}: no JSON ({error.msg})") from None
    if not isinstance(content, dict):
        raise UserError(f"data.path: {file} is no JSON object with images, annotations and categories")
    return content


def _listed(content: dict[str, Any], key: str, needed: tuple[str, ...], file: Path) -> list[dict[str, Any]]:
    """The entries of a list, each with what is needed."""
    entries = content.get(key)
    if not isinstance(entries, list):
        raise UserError(f"data.path: {file} has no list {key}")
    for number, entry in enumerate(entries):
        missing = [name for name in needed if not isinstance(entry, dict) or name not in entry]
        if missing:
            raise UserError(f"data.path: {file}: entry {number} of {key} has no {missing[0]}")
    return entries
