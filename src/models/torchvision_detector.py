"""torchvision's detectors by name, with their own losses: Faster R-CNN (Ren et al. 2015, arXiv:1506.01497), RetinaNet,
FCOS, SSD and SSDlite (https://pytorch.org/vision/stable/models.html#object-detection).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import override

from src.errors import UserError, suggest
from src.models.base import Model
from src.models.components.layers import BatchNorm2d
from src.spec import DataSpec, ImageSpec
from src.tasks import Task
from src.tasks.detection.task import FOUND, LEAST, MOST, padded


class TorchvisionDetector(Model):
    """A net of torchvision's with the data's classes. Grey images are repeated for red, green and blue. With `weights`
    images are normalised as those were trained. Training counts boxes in Python and draws some of them, so there is no
    graph to be compiled or exported.

    In training all images of a batch share its loss; in evaluation each is taken alone, with the same draws each time.

    Args:
        spec: what the data is; input (C, H, W) with 1 or 3 channels.
        task: detection.
        name: of torchvision.models.list_models(module=torchvision.models.detection) that finds boxes.
        weights: pretrained weights that training starts from, such as DEFAULT, fetched once into torch's own cache:
            all that fit, so not those of the classes; null: random ones.
        resize: pixels that the shorter side of an image is scaled to, of nets that take any size; null: as it is.

    Raises:
        UserError: an unknown name or weights.
    """

    inputs = (ImageSpec,)
    channels = (1, 3)
    tasks = ("detection",)
    heads = ("net.head.", "net.roi_heads.")
    static_graph = False  # boxes are counted in Python, and some of them drawn

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        name: str = "fasterrcnn_mobilenet_v3_large_320_fpn",
        weights: str | None = None,
        resize: Annotated[int, Ge(16)] | None = None,
    ) -> None:
        net: Any = _built(name, weights, resize, spec)  # each net of torchvision has members of its own
        if weights is not None:
            mean, std = (
                tuple(value * spec.input_as(ImageSpec).levels for value in values)
                for values in (net.transform.image_mean, net.transform.image_std)
            )
            spec = spec.with_input(mean=mean, std=std)
        super().__init__(spec, task)
        # normalize() does it
        net.transform.image_mean, net.transform.image_std = [0.0] * 3, [1.0] * 3
        for norm in net.modules():
            if type(norm) is nn.BatchNorm2d:
                norm.__class__ = BatchNorm2d  # the same layer, but for batches of one value a channel
        self.name, self.weights, self.net = name, weights, net

    def forward(self, x: Tensor) -> Tensor:
        """Raw images (B, C, H, W) to a line of zeros and detections (B, 1 + D, 6); see src/tasks/detection/task.py."""
        return self.outputs({"input": x})

    @override
    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        images = list(self.normalize(batch["input"]).expand(-1, 3, -1, -1))
        wanted = self._wanted(batch) if "boxes" in batch else [None] * len(images)
        if self.net.training:
            return self._line(self._loss(images, wanted)).expand(len(images), -1, -1)
        rows = []
        for image, target in zip(images, wanted, strict=True):
            loss = image.new_zeros(())
            if target is not None and not self.training:  # which is set while flops are counted
                loss = self._alone(image, target)
            (found,) = self.net([image])
            columns = [found["boxes"], found["scores"].unsqueeze(1), found["labels"].unsqueeze(1) - 1]
            detections = padded(torch.cat([column.float() for column in columns], dim=1), MOST)
            rows.append(torch.cat([self._line(loss), detections.unsqueeze(0)], dim=1))
        return torch.cat(rows)

    @staticmethod
    def _line(loss: Tensor) -> Tensor:
        """The loss as the first line (1, 1, 6) of outputs."""
        return torch.nn.functional.pad(loss.float().view(1, 1, 1), (0, FOUND - 1))

    def _loss(self, images: list[Tensor], targets: list[Any]) -> Tensor:
        return torch.stack([loss.float() for loss in self.net(images, targets).values()]).sum()

    def _alone(self, image: Tensor, target: dict[str, Tensor]) -> Tensor:
        """Loss of an image in evaluation: the net draws samples, its normalisation and its dropout learn nothing."""
        parts = [m for m in (self.net, getattr(self.net, "rpn", None), getattr(self.net, "roi_heads", None)) if m]
        devices = [image.device] if image.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            for part in parts:
                part.training = True  # of itself alone
            try:
                return self._loss([image], [target])
            finally:
                for part in parts:
                    part.training = False

    @staticmethod
    def _wanted(batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        return [
            {"boxes": boxes[labels >= 0].float(), "labels": labels[labels >= 0] + 1}
            for boxes, labels in zip(batch["boxes"], batch["labels"], strict=True)
        ]

    def explanation_problem(self) -> str:
        """Reason why its detections cannot be attributed to pixels, as the end of a sentence."""
        return f"{type(self).__name__} chooses its boxes by itself; model=detector has a score at each place"

    def load_pretrained(self) -> TorchvisionDetector:
        """Load all of `weights` that fit, and return itself; without `weights` nothing changes."""
        if self.weights is None:
            return self
        from torchvision import models

        chosen = models.get_model_weights(self.name)[self.weights]
        try:
            net: nn.Module = models.get_model(self.name, weights=chosen)
        except (RuntimeError, ValueError, OSError, EOFError, UnpicklingError) as error:
            place = f"{torch.hub.get_dir()}/checkpoints/{chosen.url.rpartition('/')[2]}"
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            line = f"put {chosen.url} at {place} (TORCH_HOME moves it)"
            raise UserError(f"model.weights={self.weights} cannot be had ({reason}): {line}") from None
        own = self.net.state_dict()
        found = {key: value for key, value in net.state_dict().items() if key in own and own[key].shape == value.shape}
        self.net.load_state_dict(found, strict=False)
        return self


def _built(name: str, weights: str | None, resize: int | None, spec: DataSpec) -> nn.Module:
    """Build the net with random weights.

    Raises:
        UserError: a name, weights or a size that there are not.
    """
    from torchvision import models

    known = [n for n in models.list_models(module=models.detection) if not n.startswith(("mask", "keypoint"))]
    if name not in known:
        raise UserError(f"model.name={name} finds no boxes{suggest(name, known)}")
    choices = list(dict.fromkeys(["DEFAULT", *models.get_model_weights(name).__members__]))
    if weights is not None and weights not in choices:
        raise UserError(f"model.weights={weights}: {name} has {', '.join(choices)}, or null")
    sides = spec.input_shape[1:]
    options: dict[str, Any] = {}
    if not name.startswith("ssd"):
        shorter = resize or min(sides)
        options = {"min_size": shorter, "max_size": -(-max(sides) * shorter // min(sides))}
    elif resize is not None:
        raise UserError(f"model.resize={resize}: {name} scales to a size of its own; set it to null")
    prefix, limit = ("box_", "box_detections_per_img") if name.startswith("faster") else ("", "detections_per_img")
    options |= {f"{prefix}score_thresh": LEAST, limit: MOST}
    with warnings.catch_warnings(action="ignore"):
        # class 0 is the background
        return models.get_model(name, weights=None, weights_backbone=None, num_classes=spec.num_classes + 1, **options)
