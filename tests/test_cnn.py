"""The convolutional net beyond the contract of all models: what it makes of a mirror image, and its memory format."""

from __future__ import annotations

import pytest
import torch

from src.models.cnn import CNN
from src.reports import cost
from src.spec import DataSpec
from src.tasks import make_task

SPEC = DataSpec(
    "toy", "image", ("classification",), (3, 16, 16), {"train": 9}, ("a", "b", "c"), (3, 3, 3),
    input_mean=(120.0,) * 3, input_std=(60.0,) * 3,
)  # fmt: skip


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
