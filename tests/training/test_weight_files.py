"""Files of weights that other programs wrote: MXNet's, as MXNet 1.9.1 itself wrote them, and damaged ones."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import assemble
from src.experiment.resume import find_start
from src.runtime.signals import Signals
from src.training.init_from import InitFrom
from src.training.weight_files import READERS
from tests.conftest import ROOT, Lab

MXNET = Path(__file__).parents[1] / "fixtures" / "mxnet"
# the layers of MXNet's net as torch has them, at the same places
NETS = """
from collections import OrderedDict

from torch import nn


class Raw(nn.Sequential):
    raw_input = True

    def forward(self, x):
        return super().forward(x.float())


def layers():
    first = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    return [*first, nn.Flatten(), nn.Linear(64, 10)]


def listed():
    return Raw(*layers())


class Inner(nn.Module):
    raw_input = True

    def __init__(self):
        super().__init__()
        self.features = listed()

    def forward(self, x):
        return self.features(x)


def named():
    names = ("conv0", "batchnorm0", "relu", "pool", "flatten", "dense0")
    return Raw(OrderedDict(zip(names, layers())))
"""


@pytest.fixture
def nets(mylab: Path) -> Path:
    (mylab / "mylab" / "nets.py").write_text(NETS)
    return mylab


@pytest.mark.parametrize(
    ("builder", "file"), [("listed", "gluon.params"), ("Inner", "gluon.params"), ("named", "exported-0000.params")]
)
def test_a_net_of_mxnet_gives_mxnet_s_outputs_here(nets: Path, builder: str, file: str) -> None:
    given = [f"model._target_=mylab.nets.{builder}", "data=digits", f"init_from={MXNET / file}", "trainer=cpu"]
    config = compose(given)
    parts = assemble(config, Signals(), find_start(config))
    assert parts.origin.endswith("8 of 9 weights, fresh: " + next(n for n in parts.model.state_dict() if "num_b" in n))
    saved = np.load(MXNET / "outputs.npz")
    with torch.no_grad():
        outputs = parts.model.eval()(torch.from_numpy(saved["x"]))
    np.testing.assert_allclose(outputs.numpy(), saved["outputs"], atol=1e-5)


def test_the_command_line_starts_from_it(lab: Lab, nets: Path) -> None:
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{nets}", "LABBOOK_TRUST": "mylab"}
    given = ["model._target_=mylab.nets.listed", "data=digits", "trainer=cpu", "trainer.max_epochs=1", "threads=1"]
    # nothing is learnt, so that the trained net is MXNet's
    still = ["optimizer=sgd", "optimizer.lr=0", "scheduler=none", "test=false"]
    done = lab.train(*given, *still, f"init_from={MXNET / 'gluon.params'}", env=env)
    assert done.code == 0 and "gluon.params: 8 of 9 weights" in done.out, done.err
    best = torch.load(lab.artifacts(lab.runs()[0].info.run_id) / "checkpoints" / "best.ckpt", weights_only=True)
    weights = READERS[".params"](MXNET / "gluon.params")
    for name in ("0.weight", "1.bias", "5.weight"):
        assert torch.equal(best["state_dict"][f"net.{name}"], weights[name]), name


def test_arrays_of_every_type_are_read() -> None:
    found = READERS[".params"](MXNET / "types.params")
    assert {str(tensor.dtype).removeprefix("torch.") for tensor in found.values()} == found.keys()
    assert all(tensor.tolist() == [[1, 2, 3]] for tensor in found.values())
    found = READERS[".params"](MXNET / "np_shape.params")  # a number, and nothing
    assert found["scalar"] == 2 and found["empty"].shape == (0, 3)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        InitFrom.read(path, path.name)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"init_from={path.name}: {path} ")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sparse.params", "has a sparse array (storage type 1): tostype('default') makes it dense"),
        ("unnamed.params", "has 1 arrays and 0 names: weights are found by name"),
    ],
)
def test_what_holds_no_dense_weights_by_name_is_refused(name: str, reason: str) -> None:
    assert refusal(MXNET / name) == reason


def test_a_damaged_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    whole, path = (MXNET / "gluon.params").read_bytes(), tmp_path / "cut.params"
    for size in [*range(0, 200, 7), *range(200, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert refusal(path).startswith(("is cut off", "is no list of arrays")), size
    path.write_bytes(whole + b"more")
    assert refusal(path) == f"goes on after its last name, at byte {len(whole)}"


def array(layout: int, *, shape: tuple[int, ...] = (2,), code: int = 0, storage: int = 0) -> bytes:
    first = struct.pack("<I", layout) + (b"" if layout == 0xF993FAC8 else struct.pack("<i", storage))
    return first + struct.pack(f"<i{len(shape)}qiii", len(shape), *shape, 1, 0, code)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (array(0xF993FAC9, shape=(1 << 40, 1 << 20)), "is cut off"),  # 4 EiB, which nobody has
        (array(0xF993FAC9, code=12) + bytes(4), "has an array of unknown type 12; astype('float32')"),
        (array(0xF993FAC9, shape=()), "has an array of 0 dimensions"),
        (array(0xF993FACA, shape=(-1, 3)), "has an array of unknown shape (-1, 3)"),
        (struct.pack("<Ii", 0xF993FAC8, 1 << 30), f"has an array of {1 << 30} dimensions"),
        (struct.pack("<III", 2, 3, 4) + bytes(60), "has an array of unknown layout 0x2"),
    ],
    ids=["size", "type", "none", "shape", "dimensions", "layout"],
)
def test_what_a_header_claims_is_not_believed(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "odd.params"
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + content)
    assert refusal(path).startswith(reason)


def test_the_first_layout_of_mxnet_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "first.params"
    name = struct.pack("<QQ", 1, 8) + b"fc1_beta"
    values = np.array([1.5, -2], "<f4").tobytes()
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 1) + array(0xF993FAC8) + values + name)
    assert READERS[".params"](path)["fc1.bias"].tolist() == [1.5, -2]
