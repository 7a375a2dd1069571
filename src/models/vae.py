"""Variational autoencoder: a code with a Gaussian prior; bounds the probability of rows, and draws new ones.

Kingma and Welling 2013 (arXiv:1312.6114); beta: Higgins et al. 2017, "beta-VAE"; importance-weighted bound: Burda,
Grosse and Salakhutdinov 2015 (arXiv:1509.00519); one learnt standard deviation: Rybkin, Daniilidis and Levine 2021
(arXiv:2006.13202).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.errors import UserError
from src.models.components.autoencoding import AutoencoderBase, Codec, fingerprints, normals, uniforms
from src.models.components.layers import Activation
from src.runtime.ranges import NonNegativeFloat, PositiveInt
from src.spec import DataSpec, ImageSpec
from src.tasks import Task
from src.tasks.reconstruction.task import Density

PIXELS, CODE, BOUND = 1, 2, 3  # keep the draws of evaluation apart


class VAE(AutoencoderBase):
    """An encoder gives each row a Gaussian over codes, a decoder each code a likelihood of rows: `task.loss=`.

    Training draws from torch's generator. Evaluation draws one code a row from noise that follows from the row itself,
    so that it gives the same whatever the batches are.

    Args:
        spec: what the data is; a table's categories are ones among zeros.
        task: says what a row is as numbers, and what -log p(row | code) is.
        latent_size: of the code.
        hidden_sizes, channels, convolutional, activation: see Codec.
        beta: weight of the divergence from the prior in the loss; 1 is the evidence lower bound.
        binarize: pixels are 0 or 1, drawn with their brightness as probability: anew in each step of training, in
            evaluation always alike for the same image.
        samples: draws of the importance-weighted bound in the test.
    """

    tasks = ("density",)
    task: Density

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        latent_size: PositiveInt = 8,
        hidden_sizes: list[PositiveInt],
        channels: list[PositiveInt],
        convolutional: bool = False,
        activation: Activation = "relu",
        beta: NonNegativeFloat = 1.0,
        binarize: bool = False,
        samples: PositiveInt = 64,
    ) -> None:
        super().__init__(spec, task)
        if self.task.bernoulli and not isinstance(spec.input, ImageSpec):
            raise UserError(
                f"task.loss=bernoulli is for pixels, data={spec.name} is {spec.modality} data: task.loss=gaussian"
            )
        if binarize and not self.task.bernoulli:
            raise UserError("model.binarize=true makes pixels 0 or 1, whose likelihood is task.loss=bernoulli")
        self.latent_size, self.beta, self.binarize, self.samples = latent_size, beta, binarize, samples
        self.codec = Codec(
            spec,
            self.task.size,
            codes=2 * latent_size,
            latent_size=latent_size,
            hidden_sizes=hidden_sizes,
            channels=channels,
            convolutional=convolutional,
            activation=activation,
        )
        with torch.no_grad():
            # near the prior at first, or its exponential drowns all else
            cast(nn.Linear, self.codec.encoder[-1]).weight.mul_(0.1)
        self.head = self.codec.head()
        self.log_scale = None if self.task.bernoulli else nn.Parameter(torch.zeros(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Raw rows (B, ...) to the task's outputs (B, D + 3)."""
        rows = None if self.training else fingerprints(x)
        target = self._pixels(x, rows)
        mean, log_variance = self._posterior(x, target)
        noise = torch.randn_like(mean) if rows is None else normals(rows, CODE, self.latent_size).to(mean.dtype)
        made, error = self.task.fit(self._made(mean + (0.5 * log_variance).exp() * noise), target)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return torch.cat([made, torch.stack([error, kl, error + self.beta * kl], 1)], 1)

    def bound(self, x: Tensor, samples: int) -> Tensor:
        """Importance-weighted upper bound (B,) of -log p of raw rows, in nats: the more samples, the tighter."""
        rows = fingerprints(x)
        target = self._pixels(x, rows)
        mean, log_variance = self._posterior(x, target)
        weights = []
        for sample in range(samples):
            noise = normals(rows, BOUND + sample, self.latent_size).to(mean.dtype)
            code = mean + (0.5 * log_variance).exp() * noise
            error = self.task.fit(self._made(code), target)[1]
            # log p(code) - log q(code | row): the constants of both Gaussians cancel
            weights.append(0.5 * (noise.square() - code.square() + log_variance).sum(1) - error)
        return log(samples) - torch.stack(weights).logsumexp(0)

    @override
    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        self.step({**batch, "nll_bound": self.bound(batch["input"], self.samples)}, "test")

    @override
    def code(self, x: Tensor) -> Tensor:
        return self._posterior(x, self._pixels(x, fingerprints(x)))[0]

    @override
    def decode(self, code: Tensor) -> Tensor:
        made = self._made(code)
        return self.task.fit(made, made.new_zeros(len(made), self.task.size))[0]

    def draw(self, count: int, seed: int) -> Tensor:
        """New images (N, C, H, W) in [0, 1], or rows (N, D): means of codes from the prior, the same for a seed."""
        codes = torch.randn(count, self.latent_size, generator=torch.Generator().manual_seed(seed))
        values = self.decode(codes.to(self.device))
        return self.images(values) if isinstance(self.spec.input, ImageSpec) else values

    def sample_images(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Images and their reconstructions, and new images drawn from the prior."""
        pairs = super().sample_images(batch)
        return pairs | ({"samples": self.draw(len(batch["input"]), seed=0)} if pairs else {})

    def _pixels(self, x: Tensor, rows: Tensor | None) -> Tensor:
        """Targets (B, D) of the reconstruction, drawn where pixels are binarized."""
        target = self.target(x)
        if not self.binarize:
            return target
        draw = torch.rand_like(target) if rows is None else uniforms(rows, PIXELS, self.task.size)
        return (draw < target).to(target.dtype)

    def _posterior(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of each row's codes, (B, L)."""
        if self.binarize:
            x = (target * self.spec.input_as(ImageSpec).levels).unflatten(1, self.spec.input_shape)
        return self.codec.encoder(self.seen(x, target)).to(target.dtype).chunk(2, 1)

    def _made(self, code: Tensor) -> Tensor:
        """Parameters of the likelihood: logits (B, D), or means and a logarithm (B, D + 1)."""
        made = self.head(self.codec.decoder(code)).to(code.dtype)
        return made if self.log_scale is None else torch.cat([made, self.log_scale.expand(made.shape[0], 1)], 1)
