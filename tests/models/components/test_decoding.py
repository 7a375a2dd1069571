"""Decoding: greedy and beam search beside plain ones that keep nothing, for both kinds of model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from src.models.components.decoding import NEVER, beam_search, greedy
from src.models.components.transformer import Cache
from src.models.gpt import GPT
from src.models.t5 import T5
from src.spec import DataSpec, TextPairSpec, TextSpec
from src.spec.tokenizer import BOS, EOS, PAD, SPECIAL, Tokenizer
from src.tasks.registry import make_task

VOCABULARY, LENGTH = 20, 9
TOKENIZER = str(Tokenizer.train(["abcdefghijklmn"]))


def model(family: type, seed: int = 0, **options) -> T5 | GPT:
    """Random weights, large enough that a next token is clearly likelier than others and some texts end early."""
    torch.manual_seed(seed)
    task, more = ("seq2seq", {"target_length": LENGTH + 1}) if family is T5 else ("causal_lm", {})
    modality = TextPairSpec if family is T5 else TextSpec
    text = modality((LENGTH + 4,), token_counts=(1,) * VOCABULARY, tokenizer=TOKENIZER, **more)
    spec = DataSpec("toy", (task,), {"train": 1}, text)
    net = family(spec, make_task(spec, (task,)), width=16, num_heads=2, num_layers=2, **options).eval()
    for p in net.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=1.0)
    net.head.weight.data[EOS] *= 3
    return net


def sources(rows: int = 10) -> torch.Tensor:
    """Of different lengths, padded."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(len(SPECIAL), VOCABULARY, (rows, 8), generator=draw)
    lengths = torch.randint(2, 9, (rows, 1), generator=draw)
    steps = torch.arange(8)
    return ids.where(steps < lengths - 1, EOS).where(steps < lengths, PAD)


def log_p(logits: torch.Tensor) -> torch.Tensor:
    """Of the next token (V,), from logits (V,)."""
    logits = logits.clone()
    logits[list(NEVER)] = -math.inf
    return logits.log_softmax(-1)


def plain_beam(following, length: int, beams: int, penalty: float) -> list[int]:
    """The search for one text, with lists; `following(tokens)` gives log P (V,) of what comes next."""
    live, finished = [(0.0, [])], []
    for place in range(1, length + 1):
        candidates = [
            (score + value, [*tokens, token])
            for score, tokens in live
            for token, value in enumerate(following(tokens).tolist())
        ]
        candidates = sorted(candidates, key=lambda candidate: -candidate[0])[: 2 * beams]
        for score, tokens in candidates[:beams]:
            if tokens[-1] == EOS:
                finished.append((score / ((5 + place) / 6) ** penalty, tokens))
        live = [candidate for candidate in candidates if candidate[1][-1] != EOS][:beams]
        best_to_come = live[0][0] / ((5 + length) / 6) ** penalty
        if finished and (beams == 1 or max(finished)[0] >= best_to_come):
            break
    return max(finished)[1] if finished else live[0][1]


def written(row: torch.Tensor) -> list[int]:
    """Without the padding, which has to be at the end."""
    ids = row.tolist()
    length = ids.index(EOS) + 1 if EOS in ids else len(ids)
    assert not any(ids[length:])
    return ids[:length]


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("beams", [1, 3])
def test_cached_and_batched_equals_one_at_a_time_from_scratch(beams: int, positions: str) -> None:
    net, source = model(T5, seed=7, positions=positions, tied=False), sources()
    with torch.no_grad():
        together = net.generate(source, beams)
        for row, ids in zip(source, together, strict=True):
            alone = row[row != PAD].unsqueeze(0)
            expected = plain_beam(
                lambda tokens, alone=alone: log_p(net(alone, torch.tensor([[BOS, *tokens]]))[0, -1]),
                net.length,
                beams,
                net.length_penalty,
            )
            assert written(ids) == expected
    assert len(set((together != PAD).sum(1).tolist())) > 1, "some rows have to stop before others"


@pytest.mark.parametrize("beams", [1, 4])
def test_decoder_only(beams: int) -> None:
    net, prompt = model(GPT), torch.tensor([[BOS, 7, 8], [BOS, 9, 10]])
    with torch.no_grad():
        if beams == 1:
            together = greedy(net, prompt, LENGTH)
        else:
            together = beam_search(net, prompt, LENGTH, beams=beams, penalty=1.0)
        for row, ids in zip(prompt.tolist(), together, strict=True):
            expected = plain_beam(
                lambda tokens, row=row: log_p(net(torch.tensor([[*row, *tokens]]))[0, -1]), LENGTH, beams, 1.0
            )
            assert written(ids) == expected


@pytest.mark.parametrize("seed", range(5))
def test_one_beam_is_greedy(seed: int) -> None:
    net, source = model(T5, seed), sources()
    with torch.no_grad():
        memory, mask = net.encode(source), source != PAD
        start = source.new_full((len(source), 1), BOS)

        def step(tokens, cache):
            return net.decode(tokens, memory, mask, cache)

        assert torch.equal(beam_search(step, start, LENGTH, beams=1), greedy(step, start, LENGTH))


def table(following: dict[tuple[int, ...], dict[int, float]]):
    """A step that foretells by a table of probabilities, one row."""

    def step(tokens: torch.Tensor, cache: Cache) -> torch.Tensor:
        keys = tokens[:, None, :, None]
        histories = cache.extend(0, keys, keys)[0][:, 0, 1:, 0].tolist()  # after [BOS]
        logits = torch.full((len(tokens), 1, VOCABULARY), -30.0)
        for row, history in enumerate(histories):
            for token, p in following.get(tuple(history), {EOS: 1.0}).items():
                logits[row, 0, token] = math.log(p)
        return logits

    return step


A, B, C = 6, 7, 8


def test_a_beam_finds_what_greedy_misses() -> None:
    """A is likelier than B at first (0.6 against 0.4), but what follows A is uncertain: B EOS has 0.4, A C EOS 0.3."""
    following = {(): {A: 0.6, B: 0.4}, (A,): {C: 0.5, B: 0.5}, (B,): {EOS: 1.0}}
    start = torch.tensor([[BOS]])
    assert written(greedy(table(following), start, 5)[0])[0] == A
    assert written(beam_search(table(following), start, 5, beams=2, penalty=0.0)[0]) == [B, EOS]


def test_the_penalty_decides_between_short_and_long() -> None:
    """P(EOS) = 0.5 against P(A A A EOS) = 0.45."""
    following = {(): {EOS: 0.5, A: 0.45, B: 0.05}} | {key: {A: 1.0} for key in [(A,), (A, A), (B,), (B, A)]}
    start = torch.tensor([[BOS]])
    results = [written(beam_search(table(following), start, 6, beams=2, penalty=penalty)[0]) for penalty in (0.0, 1.0)]
    assert results == [[EOS], [A, A, A, EOS]]


def test_a_text_without_an_end_is_cut_at_the_length() -> None:
    following = {tuple([A] * n): {A: 0.9, B: 0.1} for n in range(4)}
    following |= {key: {B: 1.0} for n in range(1, 4) for key in itertools.product((A, B), repeat=n) if B in key}
    start = torch.tensor([[BOS]])
    assert greedy(table(following), start, 3)[0].tolist() == [A, A, A]
    assert beam_search(table(following), start, 3, beams=2)[0].tolist() == [A, A, A]


def test_finished_rows_stop_the_work() -> None:
    steps = []
    step = table({(): {A: 1.0}})

    def counted(tokens, cache):
        steps.append(tokens.shape)
        return step(tokens, cache)

    assert greedy(counted, torch.tensor([[BOS], [BOS]]), 50)[0].tolist() == [A, EOS, *[PAD] * 48]
    assert len(steps) == 2
