"""Logs of driving, as Udacity's simulator records them: what the driver saw, and how the wheel was turned.

Learning to steer from them is behaviour cloning (Pomerleau 1989, "ALVINN"; Bojarski et al. 2016, arXiv:1604.07316).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
import pyarrow as pa
import torch
from torch import Tensor

from src.data.core.loader import Augmentation, Batch
from src.data.core.module import DataModule
from src.data.core.splits import Split
from src.data.images.decode import ImageFiles
from src.data.tables.reader import TableFile, numbers
from src.errors import UserError, suggest
from src.runtime.ranges import Share
from src.runtime.stateless_random import BITS, draws, mix
from src.spec import DataSpec, ImageSpec, InputSpec

LOG = "driving_log.csv"
COLUMNS = ("center", "left", "right", "steering", "throttle", "brake", "speed")  # where the file has no header
CAMERAS = COLUMNS[:3]

_STEERING = 13  # keeps these draws apart from the order and other augmentation, which come from the same seed
_MIRROR, _SHIFT, _STREAMS = range(3)
_SHARE = 0.25  # of the free memory that decoded pictures may take
_TOLD = 5  # missing pictures that are named


class Log(NamedTuple):
    """The rows of a log whose centre picture is there.

    Attributes:
        files: of each camera, by row; None where the picture is not there.
        steering: (N,), -1 is full left and 1 full right.
        rows: their numbers in the file, from 1 on.
    """

    files: dict[str, list[Path | None]]
    steering: Tensor
    rows: list[int]


class DrivingLog(DataModule):
    """Pictures from a car's cameras with the angle of its wheel as the target.

    `driving_log.csv` has a row for each moment: the files of the centre, left and right camera, steering, throttle,
    brake, speed, with a header or without. Of a file's path the last part counts, since logs are moved about and name
    folders of another computer: the pictures are looked for in `images`. Rows are split at random: moments that follow
    each other look alike, so that a test on them says how well this drive was learned, not how well another goes.

    Args:
        path: the folder with the log, or the log itself.
        images: the folder with the pictures; null: IMG beside the log.
        size: height and width in pixels.
        crop: shares of the height that are cut off at the top (the sky) and the bottom (the bonnet).
        channels: 1 (grey) or 3 (colour).
        on_missing: what becomes of a row whose centre picture is not there: `error` stops and names the row, `skip`
            leaves it out, says how many there were and lists them in the description.
        side_correction: training rows also have the pictures of the left and right camera, with the steering of the
            row plus (left) or minus (right) this; those that are not there are left out and counted. null: centre only.
        mirror: training pictures are mirrored at random, every second one, and their steering with them.
        shift: training pictures are moved sideways by up to this share of the width,
        shift_correction: and their steering changes by so much for each width.

    Raises:
        UserError: no log, an empty one, a column that is missing, a cell that is no number (row named), no pictures.

    Attributes:
        missing: pictures of the log that are not there, by camera.
    """

    name = "driving_log"
    inputs = (ImageSpec,)
    tasks = ("regression",)

    def __init__(
        self,
        *,
        path: str,
        images: str | None = None,
        size: list[int] | int = (40, 160),  # type: ignore[assignment]
        crop: list[float] = (0.375, 0.125),  # type: ignore[assignment]
        channels: int = 3,
        on_missing: Literal["error", "skip"] = "error",
        side_correction: float | None = None,
        mirror: bool = True,
        shift: Share = 0.0,
        shift_correction: float = 0.0,
        **options,
    ) -> None:
        super().__init__(**options)
        sides = [size, size] if isinstance(size, int) else list(size)
        if len(sides) != 2 or min(sides) < 1:
            raise UserError(f"data.size={size}: one positive number, or [height, width]")
        if len(crop) != 2 or min(crop) < 0 or sum(crop) >= 1:
            raise UserError(f"data.crop={list(crop)}: two shares of the height, [top, bottom], below 1 together")
        if channels not in (1, 3):
            raise UserError(f"data.channels={channels}: 1 (grey) or 3 (colour)")
        if on_missing not in ("error", "skip"):
            raise UserError(f"data.on_missing={on_missing}: error or skip")
        if self.augment is not None and self.augment.flip:
            raise UserError("data.augment.flip leaves the steering as it is: data.mirror=true turns both round")
        self.path = Path(path).expanduser().absolute()
        self.images = None if images is None else Path(images).expanduser().absolute()
        self.size, self.crop, self.channels = (sides[0], sides[1]), tuple(float(share) for share in crop), channels
        self.on_missing, self.side_correction = on_missing, side_correction
        self.mirror, self.shift, self.shift_correction = mirror, shift, shift_correction
        self.missing: dict[str, list[str]] = {}

    # reading ---------------------------------------------------------------------------------------------------------

    def load(self) -> dict[str, Split]:
        self._log = self._read()
        self.source = str(self.path)
        steering = self._log.steering
        return {"all": {"input": torch.arange(len(steering)), "target": steering}}

    def _read(self) -> Log:
        """The log, and which of its pictures are there."""
        path = self.path / LOG if self.path.is_dir() else self.path
        if not path.exists():
            raise UserError(f"data.path: there is no {path}; give the folder with {LOG}, or the log itself")
        file = TableFile(path, known=COLUMNS)
        table = pa.concat_tables([piece for _, piece in file]) if list(file) else None
        if table is None:
            raise UserError(f"{file.where} has no rows")
        names = _columns(file)
        steering, wrong = numbers(table.column(names["steering"]).combine_chunks())
        if wrong.any() or (wrong := steering != steering).any():
            row = int(wrong.argmax())
            cell = table.column(names["steering"])[row].as_py()
            told = "has no value" if cell is None else f"{str(cell)!r} is no number"
            raise UserError(f"{file.place(row + 1, names['steering'])}: {told}")
        folder = self.images or path.parent / "IMG"
        files = {
            camera: [_there(folder, cell) for cell in table.column(names[camera]).to_pylist()]
            for camera in CAMERAS
            if camera in names
        }
        return self._kept(files, torch.from_numpy(steering).float(), folder, file)

    def _kept(self, files: dict[str, list[Path | None]], steering: Tensor, folder: Path, file: TableFile) -> Log:
        """The rows with a centre picture.

        Raises:
            UserError: none has, or one has not and `on_missing` is error.
        """
        centre = files["center"]
        rows = [row for row, found in enumerate(centre) if found is not None]
        if not rows:
            raise UserError(f"{file.where}: none of its {len(centre)} centre pictures is in {folder} (data.images)")
        if len(rows) < len(centre) and self.on_missing == "error":
            row = centre.index(None)
            raise UserError(
                f"{file.place(row + 1, 'center')}: the picture is not in {folder}, nor are those of"
                f" {len(centre) - len(rows) - 1} further rows (data.on_missing=skip leaves them out)"
            )
        sides = CAMERAS[1:] if self.side_correction is not None else ()
        if sides and not any(found for camera in sides for found in files.get(camera, ())):
            raise UserError(f"data.side_correction: no picture of the left or right camera is in {folder}")
        self.missing = {
            camera: [f"row {row + 1}" for row, found in enumerate(files.get(camera, ())) if found is None]
            for camera in ("center", *sides)
        }
        kept = {camera: [column[row] for row in rows] for camera, column in files.items()}
        return Log(kept, steering[torch.tensor(rows)], [row + 1 for row in rows])

    # parts -----------------------------------------------------------------------------------------------------------

    def _split(self, parts: dict[str, Split]) -> dict[str, Split]:
        split = super()._split(parts)
        self._files: dict[str, list[Path]] = {}
        return {name: self._pictures(name, part, sides=name == "train") for name, part in split.items()}

    def _pictures(self, name: str, part: Split, *, sides: bool) -> Split:
        """Pictures and steering of some rows of the log."""
        files, steering = [], []
        for camera, correction in self._cameras(sides).items():
            for row, angle in zip(part["input"].tolist(), part["target"].tolist(), strict=True):
                found = self._log.files[camera][row]
                if found is not None:
                    files.append(found)
                    steering.append(max(-1.0, min(1.0, angle + correction)) if correction else angle)
        column: Any = ImageFiles(files, files[0].parent, self.size, self.channels, self.crop)
        self._files[name] = files
        needed = len(files) * self.channels * self.size[0] * self.size[1]
        if needed <= _SHARE * psutil.virtual_memory().available:
            rows = torch.empty(column.shape, dtype=torch.uint8)
            column.read(name, rows)
            column = rows
        elif self.on_device:
            raise UserError("data.on_device=true keeps rows in memory, these pictures do not fit: a smaller data.size")
        return {"input": column, "target": torch.tensor(steering)}

    def _cameras(self, sides: bool) -> dict[str, float]:
        """Cameras whose pictures serve, and what is added to the steering of each."""
        if not sides or self.side_correction is None:
            return {"center": 0.0}
        all_three = {"center": 0.0, "left": self.side_correction, "right": -self.side_correction}
        return {camera: correction for camera, correction in all_three.items() if camera in self._log.files}

    def _place(self, part: Split, rows: Tensor) -> str:
        return f"data.path: {self.path}"

    def row_name(self, split: str, row: int) -> str:
        """The picture of a row, as a person finds it."""
        return f"{split} {self._files[split][row].name}"

    def whole(self, spec: DataSpec) -> Split:
        channels, height, width = spec.input_shape
        self.size, self.channels, self.crop = (height, width), channels, spec.input.crop or (0.0, 0.0)
        self._files, self._log = {}, self._read()
        steering = self._log.steering
        return self._pictures("test", {"input": torch.arange(len(steering)), "target": steering}, sides=False)

    def _measure_input(self, **more: Any) -> InputSpec:
        return super()._measure_input(crop=self.crop, **more)

    def describe(self) -> dict[str, Any]:
        missing = {camera: {"count": len(rows), "first": rows[:_TOLD]} for camera, rows in self.missing.items()}
        return super().describe() | {"missing": missing}

    # augmentation ----------------------------------------------------------------------------------------------------

    def augmentation(self) -> Augmentation | None:
        further = super().augmentation()
        if not (self.mirror or self.shift):
            return further
        options = {"seed": self.seed, "mirror": self.mirror, "shift": self.shift, "further": further}
        return partial(steered, correction=self.shift_correction, **options)


def _columns(file: TableFile) -> dict[str, str]:
    """What the file calls the columns that are needed.

    Raises:
        UserError: a column is missing.
    """
    if not file.header:
        if len(file.columns) < 4:
            raise UserError(f"{file.where} has {len(file.columns)} columns and no header: {', '.join(COLUMNS)}")
        return dict(zip(COLUMNS, file.columns, strict=False))
    named = {name.strip().lower().replace("centre", "center"): name for name in file.columns}
    for needed in ("center", "steering"):
        if needed not in named:
            raise UserError(f"{file.where} has no column {needed}{suggest(needed, file.columns)}")
    return {name: named[name] for name in COLUMNS if name in named}


def _there(folder: Path, cell: str | None) -> Path | None:
    """The file that a cell names, wherever the log was written, if it is in the folder."""
    name = re.split(r"[\\/]", str(cell).strip())[-1] if cell is not None else ""
    path = folder / name
    return path if name and path.is_file() else None


def steered(
    batch: Batch,
    epoch: int,
    *,
    seed: int,
    mirror: bool,
    shift: float,
    correction: float,
    further: Augmentation | None,
) -> Batch:
    """Changes pictures (B, C, H, W) together with their steering (B,), each drawn from (seed, epoch, index).

    A picture that is moved to the right is what would be seen further to the left, from where the way back is to the
    right: its steering grows by `correction` for each width.

    Args:
        further: changes that leave the steering as it is, made after these.
    """
    images, target = batch["input"], batch["target"]
    draw = draws(batch["index"], mix(seed, _STEERING, epoch), _STREAMS)
    width = images.shape[-1]
    if most := round(shift * width):
        moved = ((draw[_SHIFT] * (2 * most + 1)) >> BITS) - most
        places = (torch.arange(width, device=images.device) - moved.unsqueeze(1)).clamp(0, width - 1)
        images = images.gather(-1, places.view(-1, 1, 1, width).expand_as(images))
        target = target + correction * moved / width
    if mirror:
        turned = (draw[_MIRROR] & 1).bool()
        images = torch.where(turned.view(-1, 1, 1, 1), images.flip(-1), images)
        target = torch.where(turned, -target, target)
    batch = {**batch, "input": images, "target": target}
    return batch if further is None else further(batch, epoch)
