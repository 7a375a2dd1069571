"""Data as researchers have it, in many forms; made by code that knows nothing of this harness."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler, random_split


def frame(rows: int = 120) -> pd.DataFrame:
    draw, kind = np.random.default_rng(0), np.arange(rows) % 3
    made = pd.DataFrame({"age": draw.normal(size=rows) + kind, "town": pd.Categorical(np.array(["b", "p", "q"])[kind])})
    made["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 900, rows), "D")
    made["kind"] = np.array(["x", "y", "z"])[kind]
    made.loc[::7, "age"] = np.nan
    return made.sample(frac=1, random_state=0)  # its index is no longer in order


def frames() -> dict[str, pd.DataFrame]:
    whole = frame()
    return {"train": whole[:80], "validation": whole[80:100], "test": whole[100:]}


def frame_and_target() -> tuple[pd.DataFrame, pd.Series]:
    whole = frame()
    return whole.drop(columns="kind"), whole["kind"]


def columns() -> dict[str, object]:
    whole = frame()
    return {name: whole[name].to_numpy() for name in whole}


def text_series() -> tuple[pd.Series, pd.Series]:
    found, labels = texts()
    whole = pd.DataFrame({"text": found, "kind": labels}).sample(frac=1, random_state=0)
    return whole["text"], whole["kind"]


class Arrow:
    """What polars and others are: a table that speaks Arrow."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return frame().reset_index(drop=True).__arrow_c_stream__(requested_schema)


def mixed() -> pd.DataFrame:
    return pd.DataFrame({"a": [1, "x", None] * 10, "y": [0, 1, 0] * 10})


def lists() -> tuple[list[list[float]], list[int]]:
    return [[0.1 * row, 1.0] for row in range(40)], [row % 2 for row in range(40)]


def texts(rows: int = 60) -> tuple[list[str], list[str]]:
    kinds = ["bad", "good"]
    return [f"a {kinds[row % 2]} film {row % 5}" for row in range(rows)], [kinds[row % 2] for row in range(rows)]


def keras() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    pictures = np.random.default_rng(0).integers(0, 255, (90, 8, 8)).astype("uint8")
    classes = np.arange(90) % 3
    return (pictures[:60], classes[:60]), (pictures[60:], classes[60:])


def endless() -> Iterator[tuple[torch.Tensor, int]]:
    row = 0
    while True:
        yield torch.randn(4) + row % 2, row % 2
        row += 1


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[dict[str, object]]:
        for row in range(100):
            yield {"x": np.full(3, row % 7), "y": row / 3}


def records() -> Iterator[dict[str, object]]:
    for row in range(60):
        yield {"size": row * 1.5, "town": ["u", "v"][row % 2], "label": ["no", "yes"][row % 2]}


class Floats(Dataset):
    """Pictures as torchvision's ToTensor gives them."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        drawn = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index))
        return self.scale * (drawn / 2 + (index % 2) / 2), index % 2


class Noisy(Dataset):
    """Items that draw from all three generators of the process, not all of them from each."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        x = torch.full((4,), float(index % 2))
        if random.random() < 0.3:
            x = x + torch.randn(4)
        return x + float(np.random.normal()), index % 2


class Keeping(Dataset):
    """Items that draw from generators of the dataset's own."""

    def __init__(self) -> None:
        self.generator, self.parts = torch.Generator(), {"numpy": np.random.default_rng()}

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        noise = torch.randn(4, generator=self.generator) + self.parts["numpy"].normal()
        return index % 2 + noise, index % 2


class Hidden(Noisy):
    """Items that nobody can draw again."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((4,), np.random.default_rng().normal()), index % 2


class Lately(Noisy):
    """Few items draw, and none of those that are tried first."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((4,), float(index)) + (torch.randn(4) if index in range(1, 8) else 0), index % 2


class Module(pl.LightningDataModule):
    def setup(self, stage: str | None = None) -> None:
        kinds = torch.arange(90) % 3
        rows = torch.randn(90, 4, generator=torch.Generator().manual_seed(0)) + kinds[:, None]
        whole = TensorDataset(rows, kinds)
        self.train, self.val, self.test = random_split(whole, [0.6, 0.2, 0.2], torch.Generator().manual_seed(0))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, 16, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, 64)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test, 64)


class Weighted(Module):
    """Rows of class 2 alone."""

    def train_dataloader(self) -> DataLoader:
        weights = [float(kind == 2) for _, kind in self.train]
        return DataLoader(self.train, 16, sampler=WeightedRandomSampler(weights, 40))


class WeightedWithoutTest(Weighted):
    test_dataloader = pl.LightningDataModule.test_dataloader


class Neighbours:
    """Batches of ten neighbours, in random order."""

    def __iter__(self) -> Iterator[list[int]]:
        for start in torch.randperm(5).tolist():
            yield list(range(10 * start, 10 * start + 10))


class InBatches(Module):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_sampler=Neighbours())


class InOrder(Module):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, 16, drop_last=True)


def mix(items: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = (torch.stack(part) for part in zip(*items, strict=True))
    share = float(np.random.beta(1, 1))
    return share * x + (1 - share) * x.flip(0), y


def soft(items: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = mix(items)
    return x, torch.nn.functional.one_hot(y, 3).float()


class Mixing(Module):
    """Changes batches at random where they are made."""

    collate = staticmethod(mix)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, 16, shuffle=True, collate_fn=self.collate)


class Soft(Mixing):
    collate = staticmethod(soft)


class Lengths(Dataset):
    """Sequences of different lengths."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3 + index % 5, 2), float(index % 2)), index % 2


def pad(items: list[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
    x, y = zip(*items, strict=True)
    return {"x": pad_sequence(list(x), batch_first=True), "y": torch.tensor(y)}


class Padding(Module):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(Lengths(), 16, shuffle=True, collate_fn=pad)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Lengths(), 16, collate_fn=pad)

    test_dataloader = val_dataloader


class Tokens(Floats):
    def __getitem__(self, index: int) -> dict[str, object]:  # type: ignore[override]
        return {"input_ids": [1, 2, 3], "labels": index % 2}


class Hooked(Module):
    def on_after_batch_transfer(self, batch: object, dataloader_idx: int) -> object:
        return batch


class Several(Module):
    def val_dataloader(self) -> list[DataLoader]:
        return [DataLoader(self.val), DataLoader(self.test)]


def hub() -> object:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = {"text": [f"{('bad', 'good')[row % 2]} {row}" for row in range(60)], "label": [row % 2 for row in range(60)]}
    return datasets.Dataset.from_dict(rows, features=features).train_test_split(0.3, seed=0)


def hub_table() -> object:
    import datasets

    return datasets.Dataset.from_pandas(frame())


def hub_pictures() -> object:
    import datasets
    from PIL import Image

    pictures = [Image.fromarray(np.full((8, 8, 3), 100 * (row % 2), np.uint8)) for row in range(40)]
    names = datasets.ClassLabel(names=["dark", "light"])
    features = datasets.Features({"img": datasets.Image(), "label": names})
    return datasets.Dataset.from_dict({"img": pictures, "label": [row % 2 for row in range(40)]}, features=features)


def hub_stream() -> object:
    return hub()["train"].to_iterable_dataset()  # type: ignore[index]


def several_targets() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(50, 4), torch.randn(50, 3)


def half_labelled() -> dict[str, object]:
    return {"train": lists(), "test": np.zeros((9, 2))}


def not_finite() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.zeros(50, 4)
    x[3, 1] = float("nan")
    return x, torch.arange(50) % 2


def two_datasets() -> tuple[Dataset, Dataset]:
    return Floats(), Floats()


def misspelt() -> dict[str, object]:
    return {"train": lists(), "vall": lists()}


def untrained() -> dict[str, object]:
    return {"test": lists()}


def unequal() -> tuple[torch.Tensor, list[int]]:
    return torch.zeros(50, 4), [1, 2]


class Broken(Floats):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 31:
            raise KeyError("no 31")
        return torch.zeros(3), index % 2


def failing() -> None:
    raise ValueError("no such file")


def boundaries() -> tuple[np.ndarray, np.ndarray]:
    """Integers of many classes with few rows each, as torch's losses take them."""
    return np.zeros((60, 2)), np.arange(60) % 12
