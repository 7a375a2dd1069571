"""Tables: the real ones that ship inside scikit-learn, and random labels as a check that nothing leaks."""

from __future__ import annotations

from typing import Literal, Unpack

import torch
from typing_extensions import override

from src.data.core.module import DataModule
from src.data.core.options import LoaderOptions, SplitOptions, with_defaults
from src.data.core.splits import Split
from src.errors import UserError, suggest
from src.runtime.ranges import PositiveInt
from src.runtime.stateless_random import generator
from src.spec import InputSpec

_TASKS = {
    "iris": ("classification",),
    "wine": ("classification",),
    "breast_cancer": ("binary", "classification"),
    "diabetes": ("regression",),
}


class SklearnTable(DataModule):
    """A table that ships inside scikit-learn: no download. Columns keep their own units.

    Args:
        name: iris (150 flowers, 3 species), wine (178 wines, 3 cultivars), breast_cancer (569 tumours, malignant or
            benign) or diabetes (442 patients, progression after a year).
    """

    def __init__(
        self,
        *,
        name: Literal["iris", "wine", "breast_cancer", "diabetes"] = "iris",
        standardize: bool = True,
        anomalies: list[str | int] | None = None,
        **common: Unpack[SplitOptions],
    ) -> None:
        if name not in _TASKS:
            raise UserError(f"data.name={name} is not a table inside scikit-learn{suggest(name, _TASKS)}")
        super().__init__(standardize=standardize, anomalies=anomalies, **with_defaults(common, batch_size=32))
        self.name = name
        self.tasks = _TASKS[name]
        self.source = f"sklearn.datasets.load_{name}"

    @override
    def load(self) -> dict[str, Split]:
        from sklearn import datasets  # noqa: PLC0415 (slow to import)

        # diabetes comes scaled over all rows, test rows included, unless it is asked for raw
        options = {"scaled": False} if self.name == "diabetes" else {}
        bunch = getattr(datasets, f"load_{self.name}")(**options)
        self.feature_names = tuple(str(name) for name in bunch.feature_names)
        if "regression" in self.tasks:
            target = torch.tensor(bunch.target, dtype=torch.float32)
        else:
            target = torch.tensor(bunch.target, dtype=torch.int64)
            self.class_names = tuple(str(name) for name in bunch.target_names)
        return {"all": {"input": torch.tensor(bunch.data, dtype=torch.float32), "target": target}}


class RandomLabels(DataModule):
    """Uniform random features with random binary labels: nothing can be learnt, so held-out accuracy is near 0.5.

    Args:
        rows: training rows; all of them are trained on.
        columns: features, each uniform in [0, 1).
        val_rows, test_rows: fresh draws.
        predict_rows: further fresh draws, for prediction.
        data_seed: of all draws.
    """

    name = "random_labels"
    tasks = ("binary", "classification")
    source = "torch.rand"
    class_names = ("0", "1")

    def __init__(
        self,
        *,
        rows: PositiveInt = 1000,
        columns: PositiveInt = 20,
        val_rows: PositiveInt = 1000,
        test_rows: PositiveInt = 1000,
        predict_rows: PositiveInt = 5,
        data_seed: int = 0,
        standardize: bool = False,
        **common: Unpack[LoaderOptions],
    ) -> None:
        super().__init__(split_seed=data_seed, standardize=standardize, **with_defaults(common, batch_size=32))
        self.sizes = {"train": rows, "val": val_rows, "test": test_rows, "predict": predict_rows}
        self.columns = columns
        self.data_seed = data_seed

    @override
    def load(self) -> dict[str, Split]:
        splits: dict[str, Split] = {}
        for number, (name, rows) in enumerate(self.sizes.items()):
            # each part from its own stream: another number of rows in one changes no other
            random = generator(self.data_seed, number)
            splits[name] = {
                "input": torch.rand(rows, self.columns, generator=random),
                "target": torch.randint(0, 2, (rows,), generator=random),
            }
        return splits

    def _measure_input(self, **more: object) -> InputSpec:
        names = tuple(f"x{column}" for column in range(self.columns))
        return super()._measure_input(feature_names=names, **more)
