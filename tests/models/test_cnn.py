"""The convolutional net beyond the contract of all models: what it makes of a mirror image, and its memory format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import Parts, assemble
from src.models.cnn import CNN
from src.models.load import load_model
from src.runtime.signals import Signals
from src.spec import Classes, DataSpec, ImageSpec
from src.tasks.registry import make_task
from src.training import cost

SPEC = DataSpec(
    "toy",
    ("classification",),
    {"train": 9},
    ImageSpec((3, 16, 16), (120.0,) * 3, (60.0,) * 3),
    Classes(("a", "b", "c"), (3, 3, 3)),
)


def build(**options) -> CNN:
    torch.manual_seed(0)
    return CNN(SPEC, make_task(SPEC, CNN.tasks), channels=[8, 16], **options)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_in_evaluation_an_image_counts_as_its_mirror_image(images) -> None:
    plain, mirrored = build(), build(mirror=True)
    with torch.no_grad():
        assert torch.equal(mirrored(images), plain(images))  # in training it makes no difference
        assert not torch.equal(plain.eval()(images), plain(images.flip(-1)))
        outputs = mirrored.eval()(images)
        assert torch.equal(outputs, mirrored(images.flip(-1)))
        assert torch.equal(outputs, (plain(images) + plain(images.flip(-1))) / 2)
    assert cost.flops(mirrored, {"input": images}) == cost.flops(plain, {"input": images})  # those of training


def test_one_image_of_one_pixel_can_be_a_batch() -> None:
    """The last stage of many has one value a channel, which a batch of one image cannot normalise."""
    spec = SPEC.with_input(shape=(3, 3, 3))
    torch.manual_seed(0)
    model = CNN(spec, make_task(spec, CNN.tasks), channels=[4, 4])
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    before = norms[-1].running_mean.clone()
    batch = {"input": torch.arange(27.0).view(1, 3, 3, 3), "target": torch.tensor([1])}
    model.training_step(batch, 0).backward()
    assert torch.equal(norms[-1].running_mean, before) and not norms[0].running_mean.eq(0).any()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    model.training_step({name: rows.expand(2, *rows.shape[1:]) for name, rows in batch.items()}, 1)
    assert not torch.equal(norms[-1].running_mean, before)


# memory format -------------------------------------------------------------------------------------------------------

OPTIONS = [
    "model=cnn", "data=digits", "model.channels=[4,8]", "model.residual=true", "trainer=cpu", "trainer.max_epochs=2",
]  # fmt: skip


def fitted(*options: str, folder: Path, ckpt_path: Path | None = None) -> Parts:
    torch.set_num_threads(1)
    parts = assemble(compose([*OPTIONS, *options]), Signals())
    parts.checkpoint.directory = folder
    parts.trainer.fit(parts.model, datamodule=parts.data, ckpt_path=ckpt_path, weights_only=True)
    return parts


def lies_channels_last(tensors: Iterable[torch.Tensor]) -> bool:
    filters = [t for t in tensors if t.ndim == 4]
    return bool(filters) and all(t.is_contiguous(memory_format=torch.channels_last) for t in filters)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_channels_last_changes_where_values_lie_and_not_what_they_are(tmp_path, optimizer) -> None:
    options = (f"optimizer={optimizer}", "weight_averaging.kind=ema", "optimizer.lr=1e-3")
    plain = fitted(*options, folder=tmp_path / "plain")
    last = fitted(*options, "channels_last=true", folder=tmp_path / "last")
    assert lies_channels_last(last.model.parameters()) and not lies_channels_last(plain.model.parameters())
    plain.model.eval()
    last.model.eval()
    images = last.data.splits["test"]["input"]
    for values in (last.model.normalize(images.repeat(1, 3, 1, 1)), last.model.body[:-1](last.model.normalize(images))):
        assert lies_channels_last([values])
    with torch.no_grad():
        torch.testing.assert_close(last.model(images), plain.model(images), rtol=1e-2, atol=1e-2)

    model = load_model(tmp_path / "last" / "last.ckpt")
    with torch.no_grad():
        torch.testing.assert_close(model(images), last.model(images))


def test_channels_last_is_resumed_to_the_same_bits(tmp_path) -> None:
    options = ("channels_last=true", "model.dropout=0.1", "scheduler=none")
    whole = fitted(*options, folder=tmp_path / "whole")
    half = fitted(*options, "trainer.max_epochs=1", folder=tmp_path / "half")
    resumed = fitted(*options, folder=tmp_path / "resumed", ckpt_path=half.checkpoint.last_path)
    expected = whole.model.state_dict()
    assert half.trainer.global_step < resumed.trainer.global_step == whole.trainer.global_step
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.model.state_dict().items())
    assert resumed.model.history["val/loss"] == whole.model.history["val/loss"]
    states = resumed.trainer.optimizers[0].state.values()
    assert lies_channels_last([*resumed.model.parameters(), *(state["exp_avg"] for state in states)])


@pytest.mark.parametrize("options", [["model=fnn", "data=iris"], ["model=fnn", "data=digits"]], ids="-".join)
def test_channels_last_without_a_convolution_is_refused(options) -> None:
    with pytest.raises(UserError, match="^channels_last=true is for convolutions on images; FNN has none$"):
        assemble(compose([*options, "channels_last=true"]), Signals())


# compiled ------------------------------------------------------------------------------------------------------------


def test_a_compiled_net_takes_the_short_way_and_keeps_its_outputs(tmp_path) -> None:
    """On a GPU `reduce-overhead` replays CUDA graphs, whose outputs the next step writes over."""
    plain = fitted(folder=tmp_path / "plain")
    parts = assemble(compose([*OPTIONS, "compile=reduce-overhead"]), Signals())
    outputs, kept = [], parts.model.metrics["train"].append
    parts.model.register_forward_hook(lambda model, inputs, output: outputs.append(output))
    parts.model._compiled_call_impl = parts.model._call_impl  # compiling is torch's own affair, and takes a minute
    parts.model.metrics["train"].append = lambda *values: (
        kept(*values) if values[0].outputs.data_ptr() != outputs[-1].data_ptr() else pytest.fail("not a copy")
    )
    parts.checkpoint.directory = tmp_path / "compiled"
    parts.trainer.fit(parts.model, datamodule=parts.data)
    assert parts.trainer.fit_loop.epoch_loop.short
    assert parts.model.history == plain.model.history
