"""What every net promises torch: gradients, causality, half precision, compilation, export, decoding from a cache.

Each model in conf/model is met on each kind of data and each task that it names, with few units; what a net does not
promise stands in a list with its reason, and the tests hold that list true.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor

from src.errors import UserError
from src.models.base import Model
from src.models.components.sampling import generate
from src.models.components.transformer import Cache
from src.spec.tokenizer import BOS, PAD, SPECIAL
from tests.tiny import ALL_CHANGED, CASES, CHANGED, FIXED, MODELS, NETS, UNGRAPHED, Case, family, refusal

# models whose compiled graph has breaks
BROKEN = dict.fromkeys(("rnn", "lstm", "gru"), "torch compiles around its recurrent layers, which stay as they are")

# nets in which roundings add up over many layers: how far the gradient in half precision may be from the exact one
DEEP = {"torchvision": 0.3}  # 26 layers; measured: 15 %

# what is compiled and exported: of recurrent layers, which differ inside torch's own module, two on one kind of data
# only; and no model=policy, which builds what model=ppo does
ALIKE = ("rnn", "lstm")
GRAPHS = [case for case in NETS if case.model != "policy" and (case.model not in ALIKE or case.task == "forecasting")]

# parameters whose gradient is zero but for rounding
UNSEEN = {"question_answering": "a softmax over positions does not see what all of them share: the last biases"}
LAST_BIASES = (
    *("head.bias", "body.norm.bias", "body.blocks.1.feed_forward_norm.bias"),
    "body.encoder.layer.1.output.LayerNorm.bias",
)
SHARED = ".key.bias"  # a softmax over keys does not see what all of them share

CAUSAL = {"causal_lm": "input", "seq2seq": "target"}  # where the tokens stand that are foretold


def cases(found: list[Case]):
    return pytest.mark.parametrize("case", found, ids=str)


def graphs(*, whole: bool = False):
    """As `cases`; those of a library's own nets, which torch takes seconds for, are slow.

    Args:
        whole: without those that torch compiles in pieces.
    """
    slow = {"pretrained": pytest.mark.slow}
    found = [case for case in GRAPHS if not (whole and case.model in BROKEN)]
    given = [pytest.param(case, marks=slow[case.model]) if case.model in slow else case for case in found]
    return pytest.mark.parametrize("case", given, ids=str)


def built(case: Case) -> Model:
    """The case's model with weights far from the start, where all tokens look alike."""
    model = case.build()
    for p in model.parameters():
        p.data.mul_(2)
    return model


def step(model: Model, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of a training step, its random state included."""
    torch.manual_seed(1)
    model.zero_grad()
    # a model that makes its own step has several losses: together they reach every layer
    loss = model.outputs(batch).sum() if model.owns_training_step else model.training_step(batch, 0)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("model", [model for model in MODELS if model not in (*UNGRAPHED, *FIXED)])
def test_every_kind_and_task_is_met(model: str) -> None:
    met = [case for case in CASES if case.model == model]
    assert {case.modality for case in met} == {modality.modality for modality in family(model).inputs}
    assert {case.task for case in met} == set(family(model).tasks)


@cases([case for case in ALL_CHANGED if refusal(case)])
def test_a_value_that_does_not_go_is_refused(case: Case) -> None:
    with pytest.raises(UserError, match=str(refusal(case))):
        case.build()


def norm(gradients: Iterable[Tensor]) -> Tensor:
    return torch.stack([gradient.norm() for gradient in gradients]).norm()


@cases([*CASES, *CHANGED])
def test_every_parameter_learns(case: Case) -> None:
    loss, gradients = step(built(case).double(), case.batch(8))
    assert loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients.values())
    whole = norm(gradients.values())
    still = {name for name, g in gradients.items() if g.norm() < 1e-12 * whole and not name.endswith(SHARED)}
    assert still <= (set(LAST_BIASES) if case.task in UNSEEN else set()), still
    assert bool(still) == (case.task in UNSEEN)


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
    """bfloat16 has 8 bits: a rounding is 0.4 %, a gradient through two layers stays within 10 % (measured: 6 %)."""
    model, batch = case.build(), case.batch(8)
    loss, gradients = step(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half_loss, half_gradients = step(model, batch)
    torch.testing.assert_close(half_loss, loss, rtol=0.01, atol=0.01)
    assert all(gradient.dtype == torch.float32 for gradient in half_gradients.values())
    off = norm(half_gradients[name] - gradients[name] for name in gradients)
    assert off < DEEP.get(case.model, 0.1) * norm(gradients.values())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@graphs()
def test_compiled_gives_the_same(case: Case, backend: str) -> None:
    model, batch = built(case), case.batch(8)
    expected, gradients = step(model, batch)
    torch._dynamo.reset()
    if case.model in BROKEN:
        model.compile(backend="eager", fullgraph=True)
        with pytest.raises(torch._dynamo.exc.Unsupported):
            step(model, batch)
    model.compile(backend=backend, fullgraph=case.model not in BROKEN)
    with torch._inductor.config.patch(fallback_random=True):  # dropout as without it
        loss, compiled = step(model, batch)
    torch.testing.assert_close(loss, expected)
    whole = norm(gradients.values())
    for name, gradient in gradients.items():  # fused operations round elsewhere
        assert (compiled[name] - gradient).norm() < 1e-4 * gradient.norm() + 1e-6 * whole, name


@pytest.mark.filterwarnings("ignore")
@graphs(whole=True)
def test_one_graph_serves_all_sizes(case: Case) -> None:
    """Compiled with `dynamic=True` for 8 rows, it is not compiled anew for fewer, nor for shorter ones."""
    model, compiled = built(case).eval(), built(case).eval()
    torch._dynamo.reset()
    compiled.compile(backend="eager", fullgraph=True, dynamic=True)
    # torch would otherwise take sizes that happen to be equal, such as rows and pixels, for the same one
    with torch.no_grad(), torch.fx.experimental._config.patch(use_duck_shape=False):
        for rows in (8, 5, 3):
            batch = model.task.prepare(case.batch(rows))
            with torch._dynamo.config.patch(error_on_recompile=rows < 8):
                outputs = compiled.outputs(batch)
            torch.testing.assert_close(outputs, model.outputs(batch))


@pytest.mark.filterwarnings("ignore")
@graphs()
def test_exported_serves_any_number_of_rows(case: Case) -> None:
    model = built(case).eval()
    batch = model.task.prepare(case.batch(8))
    inputs = (batch["input"], batch["target"][:, :-1]) if case.modality == "text_pairs" else (batch["input"],)
    if case.task == "generation":
        inputs = (model.noise(batch["index"], seed=0),)
    if case.modality in ("text", "series") and case.model in BROKEN:
        inputs = (inputs[0][:, :10],)  # recurrent layers are written out step by step, which takes torch seconds
    rows = torch.export.Dim("rows")
    program = torch.export.export(model, inputs, dynamic_shapes=tuple({0: rows} for _ in inputs))
    for count in (8, 5, 1):
        some = [values[:count] for values in inputs]
        with torch.no_grad():
            torch.testing.assert_close(program.module()(*some), model(*some), rtol=1e-4, atol=1e-5)


# decoding ------------------------------------------------------------------------------------------------------------


@cases([case for case in [*NETS, *CHANGED] if case.task == "seq2seq"])
def test_a_target_piece_by_piece_gives_the_same(case: Case) -> None:
    model, cache = built(case).eval(), Cache()
    batch = case.batch(8)
    source, target = batch["input"], batch["target"][:, :-1]
    with torch.no_grad():
        whole, memory = model(source, target), model.encode(source)
        pieces = [model.decode(piece, memory, source != PAD, cache) for piece in target.split(2, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-4, atol=1e-5)


@cases([case for case in [*NETS, *CHANGED] if case.task == "causal_lm"])
def test_text_is_the_same_with_and_without_a_cache(case: Case) -> None:
    """Also past the context, and for models that take none, whose texts are written from scratch."""
    model = built(case).eval()
    prompt = torch.tensor([[BOS, 7, 8], [BOS, 9, 10]])
    cached, plain = (generate(model, prompt, model.context + 4, cached=cached, seed=3) for cached in (True, False))
    assert torch.equal(cached, plain) and cached.shape[1] > 3
