"""Images: scikit-learn's scanned digits, and torchvision's classic datasets read whole into memory."""

from __future__ import annotations

import gzip
import importlib.util
import pickle
import tarfile
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from src.data.core.files import data_root
from src.data.core.module import DataModule
from src.data.core.options import Fraction, LoaderOptions
from src.data.core.splits import Split
from src.data.images.augment import Augment
from src.errors import UserError, suggest
from src.spec import ImageSpec, InputSpec

NAMES = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")


class Digits(DataModule):
    """1,797 scans of handwritten digits, 8x8 pixels: ships inside scikit-learn, no download."""

    name = "digits"
    inputs = (ImageSpec,)
    source = "sklearn.datasets.load_digits"
    class_names = tuple("0123456789")

    @override
    def load(self) -> dict[str, Split]:
        # the file that load_digits() reads: importing scikit-learn for it would take a second
        found = importlib.util.find_spec("sklearn")
        if found is None or found.origin is None:
            raise ModuleNotFoundError("scikit-learn, which brings the digits, is not installed")
        folder = Path(found.origin).parent
        rows = np.loadtxt(folder / "datasets" / "data" / "digits.csv.gz", delimiter=",", dtype=np.uint8)
        # stored as they are, since mean and standard deviation follow
        images = torch.from_numpy(rows[:, :64].reshape(-1, 1, 8, 8).copy())
        return {"all": {"input": images, "target": torch.from_numpy(rows[:, 64].astype(np.int64))}}

    def _measure_input(self, **more: object) -> InputSpec:
        return super()._measure_input(levels=16, **more)


class Torchvision(DataModule):
    """A dataset of torchvision, as tensors (N, C, H, W) uint8 in memory, with its own test split.

    Args:
        name: mnist, fashion_mnist, cifar10, cifar100 or svhn.
        root: folder of the files, laid out as torchvision does; those that are missing are downloaded into it.
            null: the folder named by the environment variable LABBOOK_DATA_ROOT, else data/ in the project.
            Nothing is unpacked, so a folder that holds the files need not be writable.

    Raises:
        UserError: a file that is damaged, or missing and not to be had.
    """

    inputs = (ImageSpec,)

    def __init__(
        self,
        *,
        name: Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn"] = "mnist",
        root: str | None = None,
        val_fraction: Fraction = 0.1,
        split_seed: int = 0,
        standardize: bool = True,
        augment: Augment | None = None,
        anomalies: list[str | int] | None = None,
        held_out_classes: int | list[str | int] | None = None,
        val_classes: int | list[str | int] | None = None,
        per_class: int | None = None,
        **common: Unpack[LoaderOptions],
    ) -> None:
        if name not in NAMES:
            raise UserError(f"data.name={name} is not a dataset of torchvision served here{suggest(name, NAMES)}")
        super().__init__(
            val_fraction=val_fraction,
            split_seed=split_seed,
            standardize=standardize,
            augment=augment,
            anomalies=anomalies,
            held_out_classes=held_out_classes,
            val_classes=val_classes,
            per_class=per_class,
            **common,
        )
        self.name = name
        self.root = data_root(root)
        self._files: list[Path] = []

    def prepare_data(self) -> None:
        """Find and verify the files, or download them."""
        from src.data.core.download import RemoteFile, verified  # noqa: PLC0415 (imports torchvision, which is slow)

        if self._files:
            return
        folder, files = self.root, []
        dataset = _dataset(self.name)
        if self.name in ("mnist", "fashion_mnist"):
            folder = self.root / dataset.__name__ / "raw"
            for name, md5 in dataset.resources:
                files.append(RemoteFile(name, md5, tuple(mirror + name for mirror in dataset.mirrors)))
        elif self.name == "svhn":
            for split in ("train", "test"):
                url, name, md5 = dataset.split_list[split]
                files.append(RemoteFile(name, md5, (url,)))
        else:
            files.append(RemoteFile(dataset.filename, dataset.tgz_md5, (dataset.url,)))
        self.source = ", ".join(file.urls[0] for file in files)
        self._files = verified(files, folder, self.name)

    @override
    def load(self) -> dict[str, Split]:
        self.prepare_data()  # Lightning calls it in one process a machine only
        if self.name in ("mnist", "fashion_mnist"):
            images, labels, test_images, test_labels = (_read_idx(path) for path in self._files)
            self.class_names = tuple(_dataset(self.name).classes) if self.name != "mnist" else tuple("0123456789")
            return {
                "train": {"input": images.unsqueeze(1), "target": labels.long()},
                "test": {"input": test_images.unsqueeze(1), "target": test_labels.long()},
            }
        if self.name == "svhn":
            self.class_names = tuple("0123456789")
            train, test = (_read_mat(path) for path in self._files)
            return {"train": train, "test": test}
        splits, self.class_names = _read_cifar(self._files[0], _dataset(self.name))
        return splits


def _dataset(name: str) -> Any:  # noqa: ANN401 (a class of torchvision: their attributes have no common type)
    from torchvision import datasets  # noqa: PLC0415 (slow to import)

    classes = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
    return getattr(datasets, classes.get(name, "SVHN"))


def _read_idx(path: Path) -> Tensor:
    """A gzipped IDX file: two zero bytes, the type (8: uint8), the number of dimensions, each as big-endian int32."""
    with gzip.open(path) as file:
        content = bytearray(file.read())
    dimensions = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    return torch.frombuffer(content, dtype=torch.uint8, offset=4 + 4 * dimensions).view(shape)


def _read_mat(path: Path) -> Split:
    from scipy.io import loadmat  # noqa: PLC0415 (slow to import)

    content = loadmat(path)
    images = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1))  # (H, W, C, N) -> (N, C, H, W)
    labels = content["y"].astype(np.int64).squeeze(1)
    return {"input": torch.from_numpy(images), "target": torch.from_numpy(labels % 10)}  # 0 is labelled 10


def _read_cifar(
    path: Path,
    dataset: Any,  # noqa: ANN401 (as of _dataset)
) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Read the batches inside the archive. They are pickles, safe to load since the archive's checksum was right."""
    wanted = {name for name, _ in dataset.train_list + dataset.test_list} | {dataset.meta["filename"]}
    members = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            content = archive.extractfile(member) if name in wanted and member.isfile() else None
            if content is not None:
                members[name] = pickle.load(content, encoding="latin1")
    splits: dict[str, Split] = {}
    for split, listed in (("train", dataset.train_list), ("test", dataset.test_list)):
        entries = [members[name] for name, _ in listed]
        images = np.concatenate([entry["data"] for entry in entries]).reshape(-1, 3, 32, 32)
        labels = [label for entry in entries for label in entry.get("labels", entry.get("fine_labels"))]
        splits[split] = {"input": torch.from_numpy(images), "target": torch.tensor(labels, dtype=torch.int64)}
    meta = members[dataset.meta["filename"]]
    return splits, tuple(meta[dataset.meta["key"]])
