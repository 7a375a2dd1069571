"""Mean average precision of detected boxes as COCO defines it (Lin et al. 2014, arXiv:1405.0312), without its compiled
package: greedy matching in the order of the scores, precision interpolated at 101 recalls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

THRESHOLDS = torch.arange(50, 100, 5) / 100  # of the overlap from which on a box counts as found
RECALLS = torch.arange(101, dtype=torch.float64) / 100
NAMED = 20  # classes: with more, the test has no figure for each


class MeanAveragePrecision(tm.Metric):
    """`map`, the mean over classes and ten overlaps from 0.50 to 0.95, and `map50`, at an overlap of 0.50 alone.

    Classes that no image has do not count; without any box both are not a number.

    Args:
        class_names: one a class.
        each: also `ap50_CLASS` of every class, where they are few.
    """

    full_state_update = False
    found: list[Tensor]
    boxes: Tensor

    def __init__(self, class_names: Sequence[str], each: bool = False) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.each = each and len(class_names) <= NAMED
        self.add_state("found", [], dist_reduce_fx="cat")  # (K, 2 + T): class, score, whether it is right at each T
        self.add_state("boxes", torch.zeros(len(class_names), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Takes detections (B, D, 6) as `x1 y1 x2 y2 score class` and the right boxes (B, M, 5) as `x1 y1 x2 y2 class`;
        in both a class of -1 is padding.
        """
        prediction = prediction.float()
        prediction = prediction.gather(
            1, prediction[..., 4:5].argsort(dim=1, descending=True, stable=True).expand(-1, -1, 6)
        )
        right = matched(prediction, target.float(), THRESHOLDS.to(prediction.device))
        rows = torch.cat([prediction[..., [5, 4]], right.float()], dim=2).flatten(0, 1)
        self.found.append(rows[rows[:, 0] >= 0])
        labels = target[..., 4].flatten().long()
        self.boxes += torch.bincount(labels[labels >= 0], minlength=len(self.class_names))

    @override
    def compute(self) -> dict[str, Tensor]:
        """Average precisions by name, scalars in double precision."""
        found = torch.cat(self.found) if isinstance(self.found, list) else self.found
        found, boxes = found.cpu(), self.boxes.cpu()
        precision = torch.full((len(boxes), len(THRESHOLDS)), torch.nan, dtype=torch.float64)
        for label in boxes.nonzero().squeeze(1).tolist():
            own = found[found[:, 0] == label]
            precision[label] = average_precision(own[:, 1], own[:, 2:] > 0, int(boxes[label]))
        values = {"map": precision.nanmean(), "map50": precision[:, 0].nanmean()}
        if self.each:
            named = zip(metric_names(self.class_names), precision[:, 0], strict=True)
            values |= {f"ap50_{name}": value for name, value in named}
        return values


def matched(prediction: Tensor, target: Tensor, thresholds: Tensor) -> Tensor:
    """Mark each detection (B, D, 6), the most certain first, that is right: bool (B, D, T).

    In their order each takes the box of its class that it overlaps most, of those that none before it took, if it
    overlaps it by a threshold (T,) or more.
    """
    from torchvision.ops import box_iou  # noqa: PLC0415 (a run of any other task would wait for it)

    if not len(prediction) or not prediction.shape[1] or not target.shape[1]:
        return torch.zeros(*prediction.shape[:2], len(thresholds), dtype=torch.bool, device=prediction.device)
    same = (prediction[..., 5:6] == target[:, None, :, 4]) & (target[:, None, :, 4] >= 0)  # (B, D, M)
    overlap = torch.stack([box_iou(a[:, :4], b[:, :4]) for a, b in zip(prediction, target, strict=True)])
    overlap = overlap.nan_to_num(0).where(same, -1)
    free = torch.ones(len(thresholds), len(target), target.shape[1], dtype=torch.bool, device=target.device)
    right = []
    places = torch.arange(target.shape[1], device=target.device)
    last = int((prediction[..., 5] >= 0).sum(1).max())
    for one in overlap[:, :last].unbind(1):
        best, place = one.expand_as(free).where(free, -1).max(2)  # (T, B)
        hit = best >= thresholds.unsqueeze(1)
        free = free & ~(hit.unsqueeze(2) & (places == place.unsqueeze(2)))
        right.append(hit.T)
    rest = prediction.shape[1] - last
    none = torch.zeros(len(prediction), rest, len(thresholds), dtype=torch.bool, device=prediction.device)
    return torch.cat([torch.stack(right, 1), none], 1) if right else none


def average_precision(scores: Tensor, right: Tensor, boxes: int) -> Tensor:
    """Average precision of one class at each overlap (T,): the mean of the best precisions at 101 recalls or more.

    Args:
        scores: of all its detections in all images (K,).
        right: whether they are, at each overlap (K, T).
        boxes: that there are to be found.
    """
    right = right[scores.argsort(descending=True, stable=True)]
    hits = right.cumsum(0).double()
    recall = hits / boxes
    precision = hits / torch.arange(1, len(hits) + 1, dtype=torch.float64).unsqueeze(1)
    precision = precision.flip(0).cummax(0).values.flip(0) if len(precision) else precision
    place = torch.searchsorted(recall.T.contiguous(), RECALLS.expand(right.shape[1], -1).contiguous())  # (T, 101)
    padded = torch.cat([precision, precision.new_zeros(1, right.shape[1])])
    return padded.T.gather(1, place).mean(1)


def metric_names(names: Sequence[str]) -> list[str]:
    """Classes as parts of a metric's name, told apart by their numbers where they would be the same."""
    plain = [re.sub(r"[^\w.-]", "_", name, flags=re.ASCII) for name in names]
    return [f"{name}_{i}" if plain.count(name) > 1 else name for i, name in enumerate(plain)]
