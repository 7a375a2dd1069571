"""The short way through a training step: the same bits as Lightning's own, left where anybody needs more, and lean."""

from __future__ import annotations

import sys

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision

from src.errors import UserError
from src.experiment.checks import check_loop
from src.models.fnn import FNN
from src.tasks.registry import make_task
from src.training.loop import EpochLoop
from src.training.schedules import cosine
from tests.training.callbacks.test_callbacks import SPEC, Rows


def build(kind: type[FNN] = FNN) -> FNN:
    torch.manual_seed(0)
    model = kind(SPEC, make_task(SPEC, FNN.tasks), width=8, dropout=0.2)
    model.optimizer = lambda groups: torch.optim.AdamW(groups, lr=0.1, fused=True)
    model.scheduler = cosine
    return model


def fit(model: FNN, *callbacks: pl.Callback, short: bool | None = None, **options) -> EpochLoop:
    trainer = pl.Trainer(
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, accelerator="cpu",
        enable_checkpointing=False, callbacks=list(callbacks), **({"logger": False, "max_epochs": 3} | options),
    )  # fmt: skip
    EpochLoop.install(trainer)
    loop = trainer.fit_loop.epoch_loop
    loop.short = short
    torch.manual_seed(1)  # of dropout
    trainer.fit(model, datamodule=Rows())
    return loop


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_clip_val": 0.1},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"precision": "bf16-mixed"},
        {"max_epochs": -1, "max_steps": 10},
        {"val_check_interval": 2},
        {"check_val_every_n_epoch": 2},
        {"limit_train_batches": 4},
    ],
    ids=str,
)
def test_the_short_way_gives_the_same_bits_and_the_same_counts(options) -> None:
    models = {short: build() for short in (None, False)}
    loops = {short: fit(model, short=short, **options) for short, model in models.items()}
    assert loops[None].short is True and loops[False].short is False
    assert models[None].history == models[False].history and models[None].history["val/loss"]
    for name, tensor in models[False].state_dict().items():
        assert torch.equal(models[None].state_dict()[name], tensor), name
    assert loops[None].state_dict() == loops[False].state_dict()
    assert loops[None].trainer.global_step == loops[False].trainer.global_step > 0


class Watch(pl.Callback):
    """Notes which hooks were called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def on_train_batch_start(self, *args) -> None:
        self.called.append("start")

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx) -> None:
        assert outputs["loss"].ndim == 0 and not outputs["loss"].requires_grad
        self.called.append(f"end {batch_idx} {trainer.global_step}")


def test_callbacks_around_a_batch_are_called_on_the_short_way() -> None:
    watch = Watch()
    assert fit(build(), watch, max_epochs=2).short is True
    expected = [text for i in range(12) for text in ("start", f"end {i % 6} {i + 1}")]
    assert watch.called == expected


class LooksAtGradients(pl.Callback):
    norms: list[float]

    def __init__(self) -> None:
        self.norms = []

    def on_before_optimizer_step(self, trainer, model, optimizer) -> None:
        self.norms.append(model.head.weight.grad.norm().item())


class StepsItself(FNN):
    steps = 0

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        self.steps += 1


class ReturnsMore(FNN):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return {"loss": loss, "extra": batch_idx} if batch_idx != 2 else None


def test_whoever_hooks_into_a_step_gets_lightnings_own() -> None:
    looks = LooksAtGradients()
    assert fit(build(), looks).short is False
    assert len(looks.norms) == 18 and all(looks.norms)
    model = build(StepsItself)
    assert fit(model).short is False
    assert model.steps == 18
    assert fit(build(), accumulate_grad_batches=2).short is False
    assert fit(build(), profiler="simple").short is False


def test_what_a_step_returns_reaches_the_callbacks() -> None:
    seen = []

    class Collect(pl.Callback):
        def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx) -> None:
            seen.append(outputs.get("extra"))

    assert fit(build(ReturnsMore), Collect(), max_epochs=1).short is True
    assert seen == [0, 1, None, 3, 4, 5]


class Logs(FNN):
    """A user's model that logs in its step, from the third batch on."""

    def training_step(self, batch, batch_idx):
        if self.trainer.global_step >= 2:
            self.log("own", float(self.trainer.global_step), on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)


def test_values_logged_in_a_step_arrive_like_on_the_long_way() -> None:
    from pytorch_lightning.loggers.logger import Logger

    class Keep(Logger):
        name, version = "keep", "0"

        def __init__(self) -> None:
            super().__init__()
            self.points: list[tuple[dict, int]] = []

        def log_metrics(self, metrics, step=None) -> None:
            own = {key: value for key, value in metrics.items() if key.startswith("train/own")}
            self.points += [(own, step)] if own else []

        def log_hyperparams(self, *args, **kwargs) -> None: ...

    loggers = {}
    for short in (None, False):
        loggers[short] = Keep()
        loop = fit(build(Logs), short=short, logger=loggers[short], log_every_n_steps=1)
        assert loop.short is False
    assert loggers[None].points == loggers[False].points
    assert len(loggers[None].points) == 16 + 3  # steps 3 to 18, and three epochs


def test_a_step_makes_few_python_calls() -> None:
    """Not counting torch's own: 91 when this was written, where Lightning's step makes 852."""
    counts: list[int] = []

    class Count(pl.Callback):
        def on_train_batch_start(self, trainer, model, batch, batch_idx) -> None:
            counts.append(0)

    def profile(frame, event, argument) -> None:
        if event == "call" and counts and "/torch/" not in frame.f_code.co_filename:
            counts[-1] += 1

    model = build()
    sys.setprofile(profile)
    try:
        fit(model, Count(), max_epochs=1)
    finally:
        sys.setprofile(None)
    assert 10 < max(counts[1:-1]) < 110, counts  # without the epoch's first and last step


def test_no_step_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.item()` or `.tolist()` in a step would stop a GPU's queue; here they are counted."""
    calls: list[str] = []
    inside = False

    class Around(pl.Callback):
        def on_train_batch_start(self, *args) -> None:
            nonlocal inside
            inside = True

        def on_train_batch_end(self, *args) -> None:
            nonlocal inside
            inside = False

    for name in ("item", "tolist", "cpu", "__bool__", "__float__", "__int__", "numpy"):
        original = getattr(torch.Tensor, name)

        def counted(self, *args, _original=original, _name=name, **kwargs):
            if inside:
                calls.append(_name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)
    fit(build(), Around())
    assert calls == []


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize(("precision", "device"), [("16-mixed", "cuda"), ("bf16-mixed", "cpu")])
def test_mixed_precision_cannot_be_clipped_with_a_fused_optimizer(precision: str, device: str) -> None:
    """Which Lightning notices in the first step only; 16-mixed is of a GPU, and nothing is trained with it."""
    mixed = MixedPrecision(precision, device)
    trainer = pl.Trainer(accelerator="cpu", plugins=[mixed], gradient_clip_val=1.0, logger=False, max_epochs=1)
    with pytest.raises(UserError, match="set optimizer.fused=false"):
        check_loop(trainer, batches=6, fused=True)
    check_loop(trainer, batches=6, fused=False)
