"""Your own pictures: one folder a class, decoded once into memory where they fit, else batch by batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
from torch import Tensor
from typing_extensions import override

from src.data.core.class_folders import labelled
from src.data.core.module import DataModule
from src.data.core.splits import Split, column_as, spread, tensor_of
from src.data.images.decode import FORMATS, LONGEST_SIDE, PROBED, ImageFiles, open_image
from src.errors import UserError
from src.runtime.compat.lightning import own_rank
from src.spec import Classes, DataSpec, ImageSpec

_SHARE = 0.25  # of the free memory that decoded pictures may take


_TOLD = 5  # pictures left out that are named to the user


class ImageFolder(DataModule):
    """Pictures in class folders: `path/CLASS/*.jpg`, or `path/{train,val,test}/CLASS/*.jpg`.

    Classes are the folders' names in alphabetical order. Parts that have no folder are split from `train`. Pictures
    are turned upright, scaled to cover `size` (as torchvision's Resize does, with antialiasing) and cropped about the
    centre; a JPEG of twice the size or more is decoded at a fraction of its resolution.

    Args:
        path: the folder; a relative one is taken from the working directory.
        size: height and width in pixels, or one number for both. null: the pictures' own where the 200 that are
            looked at agree, else 224 or their median side, whichever is less.
        channels: 1 (grey) or 3 (colour). null: 1 where those pictures are all grey.
        in_memory: decode everything before training, as uint8. null: where that takes at most a quarter of the free
            memory. Otherwise `num_workers` processes decode batch by batch, mean and standard deviation are those of
            up to 2,000 pictures, and the fingerprint covers the names and sizes of all files and those pictures.
        on_bad: `skip` leaves out the files that cannot be decoded, says which, and lists them in the description.
            They are found before training, so that no batch changes: pictures that are not kept in memory are all
            decoded once more for it. `error` stops at the first one: before training where pictures are kept in
            memory, else where it is met.

    Raises:
        UserError: no such folder, no class folder, a class without pictures, a picture that cannot be decoded.

    Attributes:
        left_out: what `skip` left out, by name below `path` with the reason.
    """

    name = "image_folder"
    ordered = False  # class by class
    inputs = (ImageSpec,)

    def __init__(
        self,
        *,
        path: str,
        size: int | list[int] | None = None,
        channels: int | None = None,
        in_memory: bool | None = None,
        on_bad: Literal["error", "skip"] = "error",
        eval_batch_size: int = 256,
        **options,
    ) -> None:
        super().__init__(eval_batch_size=eval_batch_size, **options)
        if channels not in (None, 1, 3):
            raise UserError(f"data.channels={channels}: 1 (grey), 3 (colour) or null")
        sides = [size, size] if isinstance(size, int) else size
        if sides is not None and (len(sides) != 2 or min(sides) < 1):
            raise UserError(f"data.size={size}: one positive number, or [height, width]")
        if on_bad not in ("error", "skip"):
            raise UserError(f"data.on_bad={on_bad}: error or skip")
        self.path = Path(path).expanduser().absolute()
        self.on_bad = on_bad
        self.left_out: dict[str, str] = {}
        self.size = sides
        self.channels = channels
        self.in_memory = in_memory

    @override
    def load(self) -> dict[str, Split]:
        self.source = str(self.path)
        found, self.class_names = labelled(self.path, FORMATS, "picture")
        size, channels = self._measures([path for files, _ in found.values() for path in files])
        splits: dict[str, Split] = {
            split: {"input": ImageFiles(files, self.path, size, channels), "target": torch.tensor(labels)}
            for split, (files, labels) in found.items()
        }
        needed = sum(len(split["target"]) for split in splits.values()) * channels * size[0] * size[1]
        fits = needed <= _SHARE * psutil.virtual_memory().available
        keep = fits if self.in_memory is None else self.in_memory
        if self.on_device and not keep:
            raise UserError("data.on_device=true keeps rows in memory, these stay in their files: data.in_memory=true")
        self._files_of = {name: column_as(split, "input", ImageFiles) for name, split in splits.items()}
        splits = {name: self._read(split, name, keep) for name, split in splits.items()}
        self._tell(sum(len(files) for files, _ in found.values()))
        return splits

    def _split(self, splits: dict[str, Split]) -> dict[str, Split]:
        whole = next(name for name in ("all", "train") if name in splits)
        splits = super()._split(splits)
        self._places = {
            name: (self._files_of.get(name, self._files_of[whole]), tensor_of(split, "file"))
            for name, split in splits.items()
        }
        for split in splits.values():
            del split["file"]
        return splits

    def _place(self, split: Split, rows: Tensor) -> str:
        return f"data.path: {self.path}"

    def row_name(self, split: str, row: int) -> str:
        """Split and file name of a row."""
        files, rows = self._places[split]
        return f"{split} {files.name(int(rows[row]))}"

    def _read(self, split: Split, name: str, keep: bool) -> Split:
        """Decode a split that is kept in memory, and leave out what cannot be decoded; `file` counts its
        pictures before that."""
        files, labels, skip = column_as(split, "input", ImageFiles), tensor_of(split, "target"), self.on_bad == "skip"
        if not keep and not skip:
            return split | {"file": torch.arange(len(files))}
        rows = torch.empty(files.shape, dtype=torch.uint8) if keep else None
        broken = files.read(name, rows, skip=skip)
        self.left_out |= {files.name(i): reason for i, reason in sorted(broken.items())}
        good = torch.tensor([i for i in range(len(files)) if i not in broken], dtype=torch.int64)
        for label in labels.unique().tolist():
            if label not in labels[good]:
                raise UserError(f"data.path: no picture of class {self.class_names[label]} in {name} can be decoded")
        if rows is None:
            return {"input": files.subset(good), "target": labels[good], "file": good}
        return {"input": rows[good] if broken else rows, "target": labels[good], "file": good}

    def _tell(self, count: int) -> None:
        """Print a line that names the pictures left out."""
        if self.left_out and not own_rank():
            names = ", ".join(list(self.left_out)[:_TOLD]) + (", ..." if len(self.left_out) > _TOLD else "")
            text = f"{self.path.name}: {len(self.left_out)} of {count} pictures cannot be decoded and are left out"
            print(f"{text}: {names}", file=sys.stderr)

    @override
    def describe(self) -> dict[str, Any]:
        left_out = {"left_out": dict(self.left_out)} if self.on_bad == "skip" else {}
        return super().describe() | left_out

    @override
    def whole(self, spec: DataSpec) -> Split:
        # a model that compares pictures takes those of any classes
        known = () if isinstance(spec.target, Classes) and spec.target.held_out_test else spec.class_names
        splits, self.class_names = labelled(self.path, FORMATS, "picture", known)
        found = splits.values()
        channels, height, width = spec.input_shape
        column = ImageFiles([file for files, _ in found for file in files], self.path, (height, width), channels)
        split: Split = {"input": column, "target": torch.tensor([label for _, labels in found for label in labels])}
        count, split = len(column), self._read(split, "all", keep=False)
        self._tell(count)
        return split

    def _measures(self, files: list[Path]) -> tuple[tuple[int, int], int]:
        """((height, width), channels), as asked for or as the pictures have them."""
        shapes, grey = [], True
        for i in spread(len(files), PROBED).tolist():
            try:
                with open_image(files[i]) as picture:
                    shapes.append((picture.height, picture.width))
                    grey &= picture.mode in ("1", "L", "LA", "I;16")
            except UserError:
                if self.on_bad == "error":
                    raise
        if not shapes:
            raise UserError(f"data.path: of the pictures looked at in {self.path}, none can be read")
        if self.size is not None:
            size = self.size[0], self.size[1]
        elif len(set(shapes)) == 1:
            size = shapes[0]
        else:
            side = min(LONGEST_SIDE, int(np.median([min(shape) for shape in shapes])))
            size = side, side
        return size, self.channels or (1 if grey else 3)
