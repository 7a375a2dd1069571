"""GAN: penalty and distance against formulas written out, averaged weights, classes on demand, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from src.config import compose
from src.errors import RunFailed, UserError
from src.experiment.assemble import assemble
from src.experiment.build import build_model
from src.metrics.generation import frechet_distance, moments
from src.models.gan import GAN, sizes
from src.runtime.signals import Signals
from src.spec import DataSpec
from src.tasks.generation.features import SIZE
from tests.tiny import dataset

SMALL = ("model.width=4", "model.latent_size=8", "trainer=cpu", "trainer.max_epochs=1")


def gan(*overrides: str, model: str = "gan", data: str = "digits", spec: DataSpec | None = None) -> GAN:
    torch.manual_seed(0)
    config = compose([f"model={model}", "model.width=4", "model.latent_size=8", *overrides])
    return build_model(config, spec or dataset(data).spec)


# the distance --------------------------------------------------------------------------------------------------------


def test_frechet_distance_of_gaussians_in_closed_form() -> None:
    """Of covariances that commute: the distance of the means and of the deviations along each axis."""
    mean, other = torch.tensor([1.0, 2.0]).double(), torch.tensor([0.0, 4.0]).double()
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double()
    cov, other_cov = (turn @ torch.diag(torch.tensor(d).double()) @ turn.T for d in ([4.0, 9.0], [1.0, 25.0]))
    expected = 5 + (2 - 1) ** 2 + (3 - 5) ** 2
    assert frechet_distance(mean, cov, other, other_cov).item() == pytest.approx(expected)
    assert frechet_distance(mean, cov, mean, cov).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("rows", [200, 5])  # with 5 the covariances are singular
def test_frechet_distance_is_scipy_s(rows: int) -> None:
    torch.manual_seed(0)
    some, others = torch.randn(rows, 8) @ torch.randn(8, 8), 0.5 + torch.randn(rows, 8) @ torch.randn(8, 8)
    a, b = some.double().numpy(), others.double().numpy()
    cov, other_cov = np.cov(a.T, bias=True), np.cov(b.T, bias=True)
    root = sqrtm(cov @ other_cov).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov + other_cov - 2 * root)
    assert frechet_distance(*moments(some), *moments(others)).item() == pytest.approx(expected, rel=1e-5)


def test_features_are_those_of_a_good_classifier_and_the_same_at_every_run() -> None:
    data = dataset("digits")
    first, second = gan().task, gan("seed=5").task
    for task in (first, second):
        task.learn(data.splits["train"], "cpu")
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    test = data.splits["test"]
    guess = first.features(test["input"] / 16)[:, SIZE:].argmax(1)
    assert (guess == test["target"]).float().mean() > 0.95
    before = {name: value.clone() for name, value in first.state_dict().items()}
    first.learn(data.splits["val"], "cpu")  # it has learnt already: from a checkpoint, say
    assert all(torch.equal(value, before[name]) for name, value in first.state_dict().items())


def test_without_classes_features_are_random_and_classes_are_not_judged() -> None:
    spec = replace(dataset("digits").spec, target=None)
    model = gan(spec=spec).eval()
    model.task.learn(dataset("digits").splits["train"], "cpu")
    with torch.no_grad():
        model.step(dataset("digits").head("val", 20), "val")
    assert model.metrics["val"].compute().keys() == {"loss", "frechet", "diversity", "duplicates"}
    with pytest.raises(UserError, match=r"task\.monitor=coverage is no metric of generation"):
        gan("task.monitor=coverage", spec=spec)


# the nets ------------------------------------------------------------------------------------------------------------


def test_gradient_penalty_of_a_linear_critic() -> None:
    """The gradient is the critic's weight everywhere: (|w| - 1)^2, whose own gradient is 2 (|w| - 1) w / |w|."""
    model = gan(model="wgan").double()
    weight = nn.Parameter(torch.linspace(-1, 1, 64).double())
    critic = nn.Module()
    critic.register_parameter("weight", weight)
    critic.forward = lambda images, label: images.flatten(1) @ weight
    model.discriminator = critic
    real, fake = torch.rand(2, 6, 1, 8, 8).double()
    penalty = model.penalty(real, fake, None)
    assert penalty.item() == pytest.approx((weight.norm().item() - 1) ** 2)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * (weight.norm() - 1) * weight.detach() / weight.norm().detach())


def test_gradient_penalty_is_of_each_row_alone() -> None:
    """Against differences of the critic's score, between the same images."""
    model = gan(model="wgan").double()
    nn.init.normal_(model.discriminator.head.weight)
    real, fake = torch.rand(2, 3, 1, 8, 8).double()
    torch.manual_seed(1)
    got = model.penalty(real, fake, None).item()
    torch.manual_seed(1)
    between = torch.lerp(real, fake, torch.rand(3, 1, 1, 1, dtype=torch.float64))
    norms, step = [], 1e-6
    with torch.no_grad():
        for image in between:
            moved = image + step * torch.eye(64).double().view(64, 1, 8, 8)
            slope = (model.discriminator(moved) - model.discriminator(image.unsqueeze(0))) / step
            norms.append(slope.norm())
    assert got == pytest.approx((torch.stack(norms) - 1).square().mean().item(), rel=1e-3)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((1, 8, 8), [(4, 4), (8, 8)]),
        ((1, 28, 28), [(4, 4), (7, 7), (14, 14), (28, 28)]),
        ((3, 64, 64), [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64)]),
        ((3, 9, 14), [(3, 4), (5, 7), (9, 14)]),
    ],
)
def test_images_of_any_size(shape: tuple[int, ...], found: list[tuple[int, int]]) -> None:
    assert sizes(shape) == found
    model = gan(spec=dataset("digits").spec.with_input(shape=shape, mean=(), std=()))
    images = model.draw(3, seed=0)
    assert images.shape == (3, *shape) and model.discriminator(images).shape == (3,)


def test_averaged_weights_follow_the_generator() -> None:
    model = gan("model.average_decay=0.9")
    start = {name: value.clone() for name, value in model.average.state_dict().items()}
    for p in model.generator.parameters():
        p.data += 1
    model.generator.norms[0].running_mean += 1
    model._update_average(steps=1000)
    for name, value in model.average.named_parameters():
        torch.testing.assert_close(value, start[name] + 0.1)
    torch.testing.assert_close(model.average.norms[0].running_mean, start["norms.0.running_mean"] + 0.1)
    assert not model.train().average.training and not any(p.requires_grad for p in model.average.parameters())


@pytest.mark.slow
def test_a_class_on_demand(tmp_path) -> None:
    config = compose(
        [
            *("model=gan", "model.width=16", "model.conditional=true", "model.average_decay=0.9", "trainer=cpu"),
            *("trainer.max_epochs=10", "optimizer=adam", "optimizer.lr=2e-3"),
            *("optimizer.betas=[0.5,0.999]", "threads=1"),
        ]
    )
    parts = assemble(config, Signals())
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = tmp_path
    parts.trainer.fit(parts.model, datamodule=parts.data)
    model = parts.model.eval()
    images, classes = model.draw(200, seed=0), torch.arange(200) % 10
    guess = model.task.features(images)[:, SIZE:].argmax(1)
    assert (guess == classes).float().mean() > 0.5  # by chance 0.1
    sevens = model.draw(50, seed=0, label=7)
    assert (model.task.features(sevens)[:, SIZE:].argmax(1) == 7).float().mean() > 0.5


# what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.latent_size=0"], r"model\.latent_size=0 must be at least 1"),
        (["model.discriminator_steps=0"], r"model\.discriminator_steps=0 must be at least 1"),
        (["model.discriminator_lr_factor=0"], r"model\.discriminator_lr_factor=0 must be above 0"),
        (["model.gradient_penalty=-1"], r"model\.gradient_penalty=-1 must be at least 0"),
        (["model.gradient_penalty=10"], r"set model\.discriminator_norm=layer or none"),
        (["model.average_decay=1"], r"model\.average_decay=1 must be at least 0 and below 1"),
        (["task.loss=mse"], r"task\.loss=mse: the loss of generation is the model's own"),
        (["task=classification"], r"task=classification does not fit"),
        (["trainer.accumulate_grad_batches=2"], r"trainer\.accumulate_grad_batches=2 does not go with GAN"),
        (["trainer.gradient_clip_val=1"], r"trainer\.gradient_clip_val=1 does not go with GAN"),
        (["weight_averaging.kind=ema"], r"weight_averaging\.kind=ema does not go with GAN"),
        (["show_predictions=4"], r"show_predictions=4 does not go with GAN"),
        (["trainer=ddp_cpu"], r"GAN trains in one process"),
        (["data=iris"], r"takes image data, data=iris is table data"),
    ],
)
def test_options_that_do_not_go(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        assemble(compose(["model=gan", *SMALL, *overrides]), Signals())


def test_a_condition_without_classes() -> None:
    spec = replace(dataset("digits").spec, target=None)
    with pytest.raises(UserError, match=r"model\.conditional=true: data=digits has no classes"):
        gan("model.conditional=true", spec=spec)


@pytest.mark.parametrize("shape", [(1, 7, 8), (3, 80, 64)])
def test_images_too_small_or_too_large(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"makes images from 8 x 8 to 64 x 64"):
        gan(spec=dataset("digits").spec.with_input(shape=shape))


# as a run ------------------------------------------------------------------------------------------------------------


def test_divergence_names_its_step(tmp_path) -> None:
    parts = assemble(compose(["model=gan", *SMALL, "optimizer=sgd", "optimizer.lr=1e30"]), Signals())
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = tmp_path
    with pytest.raises(RunFailed, match=r"the loss is nan at step \d+ \(epoch 1\)"):
        parts.trainer.fit(parts.model, datamodule=parts.data)


@pytest.mark.parametrize("scheduler", ["cosine", "plateau"])
def test_one_schedule_for_both(scheduler: str, tmp_path) -> None:
    given = ["optimizer=adam", "optimizer.lr=1e-3", f"scheduler={scheduler}", "model.discriminator_lr_factor=4"]
    given += ["scheduler.patience=0", "trainer.max_epochs=4"] if scheduler == "plateau" else []
    parts = assemble(compose(["model=gan", *SMALL, *given]), Signals())
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = tmp_path
    parts.trainer.fit(parts.model, datamodule=parts.data)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in parts.trainer.optimizers]
    assert rates[1] == pytest.approx(4 * rates[0])
    assert rates[0] == 0 if scheduler == "cosine" else rates[0] <= 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_nets_train_to_nearly_the_same(tmp_path) -> None:
    """The penalty has a second derivative, which compiled graphs lack."""
    found = []
    for compiled in (False, True):
        torch._dynamo.reset()
        given = ["model=wgan", *SMALL, "trainer.limit_train_batches=3", "trainer.limit_val_batches=0"]
        parts = assemble(compose(given), Signals())
        parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = tmp_path
        if compiled:
            parts.model.compile(backend="aot_eager")
        parts.trainer.fit(parts.model, datamodule=parts.data)
        found.append([p.detach().clone() for p in parts.model.generator.parameters()])
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
