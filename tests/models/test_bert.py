"""BERT and the task of hidden tokens: padding and order change nothing, and what is hidden, when and how often."""

from __future__ import annotations

import pytest
import torch

from src.errors import UserError
from src.models.bert import BERT
from src.spec import Classes, DataSpec, TextSpec
from src.spec.tokenizer import BOS, EOS, MASK, PAD, SEP, SPECIAL
from src.tasks.registry import make_task

VOCABULARY = 40
SPEC = DataSpec(
    name="rows",
    tasks=("classification", "binary", "masked_lm", "question_answering"),
    splits={"train": 8},
    input=TextSpec((24,), token_counts=tuple(range(1, VOCABULARY + 1))),
    target=Classes(("bad", "good"), (4, 4)),
)
TASKS = ("masked_lm", "classification", "binary", "question_answering")


def model(task: str = "masked_lm", spec: DataSpec = SPEC, **options) -> BERT:
    torch.manual_seed(0)
    sizes = {"width": 16, "num_layers": 2, "num_heads": 2}
    return BERT(spec, make_task(spec, BERT.tasks, name=task), **(sizes | options)).eval()


def rows(lengths: tuple[int, ...] = (24, 9, 17, 12)) -> torch.Tensor:
    """Rows `[BOS] question [SEP] context [EOS]` of these lengths, padded to the longest."""
    draw = torch.Generator().manual_seed(1)
    x = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = torch.randint(len(SPECIAL), VOCABULARY, (length,), generator=draw)
        row[0], row[4], row[length - 1] = BOS, SEP, EOS
    return x


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "options",
    [{}, {"norm": "post", "pooling": "first"}, {"positions": "rotary"}, {"positions": "sinusoidal"}],
    ids=lambda options: "-".join(map(str, options.values())) or "default",
)
def test_padding_and_the_order_of_the_batch_change_nothing(task, options) -> None:
    net, x = model(task, SPEC.with_input(shape=(40,)), **options), rows()
    wider = torch.cat([x, torch.full((len(x), 9), PAD)], dim=1)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        outputs = net(x)
        per_token = outputs.ndim == 3
        padded = net(wider)[:, : x.shape[1]] if per_token else net(wider)
        mixed = net(x[order])
        alone = net(x[1:2, :9])[0]
    real = (x != PAD) if per_token else torch.ones(len(x), dtype=torch.bool)
    torch.testing.assert_close(padded[real], outputs[real], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mixed[real[order]], outputs[order][real[order]], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(alone, outputs[1, :9] if per_token else outputs[1], rtol=1e-4, atol=1e-6)


def test_attention_maps_leave_padding_out() -> None:
    x = rows()
    with torch.no_grad():
        ((weights, queries, keys),) = model("classification").attention({"input": x}).values()
    assert weights.shape == (2, 4, 2, 24, 24) and torch.equal(queries, x) and torch.equal(keys, x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 2, 24))
    assert weights.transpose(0, 1).movedim(-1, 1)[x == PAD].abs().max() == 0


def test_every_position_sees_both_sides() -> None:
    net, x = model(), rows()
    changed = x.clone()
    changed[0, 20] = (changed[0, 20] - len(SPECIAL) + 1) % (VOCABULARY - len(SPECIAL)) + len(SPECIAL)
    with torch.no_grad():
        difference = (net(changed) - net(x))[0].abs().amax(1)
    assert (difference > 0).all()


def test_the_second_segment_begins_at_the_separator() -> None:
    net, x = model(), rows()
    without = x.where(x != SEP, MASK)
    with torch.no_grad():
        before = net(x), net(without)
        net.segment.weight[1, 0] += 1
        assert not torch.allclose(net(x), before[0])
        assert torch.equal(net(without), before[1])


def test_the_head_is_the_embedding_only_for_hidden_tokens() -> None:
    net = model()
    assert net.head.weight is net.embedding.weight
    assert model(tied=False).head.weight is not model(tied=False).embedding.weight
    assert model("binary").head.weight.shape == (1, 16)


def test_rows_longer_than_the_positions_are_refused() -> None:
    with pytest.raises(UserError, match=r"^model.max_length=8: the longest row of data=rows has 24 tokens; raise it"):
        model(max_length=8)
    assert model(max_length=8, positions="rotary")(rows()).shape == (4, 24, VOCABULARY)
    with pytest.raises(UserError, match="^a row of 30 tokens: this model has 24 learned positions$"):
        model()(rows((30,)))


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(UserError, match="^model.pooling=last: first or mean$"):
        model(pooling="last")


# hidden tokens --------------------------------------------------------------------------------------------------------


def many() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    x = torch.randint(len(SPECIAL), VOCABULARY, (2_000, 50), generator=draw)
    x[:, 0], x[:, 20], x[:, -5], x[:, -4:] = BOS, SEP, EOS, PAD
    return {"input": x, "index": torch.arange(len(x))}


def test_what_is_hidden() -> None:
    task, batch = make_task(SPEC, BERT.tasks, name="masked_lm"), many()
    hidden = task.prepare(batch)
    x, chosen = batch["input"], hidden["target"] != PAD
    ordinary = x >= len(SPECIAL)
    assert not (chosen & ~ordinary).any()
    assert torch.equal(hidden["target"][chosen], x[chosen])
    assert torch.equal(hidden["input"][~chosen], x[~chosen])
    share = chosen.sum() / ordinary.sum()  # of 88,000
    assert abs(share - 0.15) < 0.005
    after = hidden["input"][chosen]  # of 13,000
    assert abs((after == MASK).float().mean() - 0.8) < 0.015
    other = (after != MASK) & (after != x[chosen])
    assert abs(other.float().mean() - 0.1 * (1 - 1 / (VOCABULARY - len(SPECIAL)))) < 0.01
    assert (after[other] >= len(SPECIAL)).all() and len(after[other].unique()) == VOCABULARY - len(SPECIAL)


def test_evaluation_hides_the_same_tokens_of_a_row_and_each_training_step_others() -> None:
    task, batch = make_task(SPEC, BERT.tasks, name="masked_lm"), many()
    order = torch.randperm(2_000, generator=torch.Generator().manual_seed(3))
    mixed = task.prepare({name: values[order] for name, values in batch.items()})
    torch.manual_seed(5)
    evaluated = task.prepare(batch)
    assert torch.equal(mixed["input"], evaluated["input"][order])
    torch.manual_seed(5)
    first, second = task.prepare(batch, training=True), task.prepare(batch, training=True)
    torch.manual_seed(5)
    assert torch.equal(first["input"], task.prepare(batch, training=True)["input"])
    both = ((first["target"] != PAD) & (second["target"] != PAD)).sum() / (first["target"] != PAD).sum()
    assert abs(both - 0.15) < 0.02


@pytest.mark.parametrize("lengths", [(24, 9, 17, 12), (24,) * 40, (5,)])
def test_training_asks_for_hidden_places_alone_and_learns_the_same(lengths) -> None:
    net, x = model(dropout=0.0).train(), rows(lengths)
    torch.manual_seed(4)
    batch = net.task.prepare({"input": x, "index": torch.arange(len(x))}, training=True)
    assert len(batch["places"]) <= x.numel() and (batch["target"] != PAD).any()
    results = []
    for outputs in (net.outputs(batch), net(batch["input"])):
        judged = net.task.evaluate_batch(outputs, batch)
        sums = torch.cat([judged.outputs, judged.target.unsqueeze(1)], dim=1).sum(0)  # loss, right guesses, tokens
        results.append(
            [judged.loss, sums, *torch.autograd.grad(judged.loss, list(net.parameters()), allow_unused=True)]
        )
    assert net.outputs(batch).shape == (len(batch["places"]), VOCABULARY)
    torch.testing.assert_close(*results)


def test_the_number_of_places_depends_on_the_batch_s_size_alone_and_is_enough() -> None:
    task, counts = make_task(SPEC, BERT.tasks, name="masked_lm"), set()
    for seed in range(50):
        torch.manual_seed(seed)
        batch = task.prepare({"input": rows((24,) * 30), "index": torch.arange(30)}, training=True)
        counts.add(len(batch["places"]))
        assert set((batch["target"] != PAD).flatten().nonzero().flatten().tolist()) <= set(batch["places"].tolist())
    assert len(counts) == 1 and counts.pop() < 0.25 * 720


def test_the_unigram_beside_it_never_guesses_a_special_token() -> None:
    counts = (0, 900, 100, 100, 0, 0, *[1] * (VOCABULARY - 7), 50)  # [UNK] is the most frequent token
    task = make_task(SPEC.with_input(token_counts=counts), BERT.tasks, name="masked_lm")
    assert task.unigram.argmax() == VOCABULARY - 1
    torch.testing.assert_close(task.unigram.exp().sum(), torch.tensor(1.0))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_a_share_that_hides_nothing_or_all_is_refused(fraction) -> None:
    with pytest.raises(UserError, match=f"^task.mask_fraction={fraction} must be above 0 and below 1$"):
        make_task(SPEC, BERT.tasks, name="masked_lm", mask_fraction=fraction)


def test_token_dropout_hides_ordinary_tokens_and_in_training_alone() -> None:
    net, x = model("binary", token_dropout=0.5), rows((24,) * 200)
    seen = []
    net.embedding.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        assert torch.equal(net(x), model("binary")(x)) and torch.equal(seen[0], x)
        net.train()(x)
    ordinary, hidden = x >= len(SPECIAL), seen[1] == MASK
    assert torch.equal(seen[1][~hidden], x[~hidden]) and not hidden[~ordinary].any()
    assert abs(hidden[ordinary].float().mean() - 0.5) < 4 * (0.25 / int(ordinary.sum())) ** 0.5


def test_a_share_of_all_tokens_is_no_token_dropout() -> None:
    with pytest.raises(UserError, match=r"model.token_dropout=1.0 must be at least 0 and below 1"):
        model("binary", token_dropout=1.0)
