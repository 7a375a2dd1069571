"""Files that hold weights by name and nothing else, as other programs write them: safetensors, and MXNet's .params."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def without_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without what wrappers put before all names: DataParallel `module.`, torch.compile `_orig_mod.`, and
    Lightning's modules often `model.` or `net.`.
    """
    found = dict(weights)
    for prefix in ("module.", "_orig_mod.", "model.", "net."):
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError  # noqa: PLC0415 (an extra of few)
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        return without_prefix(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"holds no weights ({error})") from error


# MXNet ----------------------------------------------------------------------------------------------------------------

LIST, V1, V2, V3 = 0x112, 0xF993FAC8, 0xF993FAC9, 0xF993FACA  # of a list of arrays, and of an array in three layouts
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8", 7: "?"}
MOST_DIMENSIONS = 32
TORCH = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}
FLAT = re.compile(r"(.+)_(weight|bias|gamma|beta|running_mean|running_var|moving_mean|moving_var)")


class _Bytes:
    """A file's content, read from the beginning to the end."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = content, 0

    def take(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            ValueError: there are fewer.
        """
        if size > len(self.content) - self.place:
            raise ValueError(f"is cut off: it ends within what begins at byte {self.place}")
        self.place += size
        return self.content[self.place - size : self.place]

    def numbers(self, form: str) -> tuple[int, ...]:
        """The next integers, little-endian, as `struct` writes their types."""
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))


def _mxnet(path: Path) -> dict[str, Tensor]:
    """Weights in a `.params` file of MXNet 1, as `save_parameters`, `export` and `nd.save` write it, in torch's names.

    A list of arrays, then one of their names; see NDArray::Save and NDArray::Load in src/ndarray/ndarray.cc of MXNet
    1.9.1. `gamma` and `beta` of a batch normalisation are `weight` and `bias`; `dense0_weight` is `dense0.weight`.
    """
    file = _Bytes(path.read_bytes())
    if file.content[:8] != struct.pack("<Q", LIST):
        raise ValueError("is no list of arrays of MXNet 1 (.npz files of MXNet 2 are others)")
    file.take(16)
    (count,) = file.numbers("Q")
    arrays: list[np.ndarray] = []
    while len(arrays) < count:  # what the header claims is believed array by array
        arrays.append(_array(file))
    (names,) = file.numbers("Q")
    if names != count or not count:
        raise ValueError(f"has {count} arrays and {names} names: weights are found by name")
    found: dict[str, Tensor] = {}
    for array in arrays:
        name = _torch_name(_text(file))
        if name in found:
            raise ValueError(f"has two arrays for {name}")
        found[name] = torch.from_numpy(array)
    if file.place < len(file.content):
        raise ValueError(f"goes on after its last name, at byte {file.place}")
    return found


def _array(file: _Bytes) -> np.ndarray:
    (layout,) = file.numbers("I")
    if layout not in (V1, V2, V3):
        raise ValueError(f"has an array of unknown layout {layout:#x} at byte {file.place - 4}; save it with MXNet 1.9")
    if layout != V1 and (storage := file.numbers("i")[0]) != 0:
        raise ValueError(f"has a sparse array (storage type {storage}): tostype('default') makes it dense")
    (dimensions,) = file.numbers("i")
    if not 0 <= dimensions <= MOST_DIMENSIONS or (dimensions == 0 and layout != V3):
        raise ValueError(f"has an array of {dimensions} dimensions at byte {file.place - 4}")
    shape = file.numbers(f"{dimensions}q")
    if any(size < 0 for size in shape):
        raise ValueError(f"has an array of unknown shape {shape}: a net that has not seen data yet")
    _, _, code = file.numbers("iii")  # the device first
    if code not in DTYPES:
        raise ValueError(f"has an array of unknown type {code}; astype('float32') makes one that is known")
    kind = np.dtype(DTYPES[code])
    return np.frombuffer(file.take(math.prod(shape) * kind.itemsize), kind).reshape(shape).copy()


def _text(file: _Bytes) -> str:
    (length,) = file.numbers("Q")
    try:
        return file.take(length).decode()
    except UnicodeDecodeError:
        raise ValueError("has a name that is no text") from None


def _torch_name(name: str) -> str:
    name = name.removeprefix("arg:").removeprefix("aux:")
    layer, _, last = name.rpartition(".")
    if not layer and (flat := FLAT.fullmatch(name)):  # as the symbol of a net names them
        layer, last = flat.groups()
    return f"{layer}.{TORCH.get(last, last)}" if layer else name


# by a file's suffix: its weights by name; a ValueError says what is wrong with the file, after its name
READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {".safetensors": _safetensors, ".params": _mxnet}
SUFFIXES = (".ckpt", ".pt", ".pth", *READERS)  # torch's own can be checkpoints of this harness too
