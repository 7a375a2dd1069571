"""GPT and sampling: causality, the cache, what may be drawn, every option of the Transformer."""

from __future__ import annotations

import pytest
import torch

from src.errors import UserError
from src.models.components.sampling import choose, generate
from src.models.components.transformer import Cache
from src.models.gpt import GPT
from src.spec import DataSpec, TextSpec
from src.spec.tokenizer import BOS, EOS, PAD, SPECIAL
from src.tasks.registry import make_task

COUNTS = (0, 1, 1, 1, 0, 0, *range(1, 25))
SPEC = DataSpec("text", ("causal_lm",), {"train": 9}, TextSpec((17,), token_counts=COUNTS))
OPTIONS = [
    {},
    {"positions": "sinusoidal"},
    {"positions": "rotary"},
    {"positions": "none"},
    {"norm": "post", "bias": True},
    {"tied": False},
]


def gpt(**options) -> GPT:
    torch.manual_seed(0)
    model = GPT(SPEC, make_task(SPEC, GPT.tasks), **({"width": 32, "num_layers": 2} | options)).eval()
    for p in model.parameters():  # far from the start, where all tokens look alike
        p.data.mul_(4)
    return model


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(len(SPECIAL), 30, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_later_token_never_changes_an_earlier_output(options) -> None:
    model, x = gpt(**options), ids(3, 16)
    other = x.clone()
    other[:, 9:] = ids(3, 25)[:, 18:]
    with torch.no_grad():
        first, second = model(x), model(other)
    assert torch.equal(first[:, :9], second[:, :9])
    assert not torch.allclose(first[:, 9:], second[:, 9:])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_with_a_cache_outputs_are_the_same(options) -> None:
    model, x, cache = gpt(**options), ids(3, 16), Cache()
    with torch.no_grad():
        whole = model(x)
        pieces = [model(piece, cache) for piece in (x[:, :5], x[:, 5:6], x[:, 6:9], x[:, 9:])]
    assert cache.length == 16
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_text_is_the_same_with_and_without_a_cache_also_past_the_context(positions) -> None:
    model, prompt = gpt(positions=positions), ids(4, 3)
    options = {"temperature": 0.9, "top_k": 12, "top_p": 0.95, "seed": 5}
    cached, plain = (generate(model, prompt, 25, cached=cached, **options) for cached in (True, False))
    assert torch.equal(cached, plain)
    assert torch.equal(cached[:, :3], prompt) and cached.shape[1] <= 28
    assert not torch.equal(cached, generate(model, prompt, 25, **(options | {"seed": 6})))
    assert torch.equal(generate(model, prompt, 9, temperature=0.0), generate(model, prompt, 9, temperature=0.0, seed=3))


def test_special_tokens_are_not_drawn_and_a_row_ends_with_eos() -> None:
    model = gpt(tied=False)
    with torch.no_grad():
        model.head.weight[EOS] = model.head.weight[6:].mean(0) + 0.1 * torch.randn(32)
        model.head.weight[BOS] = 50.0
    drawn = generate(model, ids(40, 2), 14)[:, 2:]
    assert (drawn == EOS).any()
    for row in drawn.tolist():
        real = row[: row.index(EOS)] if EOS in row else row
        assert all(token >= len(SPECIAL) for token in real)
        assert set(row[len(real) + 1 :]) <= {PAD}


def test_draws_follow_temperature_top_k_and_top_p() -> None:
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = p.log().expand(20_000, -1)
    generator = torch.Generator().manual_seed(0)

    def shares(**options) -> list[float]:
        drawn = choose(logits, generator=generator, **options)
        return [round(share, 3) for share in (drawn.bincount(minlength=4) / len(drawn)).tolist()]

    assert shares() == pytest.approx(p.tolist(), abs=0.015)
    assert shares(top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=0.015)
    assert shares(top_p=0.6) == pytest.approx([0.625, 0.375, 0, 0], abs=0.015)
    assert shares(top_p=0.1) == [1, 0, 0, 0]
    assert shares(temperature=0.5) == pytest.approx((p**2 / (p**2).sum()).tolist(), abs=0.015)
    assert shares(temperature=0) == [1, 0, 0, 0]
    for wrong in ({"temperature": -1}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.1}):
        with pytest.raises(UserError, match=f"^{next(iter(wrong))}="):
            choose(logits, **wrong)
    with pytest.raises(UserError, match="^the prompt is empty"):
        generate(gpt(), ids(1, 0), 3)


def test_wrong_sizes_are_refused() -> None:
    for options, message in (
        ({"width": 30, "num_heads": 4}, "model.width=30 cannot be divided by model.num_heads=4"),
        ({"width": 12, "num_heads": 4, "positions": "rotary"}, "into even parts"),
        ({"num_layers": 0}, "model.num_layers=0 must be at least 1"),
        ({"dropout": 1.0}, "model.dropout=1.0 must be at least 0 and below 1"),
        ({"positions": "absolute"}, "model.positions=absolute: learned"),
        ({"norm": "both"}, "model.norm=both: pre or post"),
    ):
        with pytest.raises(UserError, match=message):
            gpt(**options)


def test_attention_maps_are_those_that_the_blocks_use() -> None:
    model, x = gpt(), ids(2, 10)
    with torch.no_grad():
        embedded = model.embedding(x)
        maps, _ = model.body.attention_maps(embedded)
        assert maps.shape == (2, 2, 4, 10, 10)
        torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 4, 10))
        assert maps.triu(1).abs().max() == 0
        block = model.body.blocks[0]
        y = block.attention_norm(model.body.placed(embedded, 0))
        value = y @ block.attention.key_value.weight.chunk(2)[1].T
        mixed = maps[0] @ value.unflatten(2, (4, -1)).transpose(1, 2)
        expected = block.attention.output(mixed.transpose(1, 2).flatten(2))
        torch.testing.assert_close(block.attention(y, causal=True), expected, rtol=1e-4, atol=1e-4)
