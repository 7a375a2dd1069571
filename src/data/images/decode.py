"""Decoding of image files to one size and number of channels."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.core.splits import spread
from src.errors import UserError

FORMATS = (".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".pbm", ".bmp", ".gif", ".webp", ".tif", ".tiff")


PROBED = 200  # pictures whose size and channels are looked at


LONGEST_SIDE = 224  # of pictures that differ in size, as most pretrained nets take them


CHUNK = 256  # pictures decoded between two steps of the progress bar


class ImageFiles:
    """Pictures in files as a column of uint8 (N, C, H, W), decoded when a batch asks for them.

    Args:
        files: one a row.
        root: the folder that they all lie in.
        size: height and width in pixels.
        channels: 1 or 3.
        crop: shares of the height that are cut off at the top and the bottom first; empty: nothing.
    """

    dtype = torch.uint8
    in_memory = False

    def __init__(
        self, files: Sequence[Path], root: Path, size: tuple[int, int], channels: int, crop: tuple[float, ...] = ()
    ) -> None:
        # names as one array: a list of objects would be copied by and by in every worker that looks at it
        self._names = np.array([os.path.relpath(path, root) for path in files])
        self._root, self._size, self._channels, self._crop = root, size, channels, crop
        self.shape = (len(files), channels, *size)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, row: int) -> str:
        """Name of a row's file, relative to the root."""
        return str(self._names[row])

    def __getitem__(self, index: Tensor) -> Tensor:
        batch = torch.empty((len(index), *self.shape[1:]), dtype=torch.uint8)
        for row, name in zip(batch, self._names[index.numpy()], strict=True):
            row.copy_(self.decode(self._root / name))
        return batch

    def decode(self, path: Path) -> Tensor:
        """Decode a file to a row (C, H, W)."""
        return decode(path, self._size, self._channels, self._crop)

    def subset(self, index: Tensor) -> ImageFiles:
        """Column of the files index (N,), none of them read yet."""
        files = [self._root / name for name in self._names[index.numpy()]]
        return ImageFiles(files, self._root, self._size, self._channels, self._crop)

    def digest(self) -> bytes:
        """sha256 of all names and file sizes, and of up to 2,000 pictures."""
        digest = hashlib.sha256()
        for name in self._names:
            digest.update(f"{Path(name).as_posix()} {(self._root / name).stat().st_size}\n".encode())
        digest.update(self[spread(len(self), 2_000)].numpy().data.cast("B"))
        return digest.digest()

    def read(self, label: str, rows: Tensor | None = None, *, skip: bool = False) -> dict[int, str]:
        """Decode all files, by as many threads as this process may use, under a progress bar.

        Args:
            label: of the bar.
            rows: uint8 (N, C, H, W) to be filled; None: it is only tried whether they can be decoded.
            skip: go on after a picture that cannot be; its row stays as it was.

        Returns:
            The number of each such picture, with the reason.

        Raises:
            UserError: a picture that cannot be decoded, unless `skip`.
        """
        from rich.console import Console  # noqa: PLC0415 (only where files are read: keeps imports fast)
        from rich.progress import track  # noqa: PLC0415 (likewise)

        broken: dict[int, str] = {}
        chunks = torch.arange(len(self)).split(CHUNK)

        def read(index: Tensor) -> None:
            for row in index.tolist():
                try:
                    picture = self.decode(self._root / self._names[row])
                except UserError as error:
                    if not skip:
                        raise
                    broken[row] = str(error)
                else:
                    if rows is not None:
                        rows[row] = picture

        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as pool:
            console = Console(stderr=True)
            bar = track(pool.map(read, chunks), f"decoding {label}", len(chunks), console=console, transient=True)
            for _ in bar if console.is_terminal else pool.map(read, chunks):
                pass
        return broken


def decode(path: Path, size: tuple[int, int], channels: int, crop: tuple[float, ...] = ()) -> Tensor:
    """A picture as uint8 (channels, height, width), upright, scaled to cover `size` and cropped about the centre.

    Args:
        crop: shares of the height that are cut off at the top and the bottom before; empty: nothing.

    Raises:
        UserError: it cannot be read as a picture; names the file.
    """
    picture = raw_pixels(path, (math.ceil(size[0] / (1 - sum(crop))), size[1]), channels)
    if crop:
        above, below = (round(share * picture.shape[1]) for share in crop)
        picture = picture[:, above : max(above + 1, picture.shape[1] - below)]
    height, width = picture.shape[1:]
    scale = min(height / size[0], width / size[1])
    # cropped first: what the scaling would produce beyond the crop need not be computed
    rows, columns = (max(1, round(side * scale)) for side in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    picture = picture[:, top : top + rows, left : left + columns]
    if (rows, columns) == size:
        return picture
    return F.interpolate(picture.unsqueeze(0), size, mode="bilinear", antialias=True).squeeze(0)


def raw_pixels(path: Path, size: tuple[int, int], channels: int) -> Tensor:
    """Decode a file's pixels (C, H, W), at a lower resolution where a JPEG holds twice of what is wanted."""
    from torchvision.io import ImageReadMode, decode_image  # noqa: PLC0415 (slow to import)

    content = np.fromfile(path, np.uint8)
    magic = content[:3].tobytes()
    with open_image(path) as picture:
        large = min(picture.height / size[0], picture.width / size[1]) >= 2
        if (magic == b"\xff\xd8\xff" and not large) or (magic == b"\x89PN" and picture.mode != "I;16"):
            mode = ImageReadMode.GRAY if channels == 1 else ImageReadMode.RGB
            try:
                return decode_image(torch.from_numpy(content), mode, apply_exif_orientation=True)
            except RuntimeError as error:
                raise _unreadable(path, re.sub(r"^.*\.cpp:\d+, ", "", str(error).splitlines()[0])) from None
        return _by_pillow(picture, path, size, channels)


def _by_pillow(picture, path: Path, size: tuple[int, int], channels: int) -> Tensor:
    """Decode by Pillow formats that torch cannot, and JPEGs at a lower resolution."""
    from PIL import ImageOps  # noqa: PLC0415 (only for what torch cannot decode)

    mode = "L" if channels == 1 else "RGB"
    try:
        picture.draft(mode, (size[1], size[0]))
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == "I;16":  # PIL would cut off at 255
            picture = picture.point(lambda value: value / 256).convert("L")
        return (
            torch.from_numpy(np.array(picture.convert(mode))).view(picture.height, picture.width, -1).permute(2, 0, 1)
        )
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, str(error)) from None


def open_image(path: Path):
    """Open a picture and read its header."""
    from PIL import Image  # noqa: PLC0415 (only where a file is opened)

    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "its content is not a picture's"
        raise _unreadable(path, reason) from None


def _unreadable(path: Path, reason: str) -> UserError:
    return UserError(f"data.path: {path} cannot be read as a picture ({reason}); repair or remove it")
