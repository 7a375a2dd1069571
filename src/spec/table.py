"""Tables: rows of numbers, then codes of categories; for a table from a file also what encodes a further one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from typing_extensions import override

from src.spec.inputs import InputSpec
from src.spec.plain import frozen

DATE_PARTS = ("year", "month", "day", "weekday", "hour", "days")


@dataclass(frozen=True)
class ColumnSchema:
    """One column of a file as plain values; everything fitted comes from the training rows.

    Attributes:
        name: in the file.
        type: `number`, `date`, `category`, or `text`, of which a model sees only whether it is missing.
        format: of a date, as strptime takes it, or ISO8601.
        categories: those that have a code, the most frequent first: 1 is that of the first. 0 stands for all others;
            "" is a missing value.
        missing: training rows lack values, so there is a feature of zeros and ones that says where.
        fill, mean, std: one number for each feature; a missing value becomes `fill`, before it is standardised.
        quantiles: of a number, at equal steps of probability; empty: it is standardised.
    """

    name: str
    type: str
    format: str = ""
    categories: Sequence[str] = field(default=(), repr=False)
    missing: bool = False
    fill: Sequence[float] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    quantiles: Sequence[float] = field(default=(), repr=False)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of what a model sees of it as numbers."""
        values = {"number": (self.name,), "date": tuple(f"{self.name} {split}" for split in DATE_PARTS)}
        return values.get(self.type, ()) + ((f"{self.name} missing",) if self.missing else ())

    @property
    def cardinality(self) -> int:
        """Codes of its categories, 0 included."""
        return len(self.categories) + 1


@dataclass(frozen=True)
class TableSpec(InputSpec):
    """A row of numbers, float32 (F,).

    Attributes:
        columns: of the file that the table comes from; empty where it comes from none.
        cardinalities: codes of each column of categories; these are the last columns of the input, as whole numbers.
    """

    modality = "table"
    unlabelled: ClassVar[tuple[str, ...]] = ("reconstruction", "density")

    columns: tuple[ColumnSchema, ...] = field(default=(), repr=False)
    cardinalities: tuple[int, ...] = ()

    @property
    def num_numeric(self) -> int:
        """Columns of numbers, which stand before those of categories."""
        return self.shape[0] - len(self.cardinalities)

    @classmethod
    @override
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, the columns among it."""
        columns = tuple(ColumnSchema(**frozen(ColumnSchema, column)) for column in values.get("columns", ()))
        return cls(**frozen(cls, values) | {"columns": columns})
