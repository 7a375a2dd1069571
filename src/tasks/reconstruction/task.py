"""Tasks without labels: rows given back through a narrow code, and their density; rows that fit badly are anomalies."""

from __future__ import annotations

from math import log, prod
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics as tm
from torch import Tensor
from torchmetrics.functional import classification as tmf
from typing_extensions import override

from src.errors import UserError
from src.metrics.anomaly import SMALLEST_ERROR, AnomalyMetric, MeanOfColumn
from src.metrics.modes import modes
from src.spec import Classes, DataSpec, ImageSpec, TableSpec
from src.tasks.base import Batch, Loss, Named, StepOutput, Task
from src.tasks.losses import bernoulli_nll, gaussian_nll
from src.tasks.reconstruction.view import ScoreView
from src.tasks.registry import register_task


@register_task("reconstruction")
class Reconstruction(Task):
    """The target is the input: D numbers in a row.

    They are the pixels of an image, from 0 to 1; or the numbers of a table's row in standard units, and for each
    column of categories a 1 in the place of its code among zeros.

    Outputs (B, D + 3): what the model makes of these numbers, in their unit, and of each row its `error`, what its code
    costs, and its loss, which is the error and a share of that cost. The error, which is also the anomaly's score, is
    the mean over the row of the loss: mse, or bce of pixels.

    Metrics are means over rows: `mse`, of images `psnr` (decibels, peak 1). Where the data has anomalies, the test has
    `auroc` and `average_precision` of the score too. The baseline is the mean row of the training split.
    """

    losses = {"mse": F.mse_loss, "bce": F.binary_cross_entropy_with_logits}
    metric_modes = modes("loss", "mse", "psnr")
    figures: tuple[str, ...] = ("mse", "psnr")  # columns of judged rows; the anomaly's score is the last
    view_class = ScoreView
    average: Tensor
    anomalies: Tensor

    def __init__(self, spec: DataSpec, loss: Loss | None = None) -> None:
        super().__init__(spec, loss)
        image = isinstance(spec.input, ImageSpec)
        if loss is F.binary_cross_entropy_with_logits and not image:
            raise UserError(f"task.loss=bce is for images, whose pixels lie between 0 and 1, not for data={spec.name}")
        codes = spec.input.cardinalities if isinstance(spec.input, TableSpec) else ()
        self.size = prod(spec.input_shape) + sum(codes) - len(codes)
        self.num_outputs = self.size + 3
        self.figures = tuple(name for name in self.figures if image or name != "psnr")
        self.metric_modes = {name: way for name, way in self.metric_modes.items() if name in ("loss", *self.figures)}
        self.register_buffer("average", self._average(), persistent=False)
        anomalies = spec.target.anomalies if isinstance(spec.target, Classes) else ()
        numbers = [spec.class_names.index(name) for name in anomalies]
        self.register_buffer("anomalies", torch.tensor(numbers, dtype=torch.int64), persistent=False)

    def target(self, batch: Batch) -> Tensor:
        """(B, D), float32."""
        x, spec = batch["input"], self.spec
        if isinstance(spec.input, ImageSpec):
            return x.flatten(1).float() / spec.input.levels
        table = spec.input_as(TableSpec)
        count = table.num_numeric
        codes = zip(x[:, count:].unbind(1), table.cardinalities, strict=True)
        return torch.cat([self._standard(x[:, :count].float()), *(_place(*code) for code in codes)], 1)

    def _standard(self, numbers: Tensor) -> Tensor:
        """Numbers of a table (..., F) in standard units."""
        if not self.spec.input.mean:
            return numbers
        return (numbers - numbers.new_tensor(self.spec.input.mean)) / numbers.new_tensor(self.spec.input.std)

    def _average(self) -> Tensor:
        """The mean row (D,); where the data did not measure it, the mean of each channel."""
        spec, values = self.spec, torch.tensor(self.spec.input.average)
        if isinstance(spec.input, TableSpec):
            count = spec.input.num_numeric
            return (
                torch.cat([self._standard(values[:count]), values[count:]]) if len(values) else torch.zeros(self.size)
            )
        image = spec.input_as(ImageSpec)
        if not len(values):
            channels = torch.tensor(image.mean or (image.levels / 2,) * spec.input_shape[0])
            values = channels.repeat_interleave(self.size // len(channels))
        return values / image.levels

    def fit(self, made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Last layer's values (B, D) in the unit of the target (B, D), and the error of each row (B,)."""
        error = self.loss_function(made, target, reduction="none").mean(1)
        return (made.sigmoid() if self.loss_function is F.binary_cross_entropy_with_logits else made), error

    @override
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs[:, -1].mean()

    def evaluate_batch(self, outputs: Tensor, batch: Batch) -> StepOutput:
        """The figures of each row (B, S), and whether it is an anomaly (B,)."""
        target = self.target(batch)
        reference = None if self.training else self._figures(self._trivial(target), target, batch)
        rows = self._figures(outputs.detach().float(), target, batch)
        return StepOutput(self.loss(outputs, batch), rows, self.anomalous(batch), reference)

    def anomalous(self, batch: Batch) -> Tensor:
        """1 for a row of a class that training did not see (B,), else 0."""
        if not len(self.anomalies) or "target" not in batch:
            return torch.zeros(len(batch["input"]), dtype=torch.int64, device=batch["input"].device)
        return torch.isin(batch["target"], self.anomalies).long()

    def _figures(self, outputs: Tensor, target: Tensor, batch: Batch) -> Tensor:
        mse = (outputs[:, : self.size] - target).square().mean(1)
        psnr = -10 * mse.clamp(min=SMALLEST_ERROR).log10()
        return torch.stack([mse, *([psnr] if "psnr" in self.figures else []), self.score(outputs)], 1)

    def _trivial(self, target: Tensor) -> Tensor:
        """Outputs (B, D + 3) of the mean row."""
        average = self.average.expand(len(target), -1)
        if self.loss_function is F.binary_cross_entropy_with_logits:
            error = F.binary_cross_entropy(average.clamp(1e-6, 1 - 1e-6), target, reduction="none").mean(1)
        else:
            error = (average - target).square().mean(1)
        return torch.cat([average, torch.stack([error, torch.zeros_like(error), error], 1)], 1)

    def score(self, outputs: Tensor) -> Tensor:
        """Anomaly score of each row (B,), larger where it fits worse."""
        return outputs[:, self.size]

    @override
    def prediction(self, outputs: Tensor) -> Tensor:
        return outputs

    def predict(self, outputs: Tensor) -> Tensor:
        """Reconstruction of each row in the unit of the target, and the row's score: (B, D + 1)."""
        outputs = outputs.float()
        return torch.cat([outputs[:, : self.size], self.score(outputs).unsqueeze(1)], 1)

    @override
    def columns(self, predictions: Tensor) -> dict[str, list[Any]]:
        return {"score": predictions[:, -1].tolist()}

    def decode_for_display(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Scores (B,), and classes where there are any."""
        return self.score(outputs.float()), batch.get("target") if self.spec.class_names else None

    @override
    def metrics(self) -> tm.MetricCollection:
        named: Named = {
            name: MeanOfColumn(place) for place, name in enumerate(self.figures) if name in self.metric_modes
        }
        return tm.MetricCollection(named, compute_groups=False)

    @override
    def test_metrics(self) -> tm.MetricCollection:
        metrics: Named = {name: MeanOfColumn(place) for place, name in enumerate(self.figures)}
        if len(self.anomalies):
            metrics["auroc"] = AnomalyMetric(tmf.binary_auroc)
            metrics["average_precision"] = AnomalyMetric(tmf.binary_average_precision)
        return tm.MetricCollection(metrics, compute_groups=False)

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Figures (N, S) of the mean row of the training split: the reference itself."""
        assert reference is not None
        return reference


@register_task("density")
class Density(Reconstruction):
    """Log-density of rows, in nats, summed over their numbers: for models that bound the likelihood of each.

    The target and the outputs are those of Reconstruction. The error is -log p(row | code) and the code's cost its
    divergence from the prior; their sum, the negative evidence lower bound, is the anomaly's score. The loss is one of
    two likelihoods: `bernoulli` of pixels, `gaussian` of all else.

    Metrics are means over rows, in nats: `negative_elbo`, its parts `reconstruction` and `kl`, and in the test
    `nll_bound`, the importance-weighted bound of the negative log-likelihood, which the batch brings.
    """

    losses = {"bernoulli": bernoulli_nll, "gaussian": gaussian_nll}
    takes_own_loss = False
    metric_modes = modes("loss", "negative_elbo", "reconstruction", "kl")
    figures = ("negative_elbo", "reconstruction", "kl", "nll_bound")

    @classmethod
    @override
    def default_loss(cls, spec: DataSpec) -> str:
        return "bernoulli" if isinstance(spec.input, ImageSpec) else "gaussian"

    @property
    def bernoulli(self) -> bool:
        """True if the likelihood is that of pixels, False if it is a Gaussian."""
        return self.loss_function is bernoulli_nll

    def fit(self, made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Values and errors from logits, or from means followed by a logarithm of the standard deviation (B, D + 1)."""
        if self.bernoulli:
            return made.sigmoid(), bernoulli_nll(made, target)
        mean, scale = made[:, :-1], made[:, -1:]
        return mean, gaussian_nll(mean, scale, target)

    @override
    def score(self, outputs: Tensor) -> Tensor:
        """Negative evidence lower bound of each row (B,), in nats."""
        return outputs[:, self.size] + outputs[:, self.size + 1]

    def _figures(self, outputs: Tensor, target: Tensor, batch: Batch) -> Tensor:
        error, cost = outputs[:, self.size], outputs[:, self.size + 1]
        bound = batch.get("nll_bound", torch.full_like(error, torch.nan))
        return torch.stack([error + cost, error, cost, bound.to(error.dtype), error + cost], 1)

    def _trivial(self, target: Tensor) -> Tensor:
        average = self.average.expand(len(target), -1)
        if self.bernoulli:
            error = F.binary_cross_entropy(average.clamp(1e-6, 1 - 1e-6), target, reduction="none").sum(1)
        else:
            spread = self.spec.input.std if isinstance(self.spec.input, ImageSpec) and self.spec.input.std else (1.0,)
            levels = self.spec.input.levels if isinstance(self.spec.input, ImageSpec) and self.spec.input.std else 1
            error = gaussian_nll(average, target.new_full((1, 1), log(sum(spread) / len(spread) / levels)), target)
        return torch.cat([average, torch.stack([error, torch.zeros_like(error), error], 1)], 1)

    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """A code that says nothing costs nothing, and the bound of the mean row is its likelihood itself."""
        assert reference is not None
        return torch.cat([reference[:, :3], reference[:, :1], reference[:, -1:]], 1)


def _place(code: Tensor, count: int) -> Tensor:
    """Codes (B,) as a 1 in their place among zeros (B, count)."""
    return (code.unsqueeze(1) == torch.arange(count, device=code.device)).float()
