"""What a step of acting has taught, whichever way it is learned from."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Learned(NamedTuple):
    """Scalars without a gradient.

    Attributes:
        loss: mean over the updates of the weights; 0 where there was none.
        value_loss: the error of what was expected.
        exploration: the share of chance in the actions, from 0 to 1.
    """

    loss: Tensor
    value_loss: Tensor
    exploration: Tensor
