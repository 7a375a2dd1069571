"""LoRA: beside a frozen matrix the product of two thin ones learns (Hu et al. 2021, arXiv:2106.09685), by peft."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from src.errors import UserError, suggest
from src.models.components.huggingface import quiet, require

OPTIONS = {"rank": 0, "alpha": 16, "dropout": 0.0, "targets": "auto"}


def options(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """All options of LoRA: those given, and defaults for the rest.

    Raises:
        UserError: an unknown one, or a value out of its range.
    """
    given = given or {}
    for key in given:
        if key not in OPTIONS:
            raise UserError(f"model.lora.{key}: LoRA has no such option{suggest(key, OPTIONS)}")
    found = OPTIONS | dict(given)
    rank, alpha, dropout, targets = found.values()
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 0:
        raise UserError(f"model.lora.rank={rank}: a whole number, 0 for none")
    if not isinstance(alpha, int | float) or alpha <= 0:
        raise UserError(f"model.lora.alpha={alpha}: a number above 0")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise UserError(f"model.lora.dropout={dropout}: a share from 0 up to 1")
    if not isinstance(targets, str) and not (isinstance(targets, list) and all(isinstance(t, str) for t in targets)):
        raise UserError(f"model.lora.targets={targets}: auto, or names of layers [query,value]")
    return found


def add(net: nn.Module, model_type: str, *, rank: int, alpha: float, dropout: float, targets: str | list[str]) -> None:
    """Freeze a net and add the thin matrices to its layers of these names, in place. It begins unchanged.

    Args:
        model_type: transformers' name of the architecture; `auto` takes the layers usual for it, or all linear ones.

    Raises:
        UserError: no layer has such a name.
    """
    require("peft", "model.lora.rank above 0")
    from peft import LoraConfig, inject_adapter_in_model
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL
    from transformers.pytorch_utils import Conv1D

    layers = {name.rpartition(".")[2] for name, m in net.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    if targets == "auto":
        chosen = [name for name in USUAL.get(model_type, ()) if name in layers] or "all-linear"
    else:
        chosen = [targets] if isinstance(targets, str) else list(targets)
        for name in chosen:
            if name.rpartition(".")[2] not in layers:
                raise UserError(f"model.lora.targets: {model_type} has no layer {name}{suggest(name, layers)}")
    options: dict[str, Any] = {"lora_alpha": alpha}  # any number, which peft's annotation does not say
    config = LoraConfig(r=rank, lora_dropout=dropout, target_modules=chosen, **options)
    try:
        with quiet():
            inject_adapter_in_model(config, net)
    except ValueError as error:
        raise UserError(f"model.lora.targets={targets}: {str(error).splitlines()[0][:160]}") from None


def plain(name: str) -> str | None:
    """Name of a weight before `add`; None for those of the thin matrices."""
    return None if ".lora_" in name else name.replace(".base_layer.", ".")
