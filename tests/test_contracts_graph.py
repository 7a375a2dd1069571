"""What every net promises torch: gradients, causality, half precision, compilation, export, decoding from a cache.

Each model in conf/model is met on each kind of data and each task that it names, with few units; what a net does not
promise stands in a list with its reason, and the tests hold that list true.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from src.errors import UserError
from src.models.sampling import generate
from src.models.transformer import Cache
from src.text import BOS, SPECIAL
from tests.tiny import CASES, CHANGED, MODELS, NETS, Case, Outputs, family

# models whose compiled graph has breaks
BROKEN = dict.fromkeys(("rnn", "lstm", "gru"), "torch compiles around its recurrent layers, which stay as they are")
# models of the next token that hold no cache
UNCACHED = dict.fromkeys(("rnn", "lstm", "gru"), "no text is written with them")

CAUSAL = {"causal_lm": "input", "seq2seq": "target"}  # where the tokens stand that are foretold


def cases(found: list[Case]):
    return pytest.mark.parametrize("case", found, ids=str)


def built(case: Case, **options):
    """The case's model with weights far from the start, where all tokens look alike."""
    try:
        model = case.build(**options)
    except UserError as refusal:
        pytest.skip(str(refusal))
    for p in model.parameters():
        p.data.mul_(2)
    return model


def step(model, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of a training step, its random state included."""
    torch.manual_seed(1)
    model.zero_grad()
    loss = model.training_step(batch, 0)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("model", MODELS)
def test_every_kind_and_task_is_met(model: str) -> None:
    met = [case for case in CASES if case.model == model]
    assert {case.kind for case in met} == set(family(model).kinds)
    assert {case.task for case in met} == set(family(model).tasks)


@cases([*CASES, *CHANGED])
def test_every_parameter_learns(case: Case) -> None:
    loss, gradients = step(built(case), case.batch(8))
    assert loss.isfinite()
    for name, gradient in gradients.items():
        assert gradient is not None and gradient.isfinite().all() and gradient.any(), name


@cases([*CASES, *CHANGED])
def test_one_row_is_enough_for_a_step(case: Case) -> None:
    loss, gradients = step(built(case), case.batch(1))
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@cases([case for case in [*NETS, *CHANGED] if case.task in CAUSAL])
def test_a_later_token_changes_no_earlier_output(case: Case) -> None:
    model, side = built(case).eval(), CAUSAL[case.task]
    batch = dict(model.task.prepare(case.batch(1)))
    tokens = batch[side][:, :12]
    length = tokens.shape[1]
    # row i has other tokens from place i on
    others = (tokens - len(SPECIAL) + 1) % (model.task.num_outputs - len(SPECIAL)) + len(SPECIAL)
    changed = torch.where(torch.arange(length) >= torch.arange(length + 1).unsqueeze(1), others, tokens)
    batch = {name: rows.expand(length + 1, *rows.shape[1:]) for name, rows in batch.items()} | {side: changed}
    with torch.no_grad():
        outputs = model.outputs(batch)
    for place in range(outputs.shape[1]):
        # the last row is the unchanged one; rows of one product may be added up in another order
        torch.testing.assert_close(outputs[place, :place], outputs[-1, :place], rtol=1e-5, atol=1e-6)
        assert (outputs[place, place] - outputs[-1, place]).abs().max() > 1e-3


@cases(CASES)
def test_half_precision_is_near(case: Case) -> None:
    model, batch = built(case), case.batch(8)
    loss, gradients = step(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half_loss, half_gradients = step(model, batch)
    torch.testing.assert_close(half_loss.float(), loss, rtol=0.02, atol=0.02)
    for name, gradient in gradients.items():
        assert half_gradients[name].dtype == torch.float32
        assert (half_gradients[name] - gradient).norm() < 0.1 * gradient.norm(), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@cases(NETS)
def test_compiled_gives_the_same(case: Case, backend: str) -> None:
    model = built(case, **({"dropout": 0.0} if backend == "inductor" else {}))
    expected = step(model, case.batch(8))
    torch._dynamo.reset()
    if case.model in BROKEN:
        model.compile(backend="eager", fullgraph=True)
        with pytest.raises(torch._dynamo.exc.Unsupported):
            step(model, case.batch(8))
    model.compile(backend=backend, fullgraph=case.model not in BROKEN)
    torch.testing.assert_close(step(model, case.batch(8)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@cases([case for case in NETS if case.model not in BROKEN])
def test_one_graph_serves_all_sizes(case: Case) -> None:
    """After the second size, no batch is compiled for anew."""
    model, compiled = built(case).eval(), built(case).eval()
    torch._dynamo.reset()
    compiled.compile(backend="eager", fullgraph=True, dynamic=True)
    with torch.no_grad():
        for rows in (8, 5, 3):
            batch = model.task.prepare(case.batch(rows))
            torch.testing.assert_close(compiled.outputs(batch), model.outputs(batch))
            with torch._dynamo.config.patch(error_on_recompile=rows < 8):
                compiled.outputs(batch)
