"""Images with objects: a box and a class for each, from annotations in any form that a subclass reads."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from torch import Tensor
from typing_extensions import override

from src.data.boxes.augment import BoxAugment
from src.data.core.module import DataModule
from src.data.core.splits import Split, tensor_of
from src.data.images.decode import ImageFiles
from src.data.images.letterbox import Letterboxed, dimensions, scales
from src.errors import UserError
from src.runtime.compat.lightning import own_rank
from src.spec import Boxes as BoxTarget
from src.spec import DataSpec, ImageSpec

_SHARE = 0.25  # of the free memory that decoded pictures may take
_TOLD = 5  # pictures left out that are named to the user


@dataclass
class Annotated:
    """A picture, and what is in it: boxes `x1 y1 x2 y2` in its own pixels, and the name of each one's class."""

    file: Path
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)


class Boxes(DataModule):
    """Base of all data for detection. `load` gives parts of `input` (N, C, H, W), `boxes` (N, M, 4) in pixels of the
    input, padded with zeros, `labels` (N, M), padded with -1, and `size` (N, 2), the pictures' own height and width.
    """

    inputs = (ImageSpec,)
    tasks = ("detection",)
    unlabelled = ()

    def _measure_target(self) -> BoxTarget:
        boxes, labels = (tensor_of(self.splits["train"], name) for name in ("boxes", "labels"))
        counts = torch.bincount(labels[labels >= 0], minlength=len(self.class_names)).tolist()
        means = [
            boxes[labels == label].double().mean(0).tolist() if count else [0.0] * 4
            for label, count in enumerate(counts)
        ]
        return BoxTarget(self.class_names, tuple(counts), tuple(map(tuple, means)), boxes.shape[1])


class AnnotatedPictures(Boxes):
    """Pictures in files with annotations; a subclass defines `annotated()`.

    Pictures are turned upright, scaled to fit into `size` and put into its upper left corner, the rest is grey.

    A box that reaches beyond its picture is cut off at the edge. One that lies outside of it, one without an area, and
    one of a class that is not among `classes` is left out. All of these are counted, told, and in the description.

    Args:
        path: the folder; a relative one is taken from the working directory.
        size: height and width in pixels, or one number for both.
        channels: 1 (grey) or 3 (colour).
        classes: those that count; null: all that occur.
        in_memory: decode everything before training, as uint8; null: where that takes at most a quarter of the free
            memory. Otherwise `num_workers` processes decode batch by batch.
        on_bad: `skip` leaves out pictures that are missing or cannot be decoded, and lists them in the description;
            `error` stops at the first one.

    Attributes:
        counted: what was changed or left out.
        left_out: what `skip` left out, by name below `path` with the reason.
    """

    def __init__(
        self,
        *,
        path: str,
        size: int | list[int] = 320,
        channels: Literal[1, 3] = 3,
        classes: list[str] | None = None,
        in_memory: bool | None = None,
        on_bad: Literal["error", "skip"] = "error",
        batch_size: int = 16,
        eval_batch_size: int = 32,
        augment: BoxAugment | None = None,
        **options: Any,  # noqa: ANN401 (options of the base)
    ) -> None:
        super().__init__(batch_size=batch_size, eval_batch_size=eval_batch_size, augment=augment, **options)
        if channels not in (1, 3):
            raise UserError(f"data.channels={channels}: 1 (grey) or 3 (colour)")
        sides = [size, size] if isinstance(size, int) else list(size)
        if len(sides) != 2 or min(sides) < 8:
            raise UserError(f"data.size={size}: one number from 8 on, or [height, width]")
        if on_bad not in ("error", "skip"):
            raise UserError(f"data.on_bad={on_bad}: error or skip")
        if classes is not None and (not classes or len(set(classes)) < len(classes)):
            raise UserError(f"data.classes={classes}: one or more different names, or null")
        self.path = Path(path).expanduser().absolute()
        self.size = (sides[0], sides[1])
        self.channels: int = channels
        self.wanted, self.in_memory, self.on_bad = classes, in_memory, on_bad
        self.counted: Counter[str] = Counter()
        self.left_out: dict[str, str] = {}

    def annotated(self) -> dict[str, list[Annotated]]:
        """Annotated pictures of each split, or of `all`."""
        raise NotImplementedError

    @override
    def load(self) -> dict[str, Split]:
        self.source = str(self.path)
        if not self.path.is_dir():
            raise UserError(f"data.path={self.path}: there is no such folder")
        found = self.annotated()
        self.class_names = self._classes(found)
        usable = {name: self._usable(pictures) for name, pictures in found.items()}
        for name, (pictures, _) in usable.items():
            if not pictures:
                raise UserError(f"data.path: {self.path} has no annotated picture for {name}")
        needed = sum(len(pictures) for pictures, _ in usable.values()) * self.channels * self.size[0] * self.size[1]
        keep = needed <= _SHARE * psutil.virtual_memory().available if self.in_memory is None else self.in_memory
        if self.on_device and not keep:
            raise UserError("data.on_device=true keeps rows in memory, these stay in their files: data.in_memory=true")
        kept = {name: self._boxes(*pictures) for name, pictures in usable.items()}
        most = max(1, *(len(labels) for _, rows in kept.values() for labels in rows))
        splits = {name: self._part(name, usable[name], *kept[name], most, keep) for name in found}
        self._tell(splits)
        return splits

    def _classes(self, found: dict[str, list[Annotated]]) -> tuple[str, ...]:
        """Names of the classes: those asked for, else all that occur in any split, in alphabetical order."""
        occur = {name for pictures in found.values() for picture in pictures for name in picture.classes}
        for name in self.wanted or ():
            if name not in occur:
                raise UserError(f"data.classes: no box is of class {name} (known: {', '.join(sorted(occur))})")
        if not occur:
            raise UserError(f"data.path: no picture in {self.path} has a box")
        return tuple(self.wanted or sorted(occur))

    def _usable(self, pictures: list[Annotated]) -> tuple[list[Annotated], Tensor]:
        """Pictures that can be read, and the height and width of each (N, 2)."""
        usable, sizes = [], []
        for picture in pictures:
            try:
                sizes.append(dimensions(picture.file))
            except UserError as error:
                if self.on_bad == "error":
                    raise
                self.left_out[self._name(picture.file)] = str(error)
            else:
                usable.append(picture)
        return usable, torch.tensor(sizes, dtype=torch.int64).view(-1, 2)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix() if file.is_relative_to(self.path) else str(file)

    def _boxes(self, pictures: list[Annotated], sizes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Usable boxes and labels of each picture, in pixels of the input."""
        boxes, labels = [], []
        numbers = {name: number for number, name in enumerate(self.class_names)}
        for picture, (height, width), factors in zip(pictures, sizes.tolist(), scales(sizes, self.size), strict=True):
            given = torch.tensor(picture.boxes, dtype=torch.float32).view(-1, 4)
            label = torch.tensor([numbers.get(name, -1) for name in picture.classes], dtype=torch.int64)
            cut = torch.stack([given[:, 0::2].clamp(0, width), given[:, 1::2].clamp(0, height)], dim=2).flatten(1)
            known = label >= 0
            flat = known & ~(given[:, 2:] > given[:, :2]).all(1)
            outside = known & ~flat & ~(cut[:, 2:] > cut[:, :2]).all(1)
            good = known & ~flat & ~outside
            self.counted.update(
                {
                    "of another class, left out": int((~known).sum()),
                    "without an area, left out": int(flat.sum()),
                    "outside of the picture, left out": int(outside.sum()),
                    "cut off at the picture's edge": int((good & (cut != given).any(1)).sum()),
                }
            )
            boxes.append(cut[good] * factors)
            labels.append(label[good])
        return boxes, labels

    def _part(
        self,
        name: str,
        usable: tuple[list[Annotated], Tensor],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        most: int,
        keep: bool,
    ) -> Split:
        pictures, sizes = usable
        column: Any = Letterboxed([picture.file for picture in pictures], self.path, self.size, self.channels)
        good = list(range(len(pictures)))
        if keep or self.on_bad == "skip":
            column, good = self._decoded(column, name, keep)
        split = {
            "input": column,
            "boxes": torch.zeros(len(pictures), most, 4),
            "labels": torch.full((len(pictures), most), -1),
            "size": sizes,
        }
        for row, (own, label) in enumerate(zip(boxes, labels, strict=True)):
            split["boxes"][row, : len(own)], split["labels"][row, : len(own)] = own, label
        return split if len(good) == len(pictures) else split | {k: split[k][good] for k in ("boxes", "labels", "size")}

    def _decoded(self, column: ImageFiles, name: str, keep: bool) -> tuple[Any, list[int]]:
        """Pictures without the unreadable ones, decoded if they are kept in memory; and the rows that are left."""
        rows = torch.empty(column.shape, dtype=torch.uint8) if keep else None
        broken = column.read(name, rows, skip=self.on_bad == "skip")
        self.left_out |= {column.name(row): reason for row, reason in sorted(broken.items())}
        good = [row for row in range(len(column)) if row not in broken]
        if not good:
            raise UserError(f"data.path: no picture of {name} in {self.path} can be decoded")
        index = torch.tensor(good)
        return (column.subset(index) if rows is None else rows[index] if broken else rows), good

    def _tell(self, splits: dict[str, Split]) -> None:
        """Print a line for each kind of box or picture that was changed or left out."""
        lines = [f"boxes {what}: {count}" for what, count in self.counted.items() if count]
        whole = splits.get("train", splits.get("all", {}))
        lines += [
            f"no box of class {name} to train on"
            for label, name in enumerate(self.class_names)
            if whole and not (tensor_of(whole, "labels") == label).any()
        ]
        if self.left_out:
            names = ", ".join(list(self.left_out)[:_TOLD]) + (", ..." if len(self.left_out) > _TOLD else "")
            lines.append(f"pictures that cannot be used and are left out: {len(self.left_out)} ({names})")
        for line in lines if not own_rank() else ():
            print(f"{self.path.name}: {line}", file=sys.stderr)

    @override
    def describe(self) -> dict[str, Any]:
        boxes = {name: int((tensor_of(split, "labels") >= 0).sum()) for name, split in self.splits.items()}
        counted = {what: count for what, count in self.counted.items() if count}
        more = {"boxes": boxes} | ({"changed": counted} if counted else {})
        return super().describe() | more | ({"left_out": dict(self.left_out)} if self.left_out else {})

    @override
    def whole(self, spec: DataSpec) -> Split:
        self.class_names = spec.class_names
        channels, *size = spec.input_shape
        self.channels, self.size = channels, (size[0], size[1])
        usable = self._usable([picture for pictures in self.annotated().values() for picture in pictures])
        if not usable[0]:
            raise UserError(f"data.path: {self.path} has no annotated picture")
        boxes, labels = self._boxes(*usable)
        split = self._part("all", usable, boxes, labels, max(1, *map(len, labels)), keep=False)
        self._tell({})
        return split


def coordinates(values: Sequence[Any], place: str) -> tuple[float, float, float, float]:
    """Convert four values to numbers.

    Raises:
        UserError: one that is none; `place` says where.
    """
    found = []
    for value in values:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{place}: {value!r} is no finite number")
        found.append(number)
    return found[0], found[1], found[2], found[3]
