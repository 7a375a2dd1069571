"""Boxes in the form of Pascal VOC (Everingham et al. 2010): one XML file a picture."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from typing_extensions import override

from src.data.boxes.annotated import Annotated, AnnotatedPictures, coordinates
from src.data.core.class_folders import files_below
from src.data.images.decode import FORMATS
from src.errors import UserError

LISTS = {"train": ("train", "trainval"), "val": ("val",), "test": ("test",)}
SIDES = ("xmin", "ymin", "xmax", "ymax")


class Voc(AnnotatedPictures):
    """A folder of `Annotations/*.xml`, `JPEGImages/` and, where there are given parts,
    `ImageSets/Main/{train,val,test}.txt` of one name a line; without `train.txt`, `trainval.txt` serves. Parts that
    have no list are split from `train`; without lists all pictures that are annotated are split.

    Coordinates are taken as they are. Objects marked as difficult count as any other. Of pictures without a list, those
    without an annotation, and annotations without a picture, are left out and counted.

    Raises:
        UserError: a file that is missing or cannot be read (line named), an object without a class or a box, a
            coordinate that is no number.
    """

    name = "voc"

    @override
    def annotated(self) -> dict[str, list[Annotated]]:
        for folder in ("Annotations", "JPEGImages"):
            if not (self.path / folder).is_dir():
                raise UserError(f"data.path: {self.path} has no folder {folder}, as Pascal VOC has it")
        files = files_below(self.path / "JPEGImages", FORMATS)
        self._pictures = {file.stem: file for file in files}
        if len(self._pictures) < len(files):
            twice = next(file for file in files if self._pictures[file.stem] != file)
            raise UserError(f"data.path: {twice} and {self._pictures[twice.stem]} have the same name")
        lists = self._lists()
        if not lists:
            return {"all": self._all()}
        return {split: [self._read(name, place) for name, place in names] for split, names in lists.items()}

    def _lists(self) -> dict[str, list[tuple[str, str]]]:
        """Names of the pictures of each split, each with the file and line that lists it."""
        lists, seen = {}, dict[str, str]()
        for split, choices in LISTS.items():
            path = next((p for n in choices if (p := self.path / "ImageSets" / "Main" / f"{n}.txt").is_file()), None)
            if path is None:
                continue
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            names = [(line.split()[0], f"{path}, line {i}") for i, line in enumerate(lines, start=1) if line.strip()]
            for name, place in names:
                if seen.setdefault(name, place) != place:
                    raise UserError(f"data.path: {place}: {name} stands in {seen[name]} too")
            lists[split] = names
        if lists and "train" not in lists:
            raise UserError(f"data.path: {self.path}/ImageSets/Main has no train.txt beside {', '.join(lists)}")
        return lists

    def _all(self) -> list[Annotated]:
        annotations = {file.stem: file for file in files_below(self.path / "Annotations", (".xml",))}
        both = [name for name in annotations if name in self._pictures]
        if not both:
            raise UserError(f"data.path: {self.path} has no picture in JPEGImages with its .xml in Annotations")
        for what, count in (
            ("pictures without an annotation", len(self._pictures) - len(both)),
            ("annotations without a picture", len(annotations) - len(both)),
        ):
            if count:
                print(f"{self.path.name}: {what}, left out: {count}", file=sys.stderr)
        return [read(annotations[name], self._pictures[name]) for name in both]

    def _read(self, name: str, place: str) -> Annotated:
        annotation = self.path / "Annotations" / f"{name}.xml"
        if not annotation.is_file():
            raise UserError(f"data.path: {place}: there is no {annotation}")
        # where there is no picture, reading its size says so
        return read(annotation, self._pictures.get(name, self.path / "JPEGImages" / f"{name}.jpg"))


def read(annotation: Path, picture: Path) -> Annotated:
    """Read the boxes and classes of a picture from its annotation.

    Raises:
        UserError: see Voc.
    """
    try:
        root = ElementTree.parse(annotation).getroot()
    except ElementTree.ParseError as error:
        reason = str(error).partition(":")[0]
        raise UserError(f"data.path: {annotation}, line {error.position[0]}: no XML ({reason})") from None
    except OSError as error:
        raise UserError(f"data.path: {annotation} cannot be read ({error.strerror or error})") from None
    found = Annotated(picture)
    for number, thing in enumerate(root.iter("object"), start=1):
        place = f"data.path: {annotation}, object {number}"
        name, box = (thing.findtext("name") or "").strip(), thing.find("bndbox")
        if not name:
            raise UserError(f"{place} has no <name>")
        if box is None:
            raise UserError(f"{place} has no <bndbox>")
        values = [box.findtext(side) for side in SIDES]
        if None in values:
            raise UserError(f"{place} has no <{SIDES[values.index(None)]}>")
        found.boxes.append(coordinates(values, place))
        found.classes.append(name)
    return found
