"""Verification: are two pictures of one class, of classes that training did not see?

ArcFace, Deng et al. 2019 (arXiv:1801.07698); SupCon, Khosla et al. 2020, "Supervised contrastive learning"
(arXiv:2004.11362).
"""

from __future__ import annotations

from math import isnan
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

from src.metrics.modes import modes
from src.metrics.verification import Rates, VerificationCurve, VerificationMetrics, alike, rates
from src.runtime.ranges import PositiveFloat, checked
from src.spec import DataSpec, ImageSpec
from src.tasks.base import Batch, Loss, StepOutput, Task
from src.tasks.losses import ArcFace, SupCon
from src.tasks.registry import register_task
from src.tasks.verification.view import SimilarityView

SIDE = 64  # pixels of the pictures that the baseline compares


@register_task("verification")
class Verification(Task):
    """Embeddings of unit length, whose cosine says how alike two rows are.

    Outputs (B, K + E): with arcface the cosines to the K classes that training sees, with supcon none; and the
    embedding. Of listed pairs, whose `input` is (B, 2, C, H, W) and whose `target` says whether the class is the same
    (B,) bool, (B, 2, K + E).

    The loss is that of training rows. Rows of other classes have none of their own: validation and test compare all
    pairs of theirs, and their `loss` is the supervised contrastive one of the whole split. The figures: `eer`, where as
    many pairs of two classes are accepted as of one class are refused; `tar_at_1_percent`, the share accepted of
    one class where 1 % of the others are; `auroc` of pairs; `recall_at_1`, whether the most alike other row is of the
    class.

    The baseline is the distance of the pixels themselves, standardised as the model has them.

    Args:
        temperature: divisor of the cosines in the loss of held-out pairs, and in supcon's, above 0.

    Attributes:
        threshold: cosine from which two rows are taken for one class: where the equal error rate of the latest
            validation lies; not a number before the first. It goes into every checkpoint.
    """

    losses = {"arcface": ArcFace, "supcon": SupCon}
    monitor = "eer"
    metric_modes = modes("loss", "eer", "tar_at_1_percent", "auroc", "recall_at_1")
    view_class = SimilarityView
    place: Tensor
    threshold_bits: Tensor

    @checked("task")
    def __init__(self, spec: DataSpec, loss: Loss | None = None, *, temperature: PositiveFloat = 0.1) -> None:
        super().__init__(spec, loss)
        self.temperature = temperature
        self.embedding_size = 0  # the model's to say
        held_out = set(spec.held_out)
        learned = [name not in held_out for name in spec.class_names]
        place = torch.tensor(learned, dtype=torch.int64).cumsum(0) - 1
        self.register_buffer("place", place, persistent=False)  # of each class among those that training sees
        self.num_classes = sum(learned) if self.classifies else 0
        # the bits of a double as a whole number: averages of weights take all floating-point tensors along
        self.register_buffer("threshold_bits", _bits(torch.nan))

    @property
    def classifies(self) -> bool:
        """True if the loss compares embeddings with one vector a class."""
        return isinstance(self.loss_function, ArcFace)

    @property
    @override
    def num_outputs(self) -> int:  # type: ignore[override]
        """Size K + E of the model's last layer: a cosine for each class that is learned, and the embedding."""
        return self.num_classes + self.embedding_size

    @property
    def threshold(self) -> float:
        """Cosine from which two rows are taken for one class; NaN before the first validation."""
        return float(self.threshold_bits.cpu().view(torch.float64))

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.threshold_bits.copy_(_bits(value))

    @override
    def prepare(self, batch: Batch, training: bool = False) -> Batch:
        # outside training no row is judged alone, and so none is the hardest
        return batch if training else {name: column for name, column in batch.items() if name != "index"}

    def embedding(self, outputs: Tensor) -> Tensor:
        """The embeddings (..., E) among outputs (..., K + E)."""
        return outputs[..., self.num_classes :]

    @override
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        place = self.place[batch["target"]]
        return self.loss_function(outputs[:, : self.num_classes] if self.classifies else self.embedding(outputs), place)

    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        """The embeddings (B, E), or of listed pairs their similarity (B,); as reference the pixels, likewise."""
        target, x = batch["target"], batch["input"]
        if self.training:
            return StepOutput(self.loss(outputs, batch), self.embedding(outputs), target)
        rows, pixels = self.embedding(outputs).float(), self._pixels(x)
        if x.ndim == 5:
            rows, pixels = alike(rows), alike(pixels)
        return StepOutput(outputs.new_zeros(()), rows, target, pixels)

    def _pixels(self, x: Tensor) -> Tensor:
        """Raw images (..., C, H, W) as rows (..., D), scaled so that two of them lie about 2 ** 0.5 apart."""
        image, shape = self.spec.input_as(ImageSpec), x.shape[:-3]
        x = x.flatten(0, -4).float() if x.ndim == 5 else x.float()
        mean, std = image.mean or (image.levels / 2,), image.std or (image.levels / 4,)
        x = (x - x.new_tensor(mean).view(-1, 1, 1)) / x.new_tensor(std).view(-1, 1, 1)
        if max(x.shape[-2:]) > SIDE:
            x = F.interpolate(x, [min(side, SIDE) for side in x.shape[-2:]], mode="area")
        rows = x.flatten(1)
        pixels: Tensor = (rows / rows.shape[1] ** 0.5).unflatten(0, shape)
        return pixels

    @override
    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    def predict(self, outputs: Tensor) -> Tensor:
        """Embeddings (..., E)."""
        return self.embedding(outputs).float()

    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        """One column for each number of the embeddings (B, E)."""
        return {f"embedding_{place}": column.tolist() for place, column in enumerate(predictions.unbind(1))}

    def decode_for_display(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Similarity of the rows to each other (B, B), and their classes."""
        embedding = self.predict(outputs)
        return embedding @ embedding.T, batch.get("target")

    @override
    def metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({"pairs": VerificationMetrics(self.temperature)}, compute_groups=False)

    @override
    def training_metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({})

    @override
    def curves(self) -> tm.MetricCollection:
        return tm.MetricCollection({"pairs": VerificationCurve()})

    def bootstrap_clusters(self, target: Tensor) -> Tensor:
        """Classes are drawn anew, each with all of its rows; of listed pairs each on its own."""
        return super().bootstrap_clusters(target) if target.dtype == torch.bool else target

    @override
    def as_clusters(self, target: Tensor, cluster: Tensor) -> Tensor:
        return target if target.dtype == torch.bool else torch.stack([target, cluster], 1)

    def remarks(self, outputs: Tensor, target: Tensor) -> list[str]:
        """Error rates of these pairs at the threshold of the validation."""
        found = Rates.of(outputs, target) if outputs.ndim == 1 else rates(outputs, target)
        if isnan(self.threshold) or not found.known:
            return []
        accepted, false = found.at(self.threshold)
        return [
            f"at the validation's threshold, a similarity of {self.threshold:.4f}: {100 * false:.2f} % of the pairs of"
            f" two classes are accepted, {100 - 100 * accepted:.2f} % of those of one class are refused"
        ]

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Pixels (N, D), or the similarity of listed pairs by them (N,): the reference itself."""
        assert reference is not None
        return reference


def _bits(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64).view(torch.int64)
