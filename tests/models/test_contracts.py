"""What every model promises on every dataset. New models and datasets are found in conf/ by themselves."""

from __future__ import annotations

import io
from functools import cache

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from src.config import recipes
from src.errors import UserError
from src.experiment.build import build_model, fitting_models
from src.models.base import Model
from src.models.load import load_model
from src.spec.tokenizer import PAD
from src.tasks.terminal import print_table
from src.training.callbacks.checkpoint import save_atomically
from tests.tiny import (
    DATASETS,
    FITTING,
    FIXED,
    MODELS,
    Outputs,
    batch_of,
    build,
    config_of,
    dataset,
    family,
    line_of,
    pairs,
    small,
)

PAIRS = pairs()
# those whose model has one loss, which falls
ONE_LOSS = [(model, data) for model, data in PAIRS if not family(model).owns_training_step]
# those of texts, which are padded to one length
PADDED = pairs("text", "text_pairs")
every_pair = pytest.mark.parametrize("pair", PAIRS, ids="-".join)
with_one_loss = pytest.mark.parametrize("pair", ONE_LOSS, ids="-".join)
padded = pytest.mark.parametrize("pair", PADDED, ids="-".join)


@pytest.mark.parametrize("data", DATASETS)
def test_which_models_fit_and_why_the_others_do_not(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model with each dataset: the table says which learn from it; any other is refused in one line."""
    spec, known = dataset(data).spec, {model for models in FITTING.values() for model in models}
    monkeypatch.setattr(recipes, "load", cache(recipes.load))  # every refusal reads all models
    fitting = fitting_models(spec)
    assert fitting
    assert [model for model in fitting if model in known] == sorted(FITTING[line_of(data)])
    for model in (name for name in MODELS if name not in FIXED):
        reason = family(model).incompatibility(spec)
        assert (reason is None) == (model in fitting)
        if reason is not None:
            with pytest.raises(UserError) as refused:
                build_model(small(model), spec)
            expected = f"model {family(model).__name__} {reason}; models that fit: {', '.join(fitting)}"
            assert str(refused.value) == expected and "\n" not in expected


@with_one_loss
def test_overfits_eight_examples(pair) -> None:
    model = build(*pair)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p >= 0.5:
            module.p = 0.0  # or its noise would be most of the last loss
    # hidden tokens are others in each step; what to add, and where an answer lies, is found late; how certain a density
    # may be, too
    late = model.task.name in ("masked_lm", "question_answering", "density") or pair[1] == "adding"
    batch = dataset(pair[1]).head("train", 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002)
    losses: list[float] = []
    for _ in range(100):
        loss = model.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
        low = (0.9 if late else 0.5) * losses[0]
        if len(losses) > 10 and max(losses[-10:]) < low:  # and stays there
            break
    assert losses[-1] < low


@every_pair
def test_an_example_is_judged_alone(pair) -> None:
    model = build(*pair).eval()
    batch = batch_of(pair[1], model, 8)
    with torch.no_grad():
        together = model.outputs(batch)
        alone = torch.cat([model.outputs({k: v[i : i + 1] for k, v in batch.items()}) for i in range(8)])
    # the order of additions differs with the batch's size, so not bit for bit
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def evaluated(model: Model, batches: list[dict[str, torch.Tensor]]) -> dict[str, float]:
    """Loss and metrics of an epoch of validation."""
    model.metrics["val"].reset()
    with torch.no_grad():
        for batch in batches:
            model.step(batch, "val")
    return model.metrics["val"].compute()


@every_pair
def test_neither_order_nor_size_of_batches_changes_what_is_evaluated(pair) -> None:
    model = build(*pair).eval()
    batch, order = dataset(pair[1]).head("train", 8), [3, 7, 0, 5, 1, 6, 2, 4]

    def rows(numbers: list[int]) -> dict[str, torch.Tensor]:
        return {name: values[numbers] for name, values in batch.items()}

    with torch.no_grad():
        outputs, mixed = (model.outputs(model.task.prepare(some)) for some in (batch, rows(order)))
    torch.testing.assert_close(mixed, outputs[order], rtol=1e-4, atol=1e-5)
    expected = evaluated(model, [batch])
    for sizes in ([8], [3, 3, 2], [1] * 8):  # a ragged last batch, and rows alone
        batches = [rows(numbers.tolist()) for numbers in torch.tensor(order).split(sizes)]
        assert evaluated(model, batches) == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True)


@padded
def test_padding_changes_nothing(pair) -> None:
    model = build(*pair).eval()
    batch = batch_of(pair[1], model, 8)
    longer = {k: torch.nn.functional.pad(v, (0, 3)) if k == "input" else v for k, v in batch.items()}
    for row in range(8):
        real = int((batch["input"][row] != PAD).sum())
        shorter = {k: v[row : row + 1] for k, v in batch.items()} | {"input": batch["input"][row : row + 1, :real]}
        with torch.no_grad():
            expected = model.outputs(shorter)
            fits = batch["input"].shape[1] + 3 <= getattr(model, "max_length", 0)
            padded = model.outputs(longer if fits else batch)[row : row + 1]
        padded = padded[:, : expected.shape[1]] if model.task.per_token else padded
        torch.testing.assert_close(padded, expected, rtol=1e-4, atol=1e-5)


@every_pair
def test_outputs_and_predictions_have_the_task_s_shape(pair) -> None:
    model = build(*pair).eval()
    batch, task = batch_of(pair[1], model, 8), model.task.eval()
    with torch.no_grad():
        outputs = model.outputs(batch)
        judged = model.step_output(batch, "test") if model.owns_training_step else task.evaluate_batch(outputs, batch)
        prediction = task.prediction(judged.outputs)
    positions = outputs.shape[1:-1]
    assert outputs.shape == (8, *positions, task.num_outputs)
    assert outputs.dtype == torch.float32
    assert len(prediction) == len(judged.target) == 8
    assert len(task.predict(outputs)) == 8
    if task.name in ("classification", "causal_lm", "masked_lm"):
        torch.testing.assert_close(task.predict(outputs).sum(-1), torch.ones(8, *positions))
    values = task.metrics()(prediction, judged.target)
    assert values.keys() | {"loss"} == set(task.metric_modes)
    baseline = task.baseline(judged.target, judged.reference)
    assert task.metrics()(baseline, judged.target).keys() == values.keys()


@with_one_loss
def test_predictions_can_be_read(pair) -> None:
    model, out = build(*pair).eval(), io.StringIO()
    with torch.no_grad():
        predictions, targets = model.decode_for_display(dataset(pair[1]).head("test", 3))
    print_table(Console(file=out, width=200), model.task.view.table(predictions, targets, 200))
    assert all(f"\n│ {row} " in out.getvalue() for row in range(3))
    assert ("actual" in out.getvalue()) == (targets is not None)


@every_pair
def test_same_seed_same_weights(pair) -> None:
    first, second = build(*pair).state_dict(), build(*pair).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_pair
def test_checkpoint_rebuilds_the_model(pair, tmp_path) -> None:
    model = build(*pair).eval()
    batch = batch_of(pair[1], model, 8)
    model.config = OmegaConf.to_container(config_of(*pair), resolve=True)
    path = tmp_path / "model.ckpt"
    save_atomically({"state_dict": model.state_dict(), "labbook": model.description()}, path)
    again = load_model(path)
    assert again.spec == model.spec
    with torch.no_grad():
        assert torch.equal(again.outputs(batch), model.outputs(batch))


@with_one_loss
def test_a_step_is_a_function(pair) -> None:
    """Loss and gradients come out of torch.func as they do out of the module itself."""
    model = Outputs(build(*pair).eval())
    task, batch = model.model.task, batch_of(pair[1], model.model, 8)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values):
        return task.loss(torch.func.functional_call(model, values, (batch,)), batch)

    gradients = torch.func.grad(loss)(parameters)
    task.loss(model(batch), batch).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad)
