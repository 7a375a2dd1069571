"""Options that datasets have in common, once: `**common: Unpack[SplitOptions]` hands them on to `DataModule`.

What they mean and their default values stand there; a dataset that differs says so by `with_defaults`. The keys in
conf/data/_common.yaml, _split.yaml and _images.yaml are these. src/config/signature.py reads them from this source.
"""

from __future__ import annotations

from typing import Annotated, Any, TypedDict, TypeVar, cast

from annotated_types import Gt, Lt

from src.runtime.ranges import NonNegativeInt, PositiveInt

Fraction = Annotated[float, Gt(0), Lt(1)]


class LoaderOptions(TypedDict, total=False):
    """How rows become batches."""

    seed: int
    batch_size: PositiveInt
    eval_batch_size: PositiveInt
    num_workers: NonNegativeInt
    on_device: bool
    drop_last: bool


class SplitOptions(LoaderOptions, total=False):
    """The same, of rows that are split at random."""

    val_fraction: Fraction
    test_fraction: Fraction
    split_seed: int


OptionsT = TypeVar("OptionsT", bound=LoaderOptions)


def with_defaults(options: OptionsT, **defaults: Any) -> OptionsT:
    """Options as they are given, and values of a dataset's own for those that are not."""
    return cast(OptionsT, {**defaults, **options})
