"""What families that start from trained nets have in common: what is frozen, learning rates by depth, sizes."""

from __future__ import annotations

from typing import Literal

from src.errors import UserError

Freeze = Literal["none", "head_only", "all"]
FREEZES = ("none", "head_only", "all")
REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError)  # by nets, of images' sizes


def check(freeze: str, lr_factor: float) -> None:
    """Check the options of fine-tuning.

    Raises:
        UserError: a value that there is not.
    """
    if freeze not in FREEZES:
        raise UserError(f"model.freeze={freeze}: none, head_only or all")
    if lr_factor <= 0:
        raise UserError(f"model.backbone_lr_factor={lr_factor}: above 0; to keep the backbone: model.freeze=head_only")


def reason(error: Exception) -> str:
    """The first line of an error, without its full stop, to stand within a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".!")


def wrong_size(name: str, sides: tuple[int, ...], error: Exception, usual: int) -> UserError:
    """The refusal of a net that cannot take images of this height and width."""
    size = "x".join(map(str, sides))
    return UserError(
        f"model.name={name} cannot take images of {size} ({reason(error)}); its usual size: model.resize={usual}"
    )
