"""Starting from a trained model: its weights where they fit, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from src.data.core.modality import modality_of
from src.errors import UserError
from src.spec import DataSpec
from src.training.weight_files import READERS, without_prefix

if TYPE_CHECKING:
    from src.models.base import Model


@dataclass(frozen=True)
class InitFrom:
    """Weights and tokenizer of a trained model, for another one to start from.

    Attributes:
        name: the run's id, or the checkpoint's path.
        weights: by name.
        tokenizer: definition of a `src.spec.tokenizer.Tokenizer`; empty where the model had none.
    """

    name: str
    weights: Mapping[str, Tensor]
    tokenizer: str

    @classmethod
    def read(cls, path: Path, name: str) -> InitFrom:
        """Read a checkpoint, or a file of weights; see src/training/weight_files.py.

        Raises:
            UserError: it is missing, damaged, or neither a checkpoint of this harness nor weights by name.
        """
        if not path.is_file():
            raise UserError(f"init_from={name}: there is no file {path}")
        if path.suffix in READERS:
            try:
                return cls(name, READERS[path.suffix](path), "")
            except (OSError, ValueError) as error:
                raise UserError(f"init_from={name}: {path} {getattr(error, 'strerror', None) or error}") from error
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            if is_state_dict(checkpoint):
                return cls(name, without_prefix(checkpoint), "")
            return cls(name, checkpoint["state_dict"], _tokenizer(checkpoint["labbook"]["spec"]))
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, UnpicklingError) as error:
            raise UserError(
                f"init_from={name}: {path} is damaged, or neither a checkpoint of this harness nor a state_dict"
            ) from error

    def hand_over(self, model: Model) -> str:
        """Load all weights whose name and shape fit; what else the model has stays as it is.

        Args:
            model: its `adapt_state_dict` cuts to size what may be cut.

        Returns:
            Summary of the weights that were loaded and that were not, in words.

        Raises:
            UserError: a weight before the head has another shape, or none has a name that the model knows.
        """
        try:
            weights = model.adapt_state_dict(self.weights)
        except UserError as error:
            raise UserError(f"init_from={self.name}: {error}") from None
        own = model.state_dict()
        fitting = {}
        for name, tensor in weights.items():
            if name not in own:
                continue
            if tensor.shape == own[name].shape:
                fitting[name] = tensor
            elif not name.startswith("head."):
                there, here = (" x ".join(map(str, t.shape)) for t in (tensor, own[name]))
                raise UserError(f"init_from={self.name}: {name} is {there} there and {here} here: choose equal sizes")
        if not fitting:
            known = ", ".join(list(weights)[:3])
            raise UserError(f"init_from={self.name}: no weight of that model ({known}, ...) is one of this model's")
        model.load_state_dict(fitting, strict=False)
        fresh = [name for name in own if name not in fitting]
        left = [name for name in weights if name not in fitting]
        text = f"{len(fitting)} of {len(own)} weights"
        text += f", fresh: {_short(fresh)}" if fresh else ""
        return text + (f", left: {_short(left)}" if left else "")


def _short(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _tokenizer(spec: Mapping[str, Any]) -> str:
    """The definition that a spec holds, as `DataSpec.to_dict` wrote it; empty where the data is no text."""
    return modality_of(DataSpec.from_dict(spec)).tokenizer


def is_state_dict(content: object) -> bool:
    """True if a file holds weights by name and nothing else, as `torch.save(model.state_dict())` writes them."""
    return isinstance(content, Mapping) and bool(content) and all(isinstance(one, Tensor) for one in content.values())
