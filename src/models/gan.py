"""Generative adversarial networks on images: DCGAN, and Wasserstein GAN with gradient penalty.

Goodfellow et al. 2014 (arXiv:1406.2661, with its non-saturating loss); DCGAN, Radford et al. 2015 (arXiv:1511.06434);
WGAN-GP, Gulrajani et al. 2017 (arXiv:1704.00028); classes as a further input of both, Mirza and Osindero 2014
(arXiv:1411.1784); samples from averaged weights, Yazici et al. 2018 (arXiv:1806.04498).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from typing_extensions import override

from src.errors import UserError
from src.models.base import Model, Stage
from src.models.components.layers import BatchNorm2d
from src.runtime.compat import torch as compat
from src.runtime.ranges import NonNegativeFloat, PositiveFloat, PositiveInt, Share
from src.runtime.stateless_random import BITS, draws, mix
from src.spec import DataSpec, ImageSpec
from src.tasks import Task
from src.tasks.base import StepOutput
from src.tasks.generation.task import Generation

SMALLEST, LARGEST = 8, 64  # pixels of a side
START = 4  # pixels, from which the generator doubles
MOST_CHANNELS = 8  # times the width
SAMPLES = 1000  # at least so many in an evaluation
EVALUATION = 0  # seed of the noise of all evaluations, whatever the run's own


class GAN(Model):
    """A generator of images from noise, and a discriminator that learns to tell them from data.

    A batch is one step of training, counted once: the discriminator takes `discriminator_steps` steps on its rows, each
    against fresh samples (where WGAN-GP takes fresh rows as well), then the generator one. `train/loss` is the
    generator's, and so is `val/loss`, of samples from averaged weights; `train/discriminator_loss` is of its last step.

    Evaluation, prediction and pictures use the generator's averaged weights, and noise that is a function of a seed and
    of a sample's number alone.

    Args:
        spec: what the data is; input (C, H, W), from 8x8 to 64x64.
        task: evaluates samples.
        objective: non_saturating, on logits; wasserstein, on a critic's scores.
        latent_size: numbers of noise a sample.
        width: channels at the image's full size; twice as many at half of it, and so on, up to eight times.
        conditional: samples are of a class that is asked for.
        discriminator_steps: of the discriminator, for each of the generator's.
        discriminator_lr_factor: its learning rate, as a share of the optimizer's.
        discriminator_norm: between its convolutions: none, batch, or layer, which leaves rows apart from each other.
        gradient_penalty: weight of (|gradient| - 1)^2 between data and samples; 0: none.
        average_decay: of the generator's averaged weights; reached gradually, min(decay, (1 + n) / (10 + n)).
    """

    inputs = (ImageSpec,)
    tasks = ("generation",)
    heads = ("generator.head.", "discriminator.head.")
    owns_training_step = True
    task: Generation

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        objective: Literal["non_saturating", "wasserstein"],
        latent_size: PositiveInt = 64,
        width: PositiveInt = 32,
        conditional: bool = False,
        discriminator_steps: PositiveInt,
        discriminator_lr_factor: PositiveFloat = 1.0,
        discriminator_norm: Literal["none", "batch", "layer"],
        gradient_penalty: NonNegativeFloat,
        average_decay: Share = 0.995,
    ) -> None:
        super().__init__(spec, task)
        if gradient_penalty and discriminator_norm == "batch":
            raise UserError(
                "model.gradient_penalty is of each row alone, which batch normalisation mixes: set"
                " model.discriminator_norm=layer or none"
            )
        if conditional and not spec.num_classes:
            raise UserError(f"model.conditional=true: data={spec.name} has no classes; set it to false")
        self.objective, self.gradient_penalty = objective, gradient_penalty
        self.latent_size, self.conditional = latent_size, conditional
        self.discriminator_steps, self.discriminator_lr_factor = discriminator_steps, discriminator_lr_factor
        self.average_decay = average_decay
        self.generator_options = (spec.input_shape, latent_size, width, spec.num_classes if conditional else 0)
        self.generator = Generator(*self.generator_options)
        # a critic's own constant cancels
        options: dict[str, Any] = {"norm": discriminator_norm, "bias": objective != "wasserstein"}
        self.discriminator = Discriminator(spec.input_shape, width, self.generator_options[-1], **options)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()

    @classmethod
    @override
    def incompatibility(cls, spec: DataSpec) -> str | None:
        problem = super().incompatibility(spec)
        sides = spec.input_shape[1:]
        if problem is None and not (min(sides) >= SMALLEST and max(sides) <= LARGEST):
            size = " x ".join(map(str, sides))
            return (
                f"makes images from {SMALLEST} x {SMALLEST} to {LARGEST} x {LARGEST}, data={spec.name} has {size}"
                " pixels (data.size= changes those of a folder)"
            )
        return problem

    @override
    def train(self, mode: bool = True) -> GAN:
        super().train(mode)
        self.average.eval()
        return self

    @override
    def compile(self, *args: object, **options: object) -> None:
        for part in (self.generator, self.discriminator):
            part.compile(*args, **options)

    # samples ---------------------------------------------------------------------------------------------------------

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Noise (B, latent_size) and, if conditional, classes (B,) to images (B, C, H, W) in [0, 1]."""
        return (self.average(noise, label) + 1) / 2

    def noise(self, index: Tensor, seed: int) -> Tensor:
        """Standard normal numbers (B, latent_size) of the samples with these numbers (B,), each by itself."""
        uniform = (draws(index, mix(seed), self.latent_size).T.double() + 0.5) / (1 << BITS)
        return (math.sqrt(2) * torch.erfinv(2 * uniform - 1)).to(self.generator.first.weight.dtype)

    def draw(self, count: int, seed: int, label: int | None = None) -> Tensor:
        """Draw `count` images (N, C, H, W) in [0, 1], on the CPU: same seed, same images, the first ones also where
        more are drawn.

        Args:
            label: their class, if conditional; None: as `classes` has them.
        """
        classes = self.classes(count, label).to(self.device) if self.conditional else None
        with torch.no_grad():
            parts = [
                self(self.noise(some, seed).to(self.device), None if classes is None else classes[some])
                for some in torch.arange(count).split(256)
            ]
        return torch.cat(parts).float().cpu()

    def classes(self, count: int, label: int | None = None) -> Tensor:
        """Classes (N,) of `count` samples: the one asked for, or all in turn."""
        return torch.arange(count) % self.spec.num_classes if label is None else torch.full((count,), label)

    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """Images of `input`, which is noise (B, latent_size): an exported generator is this function."""
        return self(batch["input"])

    def sample_images(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Samples (B, C, H, W) in [0, 1], as many as the batch has rows."""
        return {"samples": self.draw(len(batch["input"]), seed=EVALUATION)}

    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Outputs that the task evaluates: in training the losses (1, 2) of generator and discriminator, as a step
        computes them; in evaluation features of samples (B, K, ...).
        """
        if self.training:
            real, label = self._real(batch)
            losses = [self.discriminator_loss(real, label) for _ in range(self.discriminator_steps)]
            return torch.stack([self.generator_loss(len(real), label), torch.stack(losses).mean()]).unsqueeze(0)
        return self._features(self._samples(batch, self.average), batch)

    def _samples(self, batch: Mapping[str, Tensor], generator: Generator) -> Tensor:
        """Images (B * K, C, H, W) in [-1, 1] of the rows of a batch, with their classes; K so that there are enough."""
        index = batch["index"].cpu()
        noise = torch.stack([self.noise(index, mix(EVALUATION, number)) for number in range(self._copies)], 1)
        label = batch["target"].repeat_interleave(self._copies) if self.conditional else None
        return generator(noise.flatten(0, 1).to(self.device), label)

    @property
    def _copies(self) -> int:
        """Samples for each row of the smaller evaluated part."""
        return -(-SAMPLES // min(size for name, size in self.spec.splits.items() if name != "train"))

    def _features(self, samples: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        return self.task.features((samples.float() + 1) / 2).unflatten(0, (len(batch["input"]), -1))

    # losses ----------------------------------------------------------------------------------------------------------

    def _real(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Images of the data in [-1, 1] and, if conditional, their classes."""
        images = batch["input"].to(self.generator.first.weight.dtype, memory_format=self.memory_format)
        return 2 * images / self.spec.input_as(ImageSpec).levels - 1, batch["target"] if self.conditional else None

    def _fake(self, count: int, label: Tensor | None) -> Tensor:
        """Samples in training, from torch's own random state, which is that of the step."""
        first = self.generator.first.weight
        return self.generator(torch.randn(count, self.latent_size, device=first.device, dtype=first.dtype), label)

    def generator_loss(self, count: int, label: Tensor | None) -> Tensor:
        """Generator's loss on `count` fresh samples: how well the discriminator tells them from data."""
        return self._fooling(self.discriminator(self._fake(count, label), label))

    def _fooling(self, scores: Tensor) -> Tensor:
        return -scores.mean() if self.objective == "wasserstein" else F.softplus(-scores).mean()

    def discriminator_loss(self, real: Tensor, label: Tensor | None) -> Tensor:
        """Discriminator's loss on rows (B, C, H, W) and as many fresh samples, with the penalty where there is one."""
        with torch.no_grad():
            fake = self._fake(len(real), label)
        scores, other = self.discriminator(real, label), self.discriminator(fake, label)
        if self.objective == "wasserstein":
            loss = other.mean() - scores.mean()
        else:
            loss = F.softplus(-scores).mean() + F.softplus(other).mean()
        return loss + self.gradient_penalty * self.penalty(real, fake, label) if self.gradient_penalty else loss

    def penalty(self, real: Tensor, fake: Tensor, label: Tensor | None) -> Tensor:
        """Mean of (|gradient| - 1)^2 at one point on the line between each row and a sample."""
        share = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
        # in full precision, and not compiled: a compiled graph has no second derivative
        with torch.enable_grad(), torch.autocast(real.device.type, enabled=False):
            leaf = torch.lerp(real, fake.to(real.dtype), share).requires_grad_()
            between = leaf.view_as(leaf)  # torch's counter of operations takes no leaf here
            scores = self.discriminator.forward(between, label)
            (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

    # steps -----------------------------------------------------------------------------------------------------------

    @override
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        generator, discriminator = cast(Any, self.optimizers())
        real, label = self._real(batch)
        for _ in range(self.discriminator_steps):
            loss = self.discriminator_loss(real, label)
            discriminator.zero_grad()
            self.manual_backward(loss)
            # torch's own step: Lightning counts those of its wrapper, and a batch is one step
            discriminator.optimizer.step()
        self.discriminator.requires_grad_(False)
        fooled = self.generator_loss(len(real), label)
        generator.zero_grad()
        self.manual_backward(fooled)
        generator.step()
        self.discriminator.requires_grad_(True)
        self._update_average(self.trainer.global_step)
        for schedule in self.trainer.lr_scheduler_configs:
            schedule.scheduler.step()  # type: ignore[call-arg]  # a plateau is stepped by Model
        rows = torch.tensor([len(real)], device=real.device)
        losses = torch.stack([fooled, loss]).detach().unsqueeze(0)
        self.metrics["train"].append(StepOutput(fooled, losses, rows, weight=rows[0]))
        return fooled.detach()

    @torch.no_grad()
    def _update_average(self, steps: int) -> None:
        weight = 1 - min(self.average_decay, (1 + steps) / (10 + steps))
        compat.lerp_([*self.average.parameters()], [*self.generator.parameters()], weight)
        for own, other in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            own.lerp_(other, weight) if own.is_floating_point() else own.copy_(other)

    @override
    def step_output(self, batch: Mapping[str, Tensor], stage: Stage) -> StepOutput:
        """Features of samples, beside those of a batch's rows and, as a reference, of the untrained generator's."""
        samples = self._samples(batch, self.average)
        label = batch["target"].repeat_interleave(self._copies) if self.conditional else None
        real, _ = self._real(batch)
        loss = self._fooling(self.discriminator(samples, label))
        target = self.task.features((real + 1) / 2)
        if self.spec.num_classes:
            target = torch.cat([target, batch["target"].unsqueeze(1).to(target.dtype)], 1)
        reference = self._features(self._samples(batch, self._untrained()), batch) if stage == "test" else None
        return StepOutput(loss, self._features(samples, batch), target, reference)

    def _untrained(self) -> Generator:
        """A generator as it is before training, the same at every run."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(EVALUATION)
            return Generator(*self.generator_options).to(self.generator.first.weight).eval()

    @override
    def on_fit_start(self) -> None:
        self.task.learn(self.trainer.datamodule.splits["train"], self.device)  # type: ignore[attr-defined]

    @override
    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # what the other model's samples were judged by stays there
        return {name: tensor for name, tensor in state.items() if not name.startswith("task.")}

    # optimisers ------------------------------------------------------------------------------------------------------

    def _groups(self) -> list[list[dict[str, Any]]]:
        factors = {self.generator: 1.0, self.discriminator: self.discriminator_lr_factor}
        return [
            [group | {"lr_factor": factor} for group in super(GAN, self).parameter_groups(part)]
            for part, factor in factors.items()
        ]

    @override
    def parameter_groups(self, part: nn.Module | None = None) -> list[dict[str, Any]]:
        return [group for groups in self._groups() for group in groups]

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        return [self.scheduled(groups) for groups in self._groups()]


def sizes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Height and width of an image and of its halves, the smallest first."""
    found = [(shape[1], shape[2])]
    while min(found[0]) > START:
        found.insert(0, (-(-found[0][0] // 2), -(-found[0][1] // 2)))
    return found


def channels(width: int, count: int) -> list[int]:
    """Channels at each of `count` sizes, the smallest first."""
    return [width * min(MOST_CHANNELS, 2**halvings) for halvings in range(count)][::-1]


def initialize(module: nn.Module) -> None:
    """Initialize weights normally with a deviation of 0.02, as DCGAN does.

    A class is a fifth as large as noise: where both are equal, each class soon has a single image (measured on digits).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=0.2 if isinstance(layer, nn.Embedding) else 0.02)
            if isinstance(bias := getattr(layer, "bias", None), Tensor):
                nn.init.zeros_(bias)


class Generator(nn.Module):
    """Noise (B, latent), a class's own beside it, through transposed convolutions that double, to images in [-1, 1]."""

    def __init__(self, shape: tuple[int, ...], latent_size: int, width: int, classes: int) -> None:
        super().__init__()
        self.sizes = sizes(shape)
        deep = channels(width, len(self.sizes))
        self.label = nn.Embedding(classes, latent_size) if classes else None
        self.first = nn.Linear(
            2 * latent_size if classes else latent_size, deep[0] * math.prod(self.sizes[0]), bias=False
        )
        self.norms = nn.ModuleList(BatchNorm2d(size) for size in deep)
        self.doubling = nn.ModuleList(
            nn.ConvTranspose2d(size, out, 4, 2, 1, bias=False) for size, out in pairwise(deep)
        )
        self.head = nn.Conv2d(deep[-1], shape[0], 3, padding=1)
        initialize(self)

    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Noise (B, latent) and, if conditional, classes (B,) to images (B, C, H, W) in [-1, 1]."""
        if self.label is not None:
            noise = torch.cat([noise, self.label(label)], 1)
        x = self.first(noise).unflatten(1, (-1, *self.sizes[0]))
        x = F.relu(self.norms[0](x))
        for double, norm, (height, width) in zip(self.doubling, self.norms[1:], self.sizes[1:], strict=True):
            x = F.relu(norm(double(x)[..., :height, :width]))  # an odd side is one pixel less than twice its half
        return torch.tanh(self.head(x))


class Discriminator(nn.Module):
    """Images (B, C, H, W) in [-1, 1], a plane of their class as one more channel, through convolutions that halve, to a
    score (B,), larger for data.
    """

    def __init__(self, shape: tuple[int, ...], width: int, classes: int, *, norm: str, bias: bool) -> None:
        super().__init__()
        found = sizes(shape)[::-1]
        deep = channels(width, len(found))[::-1]
        self.label = nn.Embedding(classes, math.prod(shape[1:])) if classes else None
        layers: list[nn.Module] = [nn.Conv2d(shape[0] + bool(classes), deep[0], 3, padding=1), nn.LeakyReLU(0.2)]
        for size, out in pairwise(deep):
            layers += [nn.Conv2d(size, out, 3, 2, 1, bias=norm == "none"), *_norm(norm, out), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(deep[-1] * math.prod(found[-1]), 1, bias=bias)
        initialize(self)

    def forward(self, images: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] and, if conditional, their classes (B,) to scores (B,)."""
        if self.label is not None:
            plane = self.label(label).unflatten(1, (1, *images.shape[2:]))
            images = torch.cat([images, plane.to(images.dtype)], 1)
        score = self.head(self.body(images).flatten(1)).squeeze(1)
        return score.to(torch.promote_types(score.dtype, torch.float32))  # a loss in half precision has three digits


def _norm(kind: str, size: int) -> list[nn.Module]:
    # one group: all values of a row
    norms: dict[str, list[nn.Module]] = {"none": [], "batch": [BatchNorm2d(size)], "layer": [nn.GroupNorm(1, size)]}
    return norms[kind]
