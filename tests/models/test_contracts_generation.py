"""What every model of the task generation promises: its samples, that both of its nets learn, that collapse is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from src.config import compose
from src.experiment.assemble import Parts, assemble
from src.models.load import load_model
from src.runtime.signals import Signals
from tests.tiny import MODELS, family, sizes

GENERATORS = [model for model in MODELS if "generation" in family(model).tasks]


def trained(model: str, folder: Path, *overrides: str) -> Parts:
    """Some epochs on digits."""
    torch.set_num_threads(1)
    given = [f"model={model}", *sizes(model), "model.average_decay=0.9", "trainer=cpu", "trainer.max_epochs=6"]
    given += ["optimizer=adam", "optimizer.betas=[0.5,0.9]", "scheduler=none"]
    parts = assemble(compose([*given, *overrides]), Signals())
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = folder
    parts.trainer.fit(parts.model, datamodule=parts.data)
    return parts


@pytest.fixture(scope="module", params=GENERATORS)
def parts(request, tmp_path_factory) -> Parts:
    return trained(request.param, tmp_path_factory.mktemp(request.param))


def test_samples_are_the_same_for_a_seed(parts: Parts) -> None:
    model = load_model(parts.checkpoint.best_path)
    first, more, other = model.draw(20, seed=1), model.draw(40, seed=1), model.draw(20, seed=2)
    assert first.shape == (20, *model.spec.input_shape) and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, model.draw(20, seed=1))
    torch.testing.assert_close(more[:20], first)
    assert (other - first).abs().mean() > 0.01
    torch.manual_seed(5)  # nor do they depend on what was drawn before
    assert torch.equal(first, model.draw(20, seed=1))


def test_both_nets_learn(parts: Parts) -> None:
    """The samples come nearer to the data, and what the generator made before is told from data by now."""
    model = parts.model.eval()
    batch = parts.data.head("test", 300)
    with torch.no_grad():
        real, label = model._real(batch)
        fake = model._samples(batch, model._untrained())
        scores, other = model.discriminator(real, label), model.discriminator(fake, None)
    assert (scores > other.max()).float().mean() > 0.9
    frechet = [value for _, value in model.history["val/frechet"]]
    assert frechet[-1] < 0.5 * frechet[0]
    assert {"train/loss", "train/generator_loss", "train/discriminator_loss", "val/loss"} <= model.history.keys()
    assert model.history["train/generator_loss"][-1][1] == pytest.approx(model.history["train/loss"][-1][1], rel=1e-4)


def test_a_batch_is_one_step_of_both(parts: Parts) -> None:
    batches = len(parts.data.train_dataloader())
    assert parts.trainer.global_step == 6 * batches
    moments = [next(iter(optimizer.state.values()))["step"] for optimizer in parts.trainer.optimizers]
    assert moments == [6 * batches, 6 * batches * parts.model.discriminator_steps]


def test_collapse_is_told(parts: Parts) -> None:
    """A generator of one image, however good, and one that has a single sample of each class."""
    model, batch = parts.model.eval(), parts.data.head("test", 300)

    def judged(images: torch.Tensor) -> dict[str, float]:
        with torch.no_grad():
            samples = model._features(2 * images / model.spec.input.levels - 1, batch)
            target = model.step_output(batch, "val").target
        metrics = model.task.metrics()
        metrics.update(samples, target)
        return {name: value.item() for name, value in metrics.compute().items()}

    images, label = batch["input"], batch["target"]
    honest = judged(images.flip(0))
    assert honest["frechet"] < 1e-6 and honest["diversity"] == pytest.approx(1) and honest["duplicates"] < 0.1
    assert honest["coverage"] == 1 and honest["class_entropy"] > 0.95 and honest["classifier_accuracy"] > 0.9

    constant = judged(images[:1].expand_as(images))
    assert constant["diversity"] == 0 and constant["duplicates"] == 1
    assert constant["coverage"] == pytest.approx(0.1) and constant["class_entropy"] == 0
    assert constant["frechet"] > 100 * honest["frechet"] + 1

    few = torch.stack([images[label == number][0] for number in range(10)])
    repeated = judged(few.repeat(30, 1, 1, 1))
    assert repeated["duplicates"] == 1 and repeated["coverage"] > 0.8 and repeated["diversity"] > 0.8


def test_a_checkpoint_alone_gives_the_distances_again(parts: Parts) -> None:
    again = load_model(parts.checkpoint.best_path)
    assert bool(again.task.features.ready)
    best, (epoch, value) = parts.checkpoint.best_epoch, parts.model.best("val/frechet")
    assert best == epoch
    with torch.no_grad():
        for batch in parts.data.val_dataloader():
            again.step(batch, "val")
    assert again.metrics["val"].compute()["frechet"] == value
