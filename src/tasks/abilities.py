"""Abilities that only some models have: protocols that tasks and general code ask for with isinstance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Self, TypeGuard, runtime_checkable

from torch import Tensor, nn

from src.spec import DataSpec


class Attended(NamedTuple):
    """Attention between tokens, for pictures.

    Attributes:
        weights: (layers, B, heads, T, S), each row sums to 1 over S.
        queries, keys: ids of the tokens that attend (B, T) and are attended to (B, S).
    """

    weights: Tensor
    queries: Tensor
    keys: Tensor


class AttendedPatches(NamedTuple):
    """Attention between the patches of a row, for pictures.

    Attributes:
        weights: (layers, B, heads, P, P), each row sums to 1. Of more positions than the grid has, the additional ones
            stand first, and the head sees the first of these.
        grid: patches down and across an image, or along a series.
        patch_size: pixels each way, or steps, of a patch.
    """

    weights: Tensor
    grid: tuple[int, ...]
    patch_size: int


@runtime_checkable
class Attends(Protocol):
    """Has attention maps to look at."""

    def attention(self, batch: Mapping[str, Tensor]) -> Mapping[str, Attended | AttendedPatches]:
        """Attention between positions of raw rows, by the figure's name; empty where these options leave no maps."""
        ...


@runtime_checkable
class Generates(Protocol):
    """Writes texts."""

    def generate_texts(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...] | None:
        """Generate from raw rows: the tokens (B, P) that it starts from, those (B, L) that it writes, the same each
        time that the weights are the same, and, where there are such, the right ones (B, T). None where its task
        writes nothing. Leaves torch's random state alone.
        """
        ...


@runtime_checkable
class SearchesBeams(Protocol):
    """Keeps several beginnings of a text alive while it writes in test and prediction; `beam_size` may be changed."""

    beam_size: int


@runtime_checkable
class MakesImages(Protocol):
    """Makes images, of the rows that it is given or new ones."""

    def sample_images(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images (N, C, H, W) in [0, 1] by name; empty where the rows are no images. Draws come from torch's default
        generator of the model's device.
        """
        ...


@runtime_checkable
class Samples(Protocol):
    """Draws new rows from noise."""

    def draw(self, count: int, seed: int) -> Tensor:
        """Draw so many new images (N, C, H, W) in [0, 1], or rows (N, D): the same for the same seed."""
        ...


@runtime_checkable
class SamplesClasses(Protocol):
    """Draws new rows, of a class that is asked for where its option `conditional` is set."""

    conditional: bool

    def draw(self, count: int, seed: int, label: int | None = None) -> Tensor:
        """Draw rows as `Samples` does; `label` is their class."""
        ...

    def classes(self, count: int, label: int | None = None) -> Tensor:
        """The class of each of so many rows (N,), without a label all in turn."""
        ...


def is_conditional(model: object) -> TypeGuard[SamplesClasses]:
    """True if a model draws rows of a class that is asked for."""
    return isinstance(model, SamplesClasses) and model.conditional


@runtime_checkable
class Encodes(Protocol):
    """Sends rows through a code."""

    def code(self, x: Tensor) -> Tensor:
        """Codes (B, L) of raw rows, without noise."""
        ...

    def decode(self, code: Tensor) -> Tensor:
        """Rows that codes (B, L) stand for, in the unit of the target (B, D)."""
        ...

    def images(self, values: Tensor) -> Tensor:
        """Values (B, D) as images (B, C, H, W) in [0, 1]."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """Gives rows as vectors that can be compared."""

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings (B, E) of unit length of raw rows."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Acts in the environment of its spec."""

    spec: DataSpec

    def act(self, observations: Tensor, going: Sequence[int]) -> Tensor:
        """The best actions (B,), on the CPU, in the episodes of these numbers."""
        ...


@runtime_checkable
class EmbedsTokens(Protocol):
    """Looks its tokens up in a table of vectors, to which a prediction can be attributed."""

    def token_embedding(self) -> nn.Embedding:
        """Table of the vectors, one for each token of the vocabulary."""
        ...


@runtime_checkable
class LoadsPretrained(Protocol):
    """Starts from weights that its options name."""

    def load_pretrained(self) -> Self:
        """Load those weights, where its options name some; returns the model.

        Raises:
            UserError: they are not to be had, and where they should lie.
        """
        ...


@runtime_checkable
class MadeOfFiles(Protocol):
    """Is made of the file that its option `path` names. A run keeps a copy, by which it can be resumed and repeated."""

    def files(self) -> list[Path]:
        """That file, and those beside it that belong to it; of a model that a checkpoint made they may be gone."""
        ...


@runtime_checkable
class BringsTokenizer(Protocol):
    """Comes with a tokenizer of its own, which the data then uses."""

    @classmethod
    def pretrained_tokenizer(cls, **options: object) -> str:
        """Definition of the `Tokenizer` that belongs to weights which these options name; empty: the data's own serves.

        Raises:
            UserError: they have none, or are not to be had.
        """
        ...


@runtime_checkable
class Remarks(Protocol):
    """Makes something of its options that a person should know of."""

    def remarks(self) -> list[str]:
        """What that is, a line each."""
        ...


@runtime_checkable
class WritesKeras(Protocol):
    """Can be written as a model of Keras."""

    def write_keras(self, path: Path) -> None:
        """Write a `.keras` file that answers as the model does, from raw inputs.

        Raises:
            UserError: its task has answers that no such file gives.
        """
        ...


@runtime_checkable
class ExplainsInPart(Protocol):
    """Has options with which its predictions cannot be attributed to what it is given; other families have none."""

    def explanation_problem(self) -> str | None:
        """Reason why they cannot be with these options, as the end of a sentence; None where they can."""
        ...
