"""Recurrent networks: what padding may not change, what each pooling sees, what a position may know."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from src.data.series.adding import Adding
from src.errors import UserError
from src.models.components.layers import WindowNorm
from src.models.rnn import CELLS, RNN, Pool, turned
from src.spec import Classes, DataSpec, Horizon, ImageSpec, Number, SeriesSpec, TextSpec
from src.spec.tokenizer import PAD, SPECIAL
from src.tasks.registry import make_task

VOCABULARY = 20


def tokens_spec(*tasks: str) -> DataSpec:
    return DataSpec(
        name="made",
        tasks=tasks or ("classification",),
        splits={"train": 1},
        input=TextSpec((9,), token_counts=(0,) * len(SPECIAL) + (1,) * (VOCABULARY - len(SPECIAL))),
        target=Classes(("a", "b", "c"), (1, 1, 1)),
    )


def series_spec(horizon: int = 0, channels: int = 1, **options) -> DataSpec:
    return DataSpec(
        name="made",
        tasks=("forecasting",) if horizon else ("regression",),
        splits={"train": 1},
        input=SeriesSpec((7, 3), **options),
        target=Horizon(horizon, (1.0,) * channels) if horizon else Number(),
    )


def image_spec() -> DataSpec:
    return DataSpec("made", ("regression",), {"train": 1}, ImageSpec((2, 5, 4)), Number())


def made(spec: DataSpec, **options) -> RNN:
    torch.manual_seed(0)
    return RNN(spec, make_task(spec, RNN.tasks), hidden_size=8, **options).eval()


def some_tokens(*lengths: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    rows = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(len(SPECIAL), VOCABULARY, (length,), generator=draw)
    return rows


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_padding_and_the_order_of_rows_change_nothing(cell, bidirectional, pooling) -> None:
    model = made(tokens_spec(), cell=cell, bidirectional=bidirectional, pooling=pooling, num_layers=2)
    rows = some_tokens(5, 9, 1, 3)
    with torch.no_grad():
        together = model(rows)
        alone = torch.cat([model(row[row != PAD].unsqueeze(0)) for row in rows])
        wider = model(nn.functional.pad(rows, (0, 4), value=PAD))
        mixed = model(rows[[2, 0, 3, 1]])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together, wider)
    torch.testing.assert_close(together[[2, 0, 3, 1]], mixed)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_equal_packed_ones(cell, bidirectional) -> None:
    """Two layers, in each direction, say the same as torch's own on packed sequences."""
    model = made(tokens_spec(), cell=cell, bidirectional=bidirectional, num_layers=2)
    own = CELLS[cell](8, 8, num_layers=2, bidirectional=bidirectional, batch_first=True)
    for number, layer in enumerate(model.layers):
        for suffix, direction in (("", layer.forwards), ("_reverse", layer.backwards)):
            for name, values in direction.named_parameters() if direction is not None else ():
                getattr(own, name.replace("l0", f"l{number}") + suffix).data.copy_(values)
    lengths = torch.tensor([5, 9, 1, 3])
    x = torch.randn(4, 9, 8)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(own(packed)[0], batch_first=True)
    outputs = x
    for layer in model.layers:
        outputs = layer(outputs, lengths)
    real = (torch.arange(9) < lengths.unsqueeze(1)).unsqueeze(2)
    torch.testing.assert_close(outputs * real, expected)


def test_each_pooling_by_hand() -> None:
    x, lengths = torch.randn(2, 4, 6), torch.tensor([4, 2])
    last = Pool("last", 6, bidirectional=False)(x, lengths)
    assert torch.equal(last, torch.stack([x[0, 3], x[1, 1]]))
    both = Pool("last", 6, bidirectional=True)(x, lengths)
    assert torch.equal(
        both, torch.stack([torch.cat([x[0, 3, :3], x[0, 0, 3:]]), torch.cat([x[1, 1, :3], x[1, 0, 3:]])])
    )
    mean = Pool("mean", 6, bidirectional=False)(x, lengths)
    torch.testing.assert_close(mean, torch.stack([x[0].mean(0), x[1, :2].mean(0)]))
    attention = Pool("attention", 6, bidirectional=False)
    weights = attention.score(x[1, :2]).softmax(0)
    torch.testing.assert_close(attention(x, lengths)[1], (weights * x[1, :2]).sum(0))


def test_a_sequence_is_turned_within_its_length() -> None:
    x = torch.arange(8.0).view(2, 4, 1)
    assert turned(x, torch.tensor([4, 2])).squeeze(2).tolist() == [[3, 2, 1, 0], [5, 4, 6, 7]]
    assert torch.equal(turned(x, None), x.flip(1))


@pytest.mark.parametrize("cell", CELLS)
def test_a_position_knows_nothing_of_later_ones(cell) -> None:
    model = made(tokens_spec("causal_lm"), cell=cell, num_layers=2)
    rows = some_tokens(9, 9)
    other = rows.clone()
    other[:, 5:] = len(SPECIAL)
    with torch.no_grad():
        outputs, changed = model(rows), model(other)
    assert outputs.shape == (2, 9, VOCABULARY)
    assert torch.equal(outputs[:, :5], changed[:, :5])
    assert not torch.allclose(outputs[:, 5:], changed[:, 5:])


def test_no_reading_backwards_where_each_position_is_foretold() -> None:
    with pytest.raises(UserError, match="model.bidirectional=true: task=causal_lm"):
        made(tokens_spec("causal_lm"), bidirectional=True)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (tokens_spec(), None),
        (series_spec(), (4, 7, 3)),
        (series_spec(2, 2, mean=(0.0,) * 3, std=(1.0,) * 3), (4, 7, 3)),
        (image_spec(), (4, 2, 5, 4)),
    ],
    ids=["tokens", "series", "forecast", "image"],
)
def test_every_parameter_learns(cell, spec, shape) -> None:
    model = made(spec, cell=cell, num_layers=2, bidirectional=True, pooling="attention", dropout=0.1).train()
    inputs = some_tokens(5, 9, 1, 3) if shape is None else torch.randn(shape)
    outputs = model(inputs)
    assert outputs.shape == (4, model.task.num_outputs)
    outputs.square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_an_image_is_read_row_by_row() -> None:
    """A change in the last row leaves the states of the rows before alone."""
    model = made(image_spec(), pooling="mean")
    steps = []
    model.layers[0].register_forward_hook(lambda module, inputs, output: steps.append((inputs[0], output)))
    x = torch.randn(1, 2, 5, 4)
    changed = x.clone()
    changed[:, :, -1] += 1
    model(x)
    model(changed)
    assert steps[0][0].shape == (1, 5, 8)
    assert torch.equal(steps[0][0][0, 3], x[0, :, 3].flatten())
    assert torch.equal(steps[0][1][:, :4], steps[1][1][:, :4])
    assert not torch.allclose(steps[0][1][:, 4], steps[1][1][:, 4])


@pytest.mark.parametrize("cell", CELLS)
def test_first_weights(cell) -> None:
    layer = made(tokens_spec(), cell=cell).layers[0].forwards
    for gate in layer.weight_hh_l0.split(8):
        torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)
    biases = layer.bias_ih_l0 + layer.bias_hh_l0
    expected = torch.zeros(len(biases))
    if cell == "lstm":
        expected[8:16] = 1  # the forget gate
    assert torch.equal(biases, expected)


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_a_function_of_the_parameters(cell) -> None:
    model = made(tokens_spec(), cell=cell, bidirectional=True, num_layers=2)
    batch = {"input": some_tokens(5, 9, 1, 3), "target": torch.tensor([0, 1, 2, 0])}
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values):
        return model.task.loss(torch.func.functional_call(model, values, (batch["input"],)), batch)

    gradients = torch.func.grad(loss)(parameters)
    model.task.loss(model(batch["input"]), batch).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_numbers_are_remembered_until_the_last_step(cell) -> None:
    """The adding problem in small: to be far better than the mean, a net has to carry both numbers to the end."""
    data = Adding(length=8, rows=512, val_rows=256, test_rows=1)
    data.setup("fit")
    torch.manual_seed(0)
    model = RNN(data.spec, make_task(data.spec, RNN.tasks), cell=cell, hidden_size=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    train, val = data.splits["train"], data.splits["val"]
    for step in range(150):
        rows = torch.arange(step % 4 * 128, step % 4 * 128 + 128)
        loss = model.training_step({name: values[rows] for name, values in train.items()}, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert model.task.loss(model(val["input"]), val) < 0.2  # 1: the mean


@pytest.mark.filterwarnings("ignore:The tensor attributes")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_export_gives_the_same_for_any_number_of_rows(bidirectional) -> None:
    model = made(tokens_spec(), bidirectional=bidirectional, pooling="mean")
    rows = some_tokens(5, 9, 1, 3)
    program = torch.export.export(model, (rows,), dynamic_shapes=({0: torch.export.Dim("rows", min=2)},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(rows[:3]), model(rows[:3]))


@pytest.mark.parametrize("kind", ["last", "mean", "standard"])
def test_a_window_s_level_comes_back(kind) -> None:
    """A series moved up by 5 is forecast 5 higher; `standard` doubles with it too."""
    spec = series_spec(2, 2, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = made(spec, window_norm=kind)
    x = torch.randn(4, 7, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(x + 5), model(x) + 5, atol=1e-4, rtol=1e-4)
        if kind == "standard":
            torch.testing.assert_close(model(100 * x), 100 * model(x), atol=1e-2, rtol=1e-3)


def test_window_norm_by_hand() -> None:
    x = torch.tensor([[[1.0, 10.0], [3.0, 30.0]]])
    for kind, expected in (("none", 1.0), ("last", 4.0), ("mean", 3.0)):
        norm = WindowNorm(kind, targets=1)
        assert norm.give_back(torch.ones(1, 1), *norm.measure(x)).item() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "model.hidden_size=0 must be at least 1"),
        ({"num_layers": 0}, "model.num_layers=0 must be at least 1"),
        ({"embedding_size": 0}, "model.embedding_size=0 must be at least 1"),
        ({"dropout": 1.0}, "model.dropout=1.0 must be at least 0 and below 1"),
        ({"cell": "elman"}, "model.cell=elman: rnn, lstm, gru"),
        ({"pooling": "max"}, "model.pooling=max: last, mean or attention"),
    ],
)
def test_bad_options(options, message) -> None:
    spec = tokens_spec()
    with pytest.raises(UserError, match=message):
        partial(RNN, spec, make_task(spec, RNN.tasks))(**options)


def test_an_unknown_window_norm() -> None:
    spec = series_spec(2, 1, mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(UserError, match="model.window_norm=median: none, last, mean, standard"):
        made(spec, window_norm="median")
