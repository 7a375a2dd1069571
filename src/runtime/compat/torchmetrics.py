"""A private member of torchmetrics: how many updates a metric has seen. Tested with torchmetrics >=1.8,<1.10."""

from __future__ import annotations

import warnings

from torchmetrics import Metric

TESTED = ">=1.8,<1.10"
_WARNING = r"The ``compute`` method of metric .* was called before the ``update`` method"


def mark_updated(metric: Metric) -> None:
    """Has a metric whose state was restored compute without the warning that it saw no update.

    Where the count has another name in this version the warning itself is left out.
    """
    if hasattr(metric, "_update_count"):
        metric._update_count = 1
    else:
        warnings.filterwarnings("ignore", _WARNING, UserWarning)
