"""Modality: the methods by which general code handles one modality of data, and the registry of modalities by name.

A modality of this package stands in `modality.py` of its folder, which is found by reading and imported when data of
it is met; one from outside is known once the module that registers it is imported.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from src.errors import UserError
from src.spec import DataSpec, InputSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from src.data.core.chunks import Split
    from src.data.core.inputs import Inputs
    from src.data.core.lazy import Column
    from src.data.core.module import DataModule
    from src.plots.base import Figure

REGISTRATION = re.compile(r'^@register_modality\("(\w+)"\)\nclass (\w+)', re.MULTILINE)
SHOWN_ROWS = 5  # of a sample that is printed


class Field(NamedTuple):
    """A column that a served model takes: numbers, or texts."""

    name: str
    numeric: bool
    required: bool = False


@dataclass(frozen=True)
class Listing:
    """Rows to be printed under headings.

    Attributes:
        numbers: headings whose cells stand flush right.
        rows: cells as text.
        what: the rows are.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[str] = ()
    what: str = "rows"


@dataclass(frozen=True)
class Source:
    """Source of new rows for a trained model.

    Attributes:
        path: a file or a folder.
        text: one text instead of it.
        options: how it is read, by name; all of them are among `Modality.options`.
        trained: options of the data that the model was trained on.
        whose: what messages call the data of that model.
    """

    path: Path = Path()
    text: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    trained: Mapping[str, Any] = field(default_factory=dict)
    whose: str = "such data"


class Modality:
    """Handling of one modality of data by general code. The defaults say that there is nothing to show or to do.

    Class attributes: `takes_text`, whether a new row may be one text; `is_image`, whether a row is an image (C, H, W)
    for people to look at; `is_drawn`, whether `draw` makes a figure of some rows; `is_stored`, whether rows are there
    before a model is, and can be checked.
    """

    takes_text: ClassVar[bool] = False
    is_image: ClassVar[bool] = False
    is_drawn: ClassVar[bool] = True
    is_stored: ClassVar[bool] = True

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec

    @property
    def tokenizer(self) -> str:
        """Definition of the `Tokenizer` that made the rows; empty: none did."""
        return ""

    # new rows for a trained model -----------------------------------------------------------------------------------

    def options(self, path: Path) -> tuple[str, ...]:
        """Names of the options for reading this file or folder."""
        return ()

    def inputs(self, source: Source) -> Inputs:
        """Read rows of a file or a folder, or one text.

        Raises:
            UserError: such data has no form as a file, or an option has a value that cannot be.
        """
        raise UserError(f"{source.whose} has no form as a file")

    def from_memory(self, rows: Any, folder: Path) -> Inputs:
        """Read rows that a program hands over, by the code that reads files, so that they mean the same.

        Args:
            rows: an array (N, ...) of raw values; of some modalities a DataFrame or a list of texts.
            folder: for a file in between, to stay until the rows are read.

        Raises:
            UserError: such data cannot be handed over.
        """
        raise UserError(f"rows of {self.spec.modality} data cannot be handed over")

    def signature(self) -> list[Field] | None:
        """Columns that a served model takes; None: an array (N, ...) of raw values."""
        return None

    def example(self, count: int) -> Tensor:
        """Raw rows (count, ...) of the right shape and type, whatever their values."""
        import torch  # noqa: PLC0415 (the registry is read before torch is needed)

        return torch.zeros(count, *self.spec.input_shape)

    def padded(self, rows: Tensor) -> Tensor:
        """Raw rows (N, ...), which may be shorter, in the full shape that an exported program takes."""
        return rows

    # the data in words ----------------------------------------------------------------------------------------------

    def describe(
        self, splits: Mapping[str, Split], described: Mapping[str, Any], times: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        """Facts that only such data has, as (name, value).

        Args:
            described: as `DataModule.describe()` gives it.
            times: of a series, a text for each row.
        """
        yield from ()

    def columns(self, described: Mapping[str, Any]) -> Listing | None:
        """Table of the facts known about each column; None if the data has no columns."""
        return None

    def listing(self, data: DataModule) -> Listing | None:
        """Some training rows to be read; None where they are drawn instead."""
        return None

    def draw(self, data: DataModule) -> Figure | None:
        """Figure of some training rows; None: they are columns, of which histograms say most."""
        return None

    def content(self, inputs: Tensor) -> list[dict[str, str]]:
        """Content of each raw row (N, ...) as text, by column of a csv file; empty if text cannot show it."""
        return [{} for _ in inputs]

    # columns --------------------------------------------------------------------------------------------------------

    def column_names(self, count: int) -> list[str]:
        """Names of `count` columns; their numbers if they have none."""
        return list(self.spec.input.feature_names) or [f"column {place}" for place in range(count)]

    def column_rows(self, train: Split) -> Tensor | Column | None:
        """Training rows (N, F), if they are columns that can be looked at one by one; else None."""
        return None

    def numeric_columns(self, count: int) -> int:
        """Number of numeric columns among `count` columns; those of categories come last."""
        return count

    def units(self, count: int) -> tuple[list[float], list[float]]:
        """Mean and deviation by which each of the numeric columns was standardised when it was read."""
        return [0.0] * count, [1.0] * count

    def categories(self) -> dict[str, list[str]]:
        """Names of the codes of each categorical column."""
        return {}

    def may_be_constant(self) -> Collection[str]:
        """Columns that may well have one value only."""
        return ()

    @property
    def outlier_remedy(self) -> str:
        """Remedy for outliers, as the end of a sentence; empty if there is none."""
        return ""

    @property
    def shares_rows(self) -> bool:
        """True if rows of different splits share values by design."""
        return False

    # images ---------------------------------------------------------------------------------------------------------

    def upright(self, values: np.ndarray) -> np.ndarray:
        """Turn images (..., H, W), or maps over them, the way a person looks at them."""
        return values

    @property
    def axes(self) -> str:
        """Description of an image's axes; empty if it needs none."""
        return ""

    # what attributions may remove -----------------------------------------------------------------------------------

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods of `src.analysis.explain.attribution` that serve; empty: predictions are not explained."""
        return ()

    @property
    def is_embedded(self) -> bool:
        """True if rows are codes for which a model looks up vectors: there is no gradient through a code."""
        return False

    def baseline(self, x: Tensor, mean: Tensor | None) -> Tensor:
        """Input that stands for an absent one, (1, ...) or in the shape of the raw rows x (B, ...).

        Args:
            mean: of the training rows, in a shape that goes with x; None where the data comes in standard units.
        """
        return x.new_zeros(x[:1].shape) if mean is None else mean.to(x).expand_as(x[:1]).clone()

    def removable(self, x: Tensor) -> Tensor:
        """Mask of the cells (B, ...) of raw rows whose content can be removed."""
        import torch  # noqa: PLC0415 (the registry is read before torch is needed)

        return torch.ones_like(x, dtype=torch.bool)

    def spread(self, mask: Tensor, x: Tensor) -> Tensor:
        """Expand a mask of cells (B, cells) to all numbers of the raw rows x (B, ...)."""
        return mask.view(x.shape)

    def groups(self, x: Tensor) -> Tensor | None:
        """Number (1, ...) of the group in which each number of a row is removed; None: each by itself."""
        return None

    def per_cell(self, values: Tensor) -> Tensor:
        """Attributions of cells, from those of all numbers of some rows (B, ...)."""
        return values

    def cell_names(self, x: Tensor) -> list[list[str]]:
        """For each raw row the names of its cells, the padding left out."""
        return [self.column_names(self.spec.input_shape[-1])] * len(x)

    @property
    def has_columns(self) -> bool:
        """True if a cell means the same in all rows, so that attributions can be averaged over rows."""
        return False

    def draw_attributions(self, x: Tensor, found: Mapping[str, Tensor], titles: Sequence[str]) -> Figure:
        """Figure of raw rows (N, ...) and what their predictions rest on: red speaks for a prediction, blue against it.

        Args:
            found: attributions (N, cells) by method.
            titles: of the N rows.
        """
        raise NotImplementedError(f"{type(self).__name__}.draw_attributions")


# registry -------------------------------------------------------------------------------------------------------------

M = TypeVar("M", bound=type[Modality])
_registered: dict[str, type[Modality]] = {}


def register_modality(name: str) -> Callable[[M], M]:
    """Make a subclass of Modality serve all data whose input spec says that this is its modality.

    Raises:
        ValueError: another class serves it.
    """

    def register(cls: M) -> M:
        known = _registered.get(name)
        own = f"{cls.__module__}.{cls.__qualname__}"
        taken = built_in().get(name) if known is None else f"{known.__module__}.{known.__qualname__}"
        if taken not in (None, own):
            raise ValueError(f"the modality {name} is {taken}: {own} needs a name of its own")
        _registered[name] = cls
        return cls

    return register


@cache
def built_in() -> dict[str, str]:
    """Modalities in the folders of src/data, with the dotted names of their classes; imports none."""
    found = {}
    package = __name__.rpartition(".core.")[0]
    for path in sorted(Path(__file__).parents[1].glob("*/modality.py")):
        for name, cls in REGISTRATION.findall(path.read_text(encoding="utf-8")):
            found[name] = f"{package}.{path.parent.name}.modality.{cls}"
    return found


def modality_class(inputs: type[InputSpec]) -> type[Modality]:
    """Class that handles data of such inputs: that of the modality they name, else of the class they are derived from.

    Inputs that none serves are served by `Modality` itself, which knows of nothing but numbers.
    """
    for cls in inputs.__mro__:
        name = vars(cls).get("modality", "")
        if name and name not in _registered and name in built_in():
            importlib.import_module(built_in()[name].rpartition(".")[0])
        if name in _registered:
            return _registered[name]
    return Modality


def modality_of(spec: DataSpec) -> Modality:
    """Handling of data of this spec."""
    return modality_class(type(spec.input))(spec)
