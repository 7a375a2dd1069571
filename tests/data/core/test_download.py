"""Datasets' files that are missing, damaged, already there, or asked for by several at once."""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch

from src.data.core.download import RemoteFile, verified
from src.data.core.module import DataModule
from src.data.images import classic
from src.data.images.classic import Torchvision
from src.errors import UserError


@pytest.fixture
def mnist(data_folder, tmp_path) -> Path:
    """A root with MNIST's four files."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (data_folder / "mnist" / "MNIST" / "raw").glob("*.gz"):
        shutil.copyfile(file, raw / file.name)  # not the permissions: the original may be read-only
    return tmp_path


def ready(data: DataModule) -> DataModule:
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.real_data
def test_mnist_is_read_from_its_files_without_unpacking(mnist):
    before = sorted(mnist.rglob("*"))
    data = ready(Torchvision(name="mnist", root=str(mnist), val_fraction=0.1))
    assert data.spec.splits == {"train": 54000, "val": 6000, "test": 10000}
    assert data.spec.input_shape == (1, 28, 28) and data.splits["train"]["input"].dtype == torch.uint8
    assert data.splits["test"]["target"][:5].tolist() == [7, 2, 1, 0, 4]
    assert data.spec.input.mean[0] / 255 == pytest.approx(0.1307, abs=5e-4)
    assert data.spec.input.std[0] / 255 == pytest.approx(0.3081, abs=5e-4)
    assert sorted(mnist.rglob("*")) == before


@pytest.mark.real_data
def test_a_damaged_file_is_named(mnist):
    broken = mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    broken.write_bytes(broken.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{broken} is damaged") as error:
        ready(Torchvision(name="mnist", root=str(mnist)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn"])
def test_without_a_network_one_line_says_which_files_go_where(tmp_path, no_network, name):
    files, folder = {
        "mnist": (("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"), "MNIST/raw"),
        "cifar10": (("cifar-10-python.tar.gz",), ""),
        "svhn": (("train_32x32.mat", "test_32x32.mat"), ""),
    }[name]
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        ready(Torchvision(name=name, root=str(tmp_path)))
    assert time.monotonic() - began < 60  # 6 s and the machine's own delays; a name look-up alone can take minutes
    line = str(error.value)
    assert line.startswith(f"data={name} cannot be downloaded (no network") and "\n" not in line
    assert all(file in line for file in files) and f"into {tmp_path / folder} by hand" in line
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {".download.lock"}


SERVER = """
import functools, http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, form, *values):
        print(values[0], flush=True)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sys.argv[1]))
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks the test's own process")
def test_processes_that_start_together_download_once(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(urllib.request, "_opener", None)
    content = b"x" * 200_000
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "rows.bin").write_bytes(content)
    command = [sys.executable, "-c", SERVER, str(tmp_path / "server")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/rows.bin"
        wanted = [RemoteFile("rows.bin", hashlib.md5(content).hexdigest(), (url,))], tmp_path / "root", "rows"
        runs = [multiprocessing.get_context("fork").Process(target=verified, args=wanted) for _ in range(4)]
        for run in runs:
            run.start()
        for run in runs:
            run.join(30)
        assert [run.exitcode for run in runs] == [0] * 4
    finally:
        server.terminate()
    requests = server.stdout.read().splitlines()
    assert sum(line.startswith("HEAD") for line in requests) == 1, requests  # one process asked whether it is there
    assert (tmp_path / "root" / "rows.bin").read_bytes() == content
    assert not list((tmp_path / "root").glob("*.part"))


def test_the_archive_of_cifar_is_read_in_place(tmp_path):
    random = np.random.default_rng(0)
    listed = [["data_batch_1", ""], ["data_batch_2", ""]]
    kind = SimpleNamespace(train_list=listed, test_list=[["test_batch", ""]])
    kind.meta = {"filename": "batches.meta", "key": "label_names"}
    pixels = {name: random.integers(0, 256, (4, 3072), dtype=np.uint8) for name, _ in [*listed, *kind.test_list]}
    (tmp_path / "batches").mkdir()
    for name, data in pixels.items():
        (tmp_path / "batches" / name).write_bytes(pickle.dumps({"data": data, "labels": [0, 1, 1, 0]}))
    (tmp_path / "batches" / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}))
    (tmp_path / "batches" / "readme.html").write_text("no pickle")
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "batches", "batches")

    parts, names = classic._read_cifar(tmp_path / "cifar.tar.gz", kind)
    assert names == ("cat", "dog")
    assert parts["train"]["input"].shape == (8, 3, 32, 32) and parts["test"]["target"].tolist() == [0, 1, 1, 0]
    assert torch.equal(parts["train"]["input"][5].flatten(), torch.from_numpy(pixels["data_batch_2"][1]))


def test_matlab_and_idx_files_are_read_in_the_right_order(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "part.mat", {"X": pixels, "y": np.array([[10], [1], [2], [9], [10]], dtype=np.uint8)})
    part = classic._read_mat(tmp_path / "part.mat")
    assert part["target"].tolist() == [0, 1, 2, 9, 0] and part["input"].shape == (5, 3, 32, 32)
    assert part["input"][3, 2, 7, 8] == pixels[7, 8, 2, 3]

    rows = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in rows.shape)
    with gzip.open(tmp_path / "rows.gz", "wb") as file:
        file.write(header + rows.tobytes())
    assert torch.equal(classic._read_idx(tmp_path / "rows.gz"), torch.from_numpy(rows))
