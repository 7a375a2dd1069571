"""Rows of a table in a net: categories are embedded, numbers can be waves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from src.errors import UserError
from src.models.components.tabular import NUMBER_SIZE, EmbeddedRow
from src.models.fnn import FNN
from src.spec import Classes, DataSpec, ImageSpec, Number, TableSpec
from src.tasks.registry import make_task

SPEC = DataSpec(
    "t", ("binary",), {"train": 9}, TableSpec((5,), cardinalities=(3, 1000)), Classes(("no", "yes"), (5, 4))
)


def fnn(spec: DataSpec = SPEC, **options) -> FNN:
    return FNN(spec, make_task(spec, FNN.tasks), **options)


def test_a_code_picks_its_embedding_and_the_unknown_is_zero_before_training() -> None:
    row = EmbeddedRow(5, (3, 1000), None, 0, 0.1)
    assert row.size == 3 + 3 + 50  # fastai's rule: 1.6 * 3 ** 0.56 = 2.96; at most 50
    x = torch.tensor([[0.5, -1.0, 2.0, 1.0, 999.0], [0.5, -1.0, 2.0, 0.0, 0.0]])
    known, unknown = row(x)
    assert known[:3].tolist() == [0.5, -1.0, 2.0]
    assert torch.equal(known[3:6], row.embeddings[0].weight[1]) and torch.equal(
        known[6:], row.embeddings[1].weight[999]
    )
    assert (unknown[3:] == 0).all()


def test_waves_tell_numbers_apart_that_a_line_cannot() -> None:
    torch.manual_seed(0)
    spec = DataSpec("t", ("regression",), {"train": 512}, TableSpec((1,)), Number())
    x = torch.linspace(-2, 2, 512).unsqueeze(1)
    batch = {"input": x, "target": torch.sign(torch.sin(12 * x[:, 0]))}
    losses = {}
    for frequencies in (0, 16):
        model = fnn(spec, depth=1, width=16, num_frequencies=frequencies, frequency_scale=1.0)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(150):
            loss = model.task.loss(model(x), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[frequencies] = loss.item()
    assert losses[16] < 0.3 < 0.7 < losses[0]
    assert model.row.size == NUMBER_SIZE


def test_tables_without_categories_and_pictures_are_as_before() -> None:
    plain = replace(SPEC, input=TableSpec((5,)))
    picture = replace(SPEC, input=ImageSpec((1, 2, 2)))
    for spec, inputs in ((plain, 5), (picture, 4)):
        names = [name for name, _ in fnn(spec, num_frequencies=8 if spec is picture else 0).named_parameters()]
        assert names[0] == "body.0.weight" and not any(name.startswith("row.") for name in names)
        assert fnn(spec).body[0].in_features == inputs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_size": 0}, "model.embedding_size=0 must be at least 1"),
        ({"num_frequencies": -1}, "model.num_frequencies=-1 must be at least 0"),
        ({"num_frequencies": 4, "frequency_scale": 0.0}, "model.frequency_scale=0.0 must be above 0"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(options, message) -> None:
    with pytest.raises(UserError, match=message):
        fnn(**options)
