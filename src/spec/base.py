"""DataSpec: all that a model may know about its data, as plain values that travel in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class DataSpec:
    """What a dataset turned out to be once it was read. Every fitted number comes from the training split only.

    Attributes:
        name: the dataset's name, as in `data=NAME`.
        kind: what one example is: `table` (a row of numbers), `image`, `tokens` (ids, padded with 0 at the end),
            `series` (steps of one or more numbers), `pairs` (a source `tokens [EOS]` and a target
            `[BOS] tokens [EOS]`, both such ids of one vocabulary), `interactions` (codes of a user and an item, and
            the user's history) or `environment` (what is seen at the beginning of an episode, a row of numbers; the
            classes are the actions).
        tasks: the tasks that the data offers; the first one is its usual one.
        input_shape: shape of one example without the batch: `(F,)` for a table, `(C, H, W)` for an image, the
            largest `(T,)` for tokens and for the source of pairs, `(T, F)` for a series.
        sizes: rows in each part: `{"train": ..., "val": ..., "test": ...}`.
        class_names: one name a class; empty where there are no classes.
        class_counts: training rows of each class; empty where there are no classes.
        feature_names: the columns of a table or a series.
        input_mean, input_std: one number a channel or column, in the unit of the raw input; empty where the input
            is used as it is. Models apply them, so a checkpoint takes raw input.
        average: mean of each value of a row, flattened, over up to 2,000 training rows; in the place of each column of
            categories the share of each code. Empty where rows are not in memory, or hold more than 16,384 values.
        anomalies: classes that only the test split has.
        held_out_classes, val_classes: classes that only the test split, and only the validation split has (verification).
        levels: the largest value that a pixel of an image can have.
        target_mean, target_std: of a numeric target, in its own unit.
        tokenizer: definition of the `Tokenizer`; empty where there is no text.
        token_counts: how often each token occurs in the training split, in the order of their ids.
        characters_per_token: on average, in the training split.
        horizon: steps of a series to be forecast; 0 where nothing is.
        season: steps after which a series repeats itself; 0: none is known.
        differenced: the series is made of changes, so that no change is what the naive forecast is.
        naive_errors: of each channel that is forecast (they are the first ones of the input), the mean absolute error
            of its naive forecast, one season or step ahead, in the training split.
        target_length: tokens of the longest target of all parts, `[BOS]` and `[EOS]` included; 0 where there are none.
        columns: of a table from a file, what encodes a further one: each a `Column` of src/data/tables/schema.py as a dict.
        cardinalities: codes of each column of categories; these are the last columns of the input, as whole numbers.
        sound: of clips of sound, what made an image (1, frames, bands) of each: the arguments of `LogMel` in
            src/data/audio/features.py; empty for all else.
        boxes: of images with objects: `mean`, the mean box of each class in the training split, in pixels of the input,
            and `most` objects in one image; empty for all else.
        crop: shares of a picture's height that are cut off at its top and bottom before it is scaled; empty: nothing.
        environment: of data to act in, what makes it anew: `name`, `max_steps` of an episode, and how many `copies` are
            stepped side by side in training; empty for all else.
        train_fraction: of the training split that was used; all else here is of that share.
        users, items: of interactions, the ids that the training split has: the code of the first is 1. 0 is any other.
        item_names: of each item, what a person calls it; empty where only ids are known.
        interactions: of the training split, as `src.spec.interactions.Interactions` packs them.
        rating_range: the smallest and the largest rating of the training split.
        sha256: fingerprint of all rows and targets.
    """

    name: str
    kind: str
    tasks: tuple[str, ...]
    input_shape: tuple[int, ...]
    sizes: Mapping[str, int]
    class_names: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    feature_names: tuple[str, ...] = ()
    input_mean: tuple[float, ...] = ()
    input_std: tuple[float, ...] = ()
    average: tuple[float, ...] = field(default=(), repr=False)
    anomalies: tuple[str, ...] = ()
    held_out_classes: tuple[str, ...] = ()
    val_classes: tuple[str, ...] = ()
    levels: int = 255
    target_mean: float = 0.0
    target_std: float = 1.0
    tokenizer: str = field(default="", repr=False)
    token_counts: tuple[int, ...] = field(default=(), repr=False)
    characters_per_token: float = 1.0
    horizon: int = 0
    season: int = 0
    differenced: bool = False
    naive_errors: tuple[float, ...] = ()
    target_length: int = 0
    columns: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    cardinalities: tuple[int, ...] = ()
    sound: dict[str, Any] = field(default_factory=dict)
    boxes: dict[str, Any] = field(default_factory=dict, repr=False)
    crop: tuple[float, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    train_fraction: float = 1.0
    users: tuple[str, ...] = field(default=(), repr=False)
    items: tuple[str, ...] = field(default=(), repr=False)
    item_names: tuple[str, ...] = field(default=(), repr=False)
    interactions: str = field(default="", repr=False)
    rating_range: tuple[float, ...] = ()
    sha256: str = field(default="", repr=False)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers only, so that `torch.load(..., weights_only=True)` reads them back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataSpec:
        known = {f.name for f in fields(cls)}
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in known})
