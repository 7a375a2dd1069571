"""Detection: which objects an image has, and where: boxes with classes and scores.

The loss of dense predictions is that of FCOS (Tian et al. 2019, arXiv:1904.01355), with the quality of the box inside
the class score (Li et al. 2020, "Generalized focal loss", arXiv:2006.04388) and the generalised overlap of the boxes
(Rezatofighi et al. 2019, arXiv:1902.09630). Boxes are `x1 y1 x2 y2` in pixels of the model's input.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

from src.metrics.detection import MeanAveragePrecision
from src.metrics.modes import modes
from src.spec import Boxes, DataSpec
from src.tasks.base import Batch, Loss, StepOutput, Task
from src.tasks.detection.view import BoxView
from src.tasks.registry import register_task

FOUND = 6  # columns of a detection: x1 y1 x2 y2 score class
PLACE = 7  # columns of a dense prediction before its logits: a box, and x y stride of the place that predicts it
MOST = 100  # detections of an image, as COCO counts them
CANDIDATES = 1_000  # of which overlapping ones are left out
LEAST = 0.02  # score of a candidate
OVERLAP = 0.6  # of two detections of one class, above which the less certain one is left out
RADIUS = 1.5  # strides around its centre in which a box is predicted
SPAN = 8.0  # strides that the longer side of a box takes at most, but for those of the coarsest level
BOX_WEIGHT = 2.0


@register_task("detection")
class Detection(Task):
    """Outputs are one of two. Dense ones (B, L, 7 + C): at each of L places a box, the place's x, y and stride, and a
    logit for each class. Or, of a model with a loss of its own, (B, 1 + D, 6): detections, and before them a line
    that begins with the loss of the image.

    A batch has `boxes` (B, M, 4), padded with zeros, and `labels` (B, M), padded with -1. Detections are (B, D, 6), the
    most certain first: a box, its score and its class, padded with a score of 0 and a class of -1.

    Beside it stands one box a class, the mean of the training split, found in each image.
    """

    answer_per_row = False
    one_pass = False
    monitor = "map50"
    metric_modes = modes("loss", "map", "map50")
    view_class = BoxView

    def __init__(self, spec: DataSpec, loss: Loss | None = None) -> None:
        super().__init__(spec, loss)
        self.num_outputs = PLACE + spec.num_classes

    @override
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        if outputs.shape[-1] == FOUND:
            return outputs[:, 0, 0].mean()
        return dense_losses(outputs, batch["boxes"], batch["labels"]).mean()

    @override
    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        loss, target = self.loss(outputs, batch), self.target(batch)
        if self.training:  # no metric is worth the time that finding the boxes takes
            return StepOutput(loss, outputs.new_zeros(len(target), 0), target[:, :0])
        return StepOutput(loss, self.predict(outputs.detach()), target)

    def target(self, batch: Batch) -> Tensor:
        """(B, M, 5): boxes and their classes."""
        boxes = batch["boxes"]
        return torch.cat([boxes, batch["labels"].unsqueeze(2).to(boxes.dtype)], dim=2)

    @override
    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    def predict(self, outputs: Tensor) -> Tensor:
        """Detections (B, D, 6)."""
        if outputs.shape[-1] == FOUND:
            return outputs[:, 1:].float()
        height, width = self.spec.input_shape[1:]
        return torch.stack([found(image, (height, width)) for image in outputs.float()])

    @override
    def decode_for_display(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Detections (B, D, 6), and the right boxes with their classes (B, M, 5) where the batch has them."""
        return self.predict(outputs), self.target(batch) if "boxes" in batch else None

    @override
    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """Refuse: an image has any number of boxes, which are no columns of one row."""
        raise NotImplementedError("an image has any number of boxes: see src/tasks/detection/view.py")

    @override
    def metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection([MeanAveragePrecision(self.spec.class_names)])

    @override
    def test_metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection([MeanAveragePrecision(self.spec.class_names, each=True)])

    @override
    def training_metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({})

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """One box a class (N, C, 6): the mean of the training split, the most frequent class first."""
        counts = torch.tensor(self.spec.class_counts, dtype=target.dtype)
        score = counts / counts.sum().clamp(min=1)
        label = torch.arange(len(counts)).to(target.dtype)
        mean = torch.tensor(self.spec.target_as(Boxes).mean_boxes, dtype=target.dtype).view(-1, 4)
        rows = torch.cat([mean, score.unsqueeze(1), label.unsqueeze(1)], dim=1)
        return rows[score.argsort(descending=True)].to(target.device).expand(len(target), -1, -1)


def found(outputs: Tensor, size: tuple[int, int]) -> Tensor:
    """Detections (MOST, 6) of one image of this height and width, from its dense outputs (L, 7 + C)."""
    from torchvision.ops import batched_nms  # noqa: PLC0415 (a run of any other task would wait for it)

    scores = outputs[:, PLACE:].sigmoid()
    top, place = scores.flatten().topk(min(CANDIDATES, scores.numel()))
    place = place[top > LEAST]
    top = top[: len(place)]
    boxes, label = outputs[place // scores.shape[1], :4], place % scores.shape[1]
    height, width = size
    boxes = torch.stack([boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)], dim=2).flatten(1)
    kept = batched_nms(boxes, top, label, OVERLAP)[:MOST]
    rows = torch.cat([boxes, top.unsqueeze(1), label.unsqueeze(1).to(top.dtype)], dim=1)[kept]
    return padded(rows, MOST)


def padded(rows: Tensor, count: int) -> Tensor:
    """Detections (D, 6) as (count, 6)."""
    filling = rows.new_zeros(count - len(rows), FOUND)
    filling[:, 5] = -1
    return torch.cat([rows, filling])


# the loss of dense predictions ---------------------------------------------------------------------------------------


def dense_losses(outputs: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
    """Loss of each image (B,): of the class scores at all places and of the boxes at those that have one, both divided
    by the number of the latter, so that an image's loss does not depend on the others.

    Args:
        outputs: dense ones (B, L, 7 + C).
        boxes: (B, M, 4).
        labels: (B, M), -1 for padding.
    """
    place, some = assigned(outputs[..., 4:PLACE].detach(), boxes, labels)
    target = boxes.gather(1, place.unsqueeze(2).expand(-1, -1, 4))
    label = labels.gather(1, place)
    overlap, generalised = paired_iou(outputs[..., :4], target)
    logits = outputs[..., PLACE:]
    # at places without a box the class scores aim at 0, else that of the box's class at how well the box fits
    of_class = torch.arange(logits.shape[2], device=logits.device) == label.unsqueeze(2)
    quality = (of_class & some.unsqueeze(2)) * overlap.detach().unsqueeze(2)
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    scores = (entropy * (quality - logits.sigmoid()).square()).sum((1, 2))
    fit = ((1 - generalised) * some).sum(1)
    return (scores + BOX_WEIGHT * fit) / some.sum(1).clamp(min=1)


def assigned(places: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The box of each place (B, L), and whether it has one: of those whose centre is near and whose size fits the
    stride, the smallest.

    Args:
        places: x, y and stride of each (B, L, 3).
        boxes, labels: as of `dense_losses`.
    """
    point, stride = places[..., None, :2], places[..., 2:]  # (B, L, 1, 2), (B, L, 1)
    low, high = boxes[:, None, :, :2], boxes[:, None, :, 2:]  # (B, 1, M, 2)
    sides = high - low
    # inside, or in a box that is less than a stride wide, nearer to its centre than to that of any other place
    reach = torch.minimum(torch.maximum(sides, stride.unsqueeze(3)) / 2, RADIUS * stride.unsqueeze(3))
    near = ((point - (low + high) / 2).abs() <= reach).all(3)
    longer = sides.amax(3)
    finest, coarsest = stride.amin(1, keepdim=True), stride.amax(1, keepdim=True)
    fits = (longer > SPAN / 2 * stride) | (stride == finest)
    fits &= (longer <= SPAN * stride) | (stride == coarsest)
    smallest, place = _area(sides).expand_as(near).where(near & fits & (labels >= 0).unsqueeze(1), torch.inf).min(2)
    return place, smallest.isfinite()


def paired_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union (...) of boxes (..., 4) and (..., 4), and the generalised one, which falls with the
    distance of boxes that do not meet. torchvision's picks those that meet, for which a GPU would have to be waited.
    """
    inner = _area((torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0))
    outer = _area(torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2]))
    union = _area(a[..., 2:] - a[..., :2]) + _area(b[..., 2:] - b[..., :2]) - inner
    overlap = inner / union.clamp(min=1e-6)
    return overlap, overlap - (outer - union) / outer.clamp(min=1e-6)


def _area(sides: Tensor) -> Tensor:
    # not prod(), whose gradient looks for zeros first
    return sides[..., 0] * sides[..., 1]
