"""Generation: how near samples are to data, in the features of a classifier trained on it, and whether they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchmetrics as tm
from torch import Tensor
from typing_extensions import override

from src.metrics.generation import (
    SIZE,
    ClassEntropy,
    ClassifierAccuracy,
    Coverage,
    Diversity,
    Duplicates,
    Frechet,
    MeanOf,
)
from src.metrics.modes import modes
from src.spec import DataSpec, ImageSpec
from src.tasks.base import Loss, Named, Task
from src.tasks.generation.features import FeatureNet
from src.tasks.generation.view import DrawnView
from src.tasks.registry import register_task


@register_task("generation")
class Generation(Task):
    """New rows like those of the training split; the loss is the model's own.

    In evaluation the outputs are what `FeatureNet` makes of samples (B, K, 64 + C), K for each row of the data, with
    logits of C classes. The target is the same of the row itself and after it, where there are classes, its own
    (B, 64 + C + 1). Beside the samples stand those of the untrained generator.

    - frechet: squared Frechet distance between the features of samples and data, each taken for a Gaussian.
    - diversity: mean distance between two samples, over that between two rows of the data; 0: they are all the same.
    - duplicates: share of the samples that have another one nearer than half the distance at which a row of the data
      has (the median).
    - coverage: share of the classes that the classifier finds among the samples.
    - class_entropy: of its classes' histogram, over that of an even one; 0: a single class.
    - classifier_accuracy: of the classifier on the data itself.

    A generator that has collapsed is told by the second and third, one that leaves classes out by the next two.
    """

    answer_per_row = False
    from_noise = True
    monitor = "frechet"
    metric_modes = modes(
        "loss", "frechet", "diversity", "duplicates", "coverage", "class_entropy", "classifier_accuracy"
    )
    view_class = DrawnView
    bootstrapped = False  # a row drawn twice is a duplicate, and fewer different rows are further from any others

    def __init__(self, spec: DataSpec, loss: Loss | None = None) -> None:
        super().__init__(spec, loss)
        self.features = FeatureNet(spec)
        self.num_outputs = SIZE + spec.num_classes
        if not spec.num_classes:
            self.metric_modes = modes("loss", "frechet", "diversity", "duplicates")

    def learn(self, split: Mapping[str, Any], device: torch.device | str) -> None:
        """Train the features on the training split, once."""
        self.features.learn(split, self.spec.input_as(ImageSpec).levels, device)

    @override
    def metrics(self) -> tm.MetricCollection:
        kinds: Named = {"frechet": Frechet(), "diversity": Diversity(), "duplicates": Duplicates()}
        if self.spec.num_classes:
            kinds |= {
                "coverage": Coverage(),
                "class_entropy": ClassEntropy(),
                "classifier_accuracy": ClassifierAccuracy(),
            }
        return tm.MetricCollection(kinds, compute_groups=False)

    @override
    def training_metrics(self) -> tm.MetricCollection:
        return tm.MetricCollection({"generator_loss": MeanOf(0), "discriminator_loss": MeanOf(1)}, compute_groups=False)

    @override
    def baseline(self, target: Tensor, reference: Tensor | None = None) -> Tensor:
        """Features (N, K, 64 + C) of samples of the untrained generator: the reference itself."""
        assert reference is not None
        return reference
