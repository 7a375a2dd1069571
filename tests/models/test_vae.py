"""The bound of a VAE against torch's own distributions and brute force; what it draws; noise that follows from rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.distributions import Bernoulli, Normal, kl_divergence

from src.errors import UserError
from src.models.components.autoencoding import fingerprints, normals, uniforms
from src.tasks.losses import bernoulli_nll, gaussian_nll
from tests.commands.test_predict import ask, checkpoint
from tests.tasks.reconstruction.test_reconstruction import made

DIGITS = ("model=vae", "data=digits", "model.hidden_sizes=[16]")


def test_likelihoods_are_those_of_torch() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, x = torch.randn(5, 7, generator=draw), torch.randint(0, 2, (5, 7), generator=draw).float()
    torch.testing.assert_close(bernoulli_nll(logits, x), -Bernoulli(logits=logits).log_prob(x).sum(1))
    log_scale, values = torch.full((5, 1), 0.3), torch.randn(5, 7, generator=draw)
    expected = -Normal(logits, log_scale.exp()).log_prob(values).sum(1)
    torch.testing.assert_close(gaussian_nll(logits, log_scale, values), expected)


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_loss_is_the_evidence_lower_bound(beta: float) -> None:
    model, data = made(*DIGITS, f"model.beta={beta}", "model.binarize=true")
    model.codec.encoder[-1].weight.data.mul_(20)
    x = data.splits["train"]["input"][:6]
    with torch.no_grad():
        outputs = model.eval()(x)
        pixels = model._pixels(x, fingerprints(x))
        mean, log_variance = model._posterior(x, pixels)
        posterior = Normal(mean, (0.5 * log_variance).exp())
        code = mean + posterior.scale * normals(fingerprints(x), 2, 8)
        error = -Bernoulli(logits=model._made(code)).log_prob(pixels).sum(1)
        kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
    assert set(pixels.unique().tolist()) == {0.0, 1.0} and kl.min() > 0.1
    torch.testing.assert_close(outputs[:, -3:], torch.stack([error, kl, error + beta * kl], 1))
    judged = model.task.evaluate_batch(outputs, {"input": x})
    torch.testing.assert_close(judged.loss, (error + beta * kl).mean())
    torch.testing.assert_close(judged.outputs[:, 0], error + kl)


def test_bounds_lie_above_the_likelihood_and_come_down_to_it() -> None:
    """The likelihood of a code of one number, added up along a fine line."""
    model, data = made(*DIGITS, "model.latent_size=1", "model.binarize=true")
    model.codec.decoder[0].weight.data.mul_(3)  # a code that matters
    x = data.splits["train"]["input"][:200]
    model.eval()
    with torch.no_grad():
        pixels = model._pixels(x, fingerprints(x))
        line = torch.linspace(-8, 8, 2001).unsqueeze(1)
        p = torch.stack([-model.task.fit(model._made(line), one.expand(2001, -1))[1] for one in pixels])
        exact = -(p.double() + Normal(0, 1).log_prob(line).T).logsumexp(1) - math.log(16 / 2000)
        elbo = model.task.score(model(x)).double()
        bounds = {samples: model.bound(x, samples).double() for samples in (1, 8, 64, 2000)}
    means = [bound.mean() for bound in bounds.values()]
    assert means[0] > means[1] > means[2] > means[3] > exact.mean() - 0.01
    assert elbo.mean() > bounds[64].mean()
    torch.testing.assert_close(bounds[2000], exact, rtol=0, atol=0.3)
    torch.testing.assert_close(means[3], exact.mean(), rtol=0, atol=0.02)


def test_noise_follows_from_the_row() -> None:
    x = torch.rand(2000, 5)
    rows = fingerprints(x)
    assert len(rows.unique()) == 2000
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(normals(fingerprints(x[order]), 7, 4), normals(rows, 7, 4)[order])
    noise = normals(rows, 7, 4)
    assert noise.isfinite().all() and noise.mean().abs() < 0.05 and abs(noise.std() - 1) < 0.05
    assert (noise.T.corrcoef() - torch.eye(4)).abs().max() < 0.1
    assert torch.corrcoef(torch.stack([noise[:, 0], normals(rows, 8, 1)[:, 0]]))[0, 1].abs() < 0.1
    even = uniforms(rows, 7, 1)
    assert even.min() >= 0 and even.max() < 1 and abs(even.mean() - 0.5) < 0.05
    state = torch.get_rng_state()
    model, data = made(*DIGITS, "model.binarize=true")
    torch.set_rng_state(state)
    model.eval()(data.splits["test"]["input"][:3])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [1, 7, 200])
def test_the_test_gives_the_same_whatever_the_batches(size: int) -> None:
    values = []
    for count in (359, size):
        model, data = made(*DIGITS, "model.samples=3", "model.binarize=true")
        model.eval()
        with torch.no_grad():
            whole = data.head("test", 359)
            for index in torch.arange(359).split(count):
                model.test_step({name: column[index] for name, column in whole.items()}, 0)
        values.append(model.metrics["test"].compute())
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert set(values[0]) == {"loss", "negative_elbo", "reconstruction", "kl", "nll_bound"}


def test_a_gaussian_learns_how_wide_it_is() -> None:
    model, data = made("model=vae", "data=breast_cancer", "model.hidden_sizes=[]")
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        loss = model.training_step(data.head("train", 400), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        model.eval()
        x = data.splits["train"]["input"]
        back = (model(x)[:, :30] - model.target(x)).square().mean().sqrt()
    assert model.log_scale.exp().item() == pytest.approx(back.item(), rel=0.05) and back < 0.6


def test_what_is_drawn_depends_on_the_seed_alone(tmp_path) -> None:
    model = checkpoint(tmp_path, *DIGITS)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ask(model, "num_samples=10", f"seed={seed}", f"output={tmp_path}/{name}.png")
    first, again, other = (np.load(tmp_path / f"{name}.npz")["x"] for name in "abc")
    assert first.shape == (10, 8, 8) and first.dtype == np.uint8
    assert (first == again).all() and (first != other).any()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > picture.height  # eight in a row
    with pytest.raises(UserError, match=r"a.png exists"):
        ask(model, "num_samples=10", f"output={tmp_path}/a.png")
    with pytest.raises(UserError, match="a name that ends in .png"):
        ask(model, "num_samples=10", f"output={tmp_path}/a.csv")
    with pytest.raises(UserError, match="num_samples=10 takes neither data.path nor text"):
        ask(model, "num_samples=10", "text=hello")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["data=iris", "task.loss=bernoulli"], "task.loss=bernoulli is for pixels"),
        (["data=iris", "model.binarize=true"], "task.loss=bernoulli"),
        (["data=digits", "model.beta=-1"], "model.beta=-1"),
        (["data=digits", "model.samples=0"], "model.samples=0"),
        (["data=digits", "model.latent_size=0"], "model.latent_size=0"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made("model=vae", *options)
