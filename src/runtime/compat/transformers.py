"""Private members of Hugging Face's models. Tested with transformers >=5,<6.

They are read from the objects alone, so this file imports nothing of the library.
"""

from __future__ import annotations

from typing import Any

TESTED = ">=5,<6"
DEFAULT_ATTENTION = "sdpa"


def attention_implementation(settings: Any) -> str:
    """Implementation of attention in a model's configuration; the library's default where that does not say."""
    return getattr(settings, "_attn_implementation", DEFAULT_ATTENTION)


def is_stateful(model: Any) -> bool:
    """True if a model keeps a state that a cache of keys and values cannot hold, as Mamba does.

    True for one that does not say: it then reads the whole text for each token, which is slower and always right.
    """
    return bool(getattr(model, "_is_stateful", True))
