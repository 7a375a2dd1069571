"""DataSpec: all that a model may know about its data, as plain values that travel in every checkpoint.

What every dataset has stands in `DataSpec` itself. What depends on the modality of the data (table, image, text ...)
stands in its `input`, what depends on the target (classes, a number, boxes ...) in its `target`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from src.spec import flat
from src.spec.inputs import InputSpec
from src.spec.plain import plain
from src.spec.targets import Classes, Labels, TargetSpec

VERSION = 2
InputT = TypeVar("InputT", bound=InputSpec)
TargetT = TypeVar("TargetT", bound=TargetSpec)


@dataclass(frozen=True)
class DataSpec:
    """Description of a dataset once it was read. Every fitted number comes from the training split only.

    Attributes:
        name: the dataset's name, as in `data=NAME`.
        tasks: the tasks that the data offers; the first one is its usual one.
        splits: rows of each split: `{"train": ..., "val": ..., "test": ...}`.
        input: what one example is; its class says the modality.
        target: what is to be learnt of it; None where the rows have no target.
        train_fraction: of the training split that was used; all else here is of that share.
        sha256: fingerprint of all rows and targets.
    """

    name: str
    tasks: tuple[str, ...]
    splits: Mapping[str, int]
    input: InputSpec
    target: TargetSpec | None = None
    train_fraction: float = 1.0
    sha256: str = field(default="", repr=False)

    @property
    def modality(self) -> str:
        """Name of what one example is: `table`, `image`, `text` ..."""
        return self.input.modality

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example without the batch."""
        return self.input.shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class, an object's class or an action; empty where the target has none."""
        return self.target.names if isinstance(self.target, Labels) else ()

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Training rows, or objects, of each class; empty where there are no classes or nothing to count."""
        return self.target.counts if isinstance(self.target, Labels) else ()

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where the target has none."""
        return len(self.class_names)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Classes that the training split has no row of, by intention."""
        target = self.target
        return (*target.anomalies, *target.held_out_test, *target.held_out_val) if isinstance(target, Classes) else ()

    def input_as(self, kind: type[InputT]) -> InputT:
        """Narrow the input to its class, for code that serves one modality alone.

        Raises:
            TypeError: it is another one.
        """
        if not isinstance(self.input, kind):
            raise TypeError(f"data={self.name} is {self.modality} data, not {kind.modality} data")
        return self.input

    def target_as(self, kind: type[TargetT]) -> TargetT:
        """Narrow the target to its class, for code that serves one form of target alone.

        Raises:
            TypeError: it is another one, or there is none.
        """
        if not isinstance(self.target, kind):
            raise TypeError(f"data={self.name} has no target of the form {kind.form or kind.__name__}")
        return self.target

    def with_input(self, **changes: Any) -> DataSpec:  # noqa: ANN401 (a value for any field of the input)
        """The same data with other values of its input, such as the mean that pretrained weights expect."""
        return replace(self, input=replace(self.input, **changes))

    def to_dict(self) -> dict[str, Any]:
        """Plain containers only, so that `torch.load(..., weights_only=True)` reads them back."""
        return {
            "version": VERSION,
            "name": self.name,
            "tasks": list(self.tasks),
            "splits": dict(self.splits),
            "modality": self.input.modality,
            "input": plain(self.input),
            "target": None if self.target is None else {"form": self.target.form, **plain(self.target)},
            "train_fraction": self.train_fraction,
            "sha256": self.sha256,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataSpec:
        """Read what `to_dict` wrote, also that of earlier releases, which had one flat dict for all data.

        Raises:
            UserError: a modality or a target that this release does not know.
        """
        if "version" not in values:
            values = flat.converted(values)
        target = values["target"]
        return cls(
            name=values["name"],
            tasks=tuple(values["tasks"]),
            splits=dict(values["splits"]),
            input=InputSpec.named(values["modality"]).from_dict(values["input"]),
            target=None if target is None else TargetSpec.named(target["form"]).from_dict(target),
            train_fraction=values["train_fraction"],
            sha256=values["sha256"],
        )
