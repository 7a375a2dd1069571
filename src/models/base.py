"""Model: the LightningModule that all families share: one step for all stages, metrics, the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import (
    STEP_OUTPUT,
    OptimizerConfig,
    OptimizerLRScheduler,
    OptimizerLRSchedulerConfig,
)
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from typing_extensions import override

from src.errors import UserError
from src.metrics.modes import MODES
from src.runtime import own_code
from src.runtime.compat.torch import is_compiled
from src.runtime.ranges import checked
from src.spec import DataSpec, ImageSpec, InputSpec
from src.tasks.base import StepOutput, Task
from src.tasks.epoch import EpochMetrics
from src.tasks.registry import common_tasks, offered_tasks
from src.tasks.worst import WorstExamples

Stage = str  # "train", "val" or "test"

PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


class Model(pl.LightningModule):
    """Base of all models: `loss = task.evaluate_batch(model(input), batch).loss`, in every stage the same.

    A family says which data it takes (`inputs`, and where they are images with how many `channels`; empty: any) and
    which tasks it serves (`tasks`, its usual one first), builds its layers in `__init__` from the spec, calls its
    output layer `head` (or names it in `heads`), and defines `forward` on raw input. What it can do beyond that is in
    src/tasks/abilities.py. An option outside the range of its annotation in `__init__` is refused.

    Attributes:
        owns_training_step: it makes its own steps of the optimizer, so that Lightning's options of a step do not work.
        static_graph: the same operations whatever the values are, so that counting and compiling them makes sense.
        optimizer, scheduler: factories; `optimizer(groups)`, `scheduler(optimizer, total_steps=...)`.
        config: the run's resolved config as plain containers; goes into every checkpoint.
        changed_code: those of a loaded model whose source is another by now.
        source_hashes: modules of the user's own by name, with the hash of their source.
        memory_format: of images from `normalize` on; torch.channels_last where the weights are.
        body_lr_factor: learning rate of all but the head, as a share of the optimizer's.
        history: values of each epoch by metric, `{"val/loss": [[epoch, value], ...]}`; goes into every checkpoint.
        logged: names of metrics that a user's own module has logged itself, which count where they are the task's too.
        worst_examples: the test rows with the largest losses.
    """

    inputs: ClassVar[tuple[type[InputSpec], ...]] = ()
    channels: ClassVar[tuple[int, ...]] = ()
    tasks: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("head.",)
    owns_training_step = False
    static_graph = True
    input_mean: Tensor | None
    input_scale: Tensor | None

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "kinds" in vars(cls):  # of the release before
            cls.inputs = tuple(InputSpec.named(modality) for modality in vars(cls)["kinds"])
        if "__init__" in cls.__dict__:
            cls.__init__ = checked("model")(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, spec: DataSpec, task: Task) -> None:
        super().__init__()
        self.automatic_optimization = not self.owns_training_step
        self.spec = spec
        self.task = task
        self.optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW
        self.scheduler: Callable[..., Any] | None = None
        self.body_lr_factor = 1.0
        self.config: dict[str, Any] = {}
        self.source_hashes: dict[str, str] = {}
        self.changed_code: list[str] = []
        self.memory_format = torch.preserve_format
        self.history: dict[str, list[list[float]]] = {}
        self.metrics = {
            stage: EpochMetrics(task, with_curves=stage == "test", training=stage == "train")
            for stage in ("train", "val", "test")
        }
        self.worst_examples = WorstExamples(task)
        self.logged: set[str] = set()
        self._plateaus: list[ReduceLROnPlateau] = []
        self._restored: dict[str, Any] | None = None
        shape = (-1, 1, 1) if isinstance(spec.input, ImageSpec) else (-1,)
        scaled = bool(spec.input.mean)
        mean = torch.tensor(spec.input.mean).view(shape) if scaled else None
        scale = 1 / torch.tensor(spec.input.std).view(shape) if scaled else None
        # not persistent: both come from the spec, which lies beside the weights in every checkpoint
        self.register_buffer("input_mean", mean, persistent=False)
        self.register_buffer("input_scale", scale, persistent=False)

    @classmethod
    def incompatibility(cls, spec: DataSpec) -> str | None:
        """Reason why this family cannot learn from such data; None where it can."""
        if isinstance(spec.input, ImageSpec) and cls.channels and spec.input_shape[0] not in cls.channels:
            known = " or ".join(map(str, cls.channels))
            return f"takes images of {known} channels, data={spec.name} has {spec.input_shape[0]}"
        if not isinstance(spec.input, cls.inputs):
            taken = " or ".join(modality.modality for modality in cls.inputs)
            return f"takes {taken} data, data={spec.name} is {spec.modality} data of shape {spec.input_shape}"
        if not common_tasks(spec, cls.tasks):
            return f"serves {', '.join(cls.tasks)}; data={spec.name} offers {', '.join(offered_tasks(spec))}"
        return None

    @classmethod
    def supported_tasks(cls, **options: object) -> tuple[str, ...]:
        """Tasks that this family serves with these options, its usual one first."""
        return cls.tasks

    def attach(
        self,
        *,
        config: dict[str, Any] | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        scheduler: Callable[..., Any] | None = None,
        channels_last: bool = False,
    ) -> Self:
        """Set what a run decides and no family's constructor takes; see the attributes. None leaves one as it is.

        Args:
            channels_last: images, and weights of convolutions, lie in memory with their channels last.
        """
        if config is not None:
            self.config, self.source_hashes = config, own_code.hashes(config)
        self.optimizer = optimizer or self.optimizer
        self.scheduler = scheduler or self.scheduler
        if channels_last:
            self.to(memory_format=torch.channels_last)
            self.memory_format = torch.channels_last
        return self

    @property
    def monitor(self) -> str:
        """Metric that picks the best checkpoint: the task's, on the validation split."""
        return f"val/{self.task.monitor}"

    @property
    def monitor_mode(self) -> str:
        """Direction in which the monitored metric is better: `min` or `max`."""
        return self.task.metric_modes[self.task.monitor]

    def normalize(self, x: Tensor) -> Tensor:
        """Raw input (B, ...) of any dtype, in standard units of the training split."""
        x = x.to(self.head_dtype, memory_format=self.memory_format)
        return x if self.input_mean is None or self.input_scale is None else (x - self.input_mean) * self.input_scale

    @property
    def head_dtype(self) -> torch.dtype:
        """Dtype of what `normalize` gives: that of the input's mean, cast with the model; float32 without one."""
        return torch.float32 if self.input_mean is None else self.input_mean.dtype

    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Outputs (B, ...) that the task evaluates, for a batch that it prepared."""
        return self(batch["input"])

    # one step for all stages -----------------------------------------------------------------------------------------

    def step(self, batch: Mapping[str, Tensor], stage: Stage) -> Tensor:
        """Compute the loss of a batch, a scalar, and append what the stage's metrics need of it."""
        step_output = self.step_output(batch, stage)
        self.metrics[stage].append(step_output)
        return step_output.loss

    def step_output(self, batch: Mapping[str, Tensor], stage: Stage) -> StepOutput:
        """Compute the loss of a batch and what its metrics are made of."""
        batch = self.task.prepare(batch, self.training)
        outputs = self.outputs(batch)
        step_output = self.task.evaluate_batch(outputs, batch)
        if stage == "test":
            self.worst_examples.append(outputs, batch)
        if is_compiled(self):  # replayed CUDA graphs write the next step's outputs over these
            step_output = step_output._replace(outputs=step_output.outputs.detach().clone())
        return step_output

    @override
    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> STEP_OUTPUT:
        return self.step(batch, "train")

    @override
    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        self.step(batch, "val")

    @override
    def test_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        self.step(batch, "test")

    @override
    def predict_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        return self.task.predict(self.outputs(self.task.prepare(batch)))

    def decode_for_display(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Predictions of raw rows as a person reads them, and the right answers; see Task.decode_for_display."""
        batch = self.task.prepare(batch)
        return self.task.decode_for_display(self.outputs(batch), batch)

    # once an epoch ---------------------------------------------------------------------------------------------------

    @override
    def on_train_epoch_start(self) -> None:
        self.metrics["train"].reset()

    @override
    def on_validation_epoch_start(self) -> None:
        self.metrics["val"].reset()

    @override
    def on_test_epoch_start(self) -> None:
        self.metrics["test"].reset()
        self.worst_examples.reset()

    @override
    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.report("val")

    @override
    def on_test_epoch_end(self) -> None:
        self.report("test")

    @override
    def on_train_epoch_end(self) -> None:
        self.report("train")
        if self._plateaus and self.monitor in self.history:
            value = self.history[self.monitor][-1][1]
            for scheduler in self._plateaus:
                scheduler.step(value if self.monitor_mode == "min" else -value)

    def report(self, stage: Stage) -> dict[str, float]:
        """Compute a stage's metrics, keep them in the history, and hand them to the logger and the callbacks."""
        epoch = 0 if self.trainer.max_epochs == 0 else self.trainer.current_epoch + 1
        values = {f"{stage}/{name}": value for name, value in self.metrics[stage].compute().items()}
        values = {name: value for name, value in values.items() if name not in self.logged}
        for name, value in values.items():
            self.history.setdefault(name, []).append([epoch, value])
        logged = dict(values)
        if stage == "val":
            logged |= {f"{name}_best": self.best(name)[1] for name in values}
        # a test is a result of the whole run, not of a step
        step = None if stage == "test" else self.trainer.global_step
        for logger in self.loggers:
            logger.log_metrics(logged, step)
        # for the callbacks that watch a metric; `self.log` would take as long as some ten steps of a small net
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        return values

    def best(self, name: str) -> tuple[int, float]:
        """Best epoch so far and its value, for a metric of the history; of equal ones the later counts."""
        short = name.split("/", 1)[1]
        direction = max if self.task.metric_modes.get(short, MODES.get(short)) == "max" else min
        epoch, value = direction(reversed(self.history[name]), key=lambda point: point[1])
        return int(epoch), value

    def results(self) -> dict[str, float]:
        """Results of the run by metric: of the validation whose weights are kept, and of the test."""
        values = {name: points[-1][1] for name, points in self.history.items() if name.startswith("test/")}
        if self.monitor in self.history:
            monitored = [value for _, value in self.history[self.monitor]]
            place = monitored[::-1].index(self.best(self.monitor)[1]) + 1  # from the end: of equal ones the later
            values |= {name: points[-place][1] for name, points in self.history.items() if name.startswith("val/")}
        return values

    # another model's weights -----------------------------------------------------------------------------------------

    def adapt_state_dict(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert the weights of a trained model, by name, to those that this one loads, cut to size where they may be.

        Raises:
            UserError: a weight has the wrong size; says what would help.
        """
        return dict(state)

    # optimiser -------------------------------------------------------------------------------------------------------

    def parameter_groups(self, part: nn.Module | None = None) -> list[dict[str, Any]]:
        """Groups for the optimizer: weight decay leaves biases and norms alone, Muon takes hidden matrices only.

        As few groups as the optimizer needs: each one costs a step its own pass. The first has the optimizer's own
        learning rate, which is the one recorded; `lr_factor` is what it is multiplied by.

        Args:
            part: the layers that an optimizer of their own trains; None: all.
        """
        keywords = getattr(self.optimizer, "keywords", {})
        factory = getattr(self.optimizer, "func", self.optimizer)
        splits_hidden = getattr(factory, "splits_hidden", False)
        head = {id(p) for name, p in self.named_parameters(remove_duplicate=False) if name.startswith(self.heads)}
        body = {id(p) for p in self.parameters()} - head if self.body_lr_factor != 1 else set()
        head |= {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)}
        groups: dict[tuple[bool, bool, bool], list[Tensor]] = {}
        for p in (part or self).parameters():
            if p.requires_grad:
                decays = p.ndim > 1 or not keywords.get("weight_decay")
                hidden = splits_hidden and p.ndim > 1 and id(p) not in head
                groups.setdefault((id(p) in body, decays, hidden), []).append(p)
        return [
            {"params": params}
            | ({} if decays else {"weight_decay": 0.0})
            | ({"muon": hidden} if splits_hidden else {})
            | ({"lr_factor": self.body_lr_factor if slowed else 1.0} if body else {})
            for (slowed, decays, hidden), params in sorted(groups.items(), key=lambda item: item[0][0])
        ]

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        return self.scheduled(self.parameter_groups())

    def scheduled(self, groups: list[dict[str, Any]]) -> OptimizerConfig:
        """An optimizer of these groups with its schedule, as Lightning takes both."""
        optimizer = self.optimizer(groups)
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_factor", 1.0)
        if self.scheduler is None:
            return {"optimizer": optimizer}
        total_steps = self.trainer.estimated_stepping_batches
        if total_steps == float("inf"):
            raise UserError("scheduler: the length of training is unknown; set trainer.max_epochs or scheduler=none")
        scheduler = self.scheduler(optimizer, total_steps=int(total_steps))
        if isinstance(scheduler, ReduceLROnPlateau):
            # stepped by on_train_epoch_end: Lightning would step it after the epoch's checkpoint is written, and a
            # resumed run would miss that step
            self._plateaus.append(scheduler)
            return {"optimizer": optimizer}
        both: OptimizerLRSchedulerConfig = {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
        return both

    # checkpoints -----------------------------------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """Config, spec and task that rebuild this model without its data, and the hashes of the user's own code that it
        needs, as plain containers.
        """
        return {"config": self.config, "spec": self.spec.to_dict(), "task": self.task.name, "code": self.source_hashes}

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["labbook"] = self.description() | {
            "history": {name: [list(point) for point in points] for name, points in self.history.items()},
            "train_metrics": self.metrics["train"].state_dict(),
            "plateaus": [scheduler.state_dict() for scheduler in self._plateaus],
        }

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["labbook"]
        _adopt_options(checkpoint, state["config"].get("optimizer", {}), self.config.get("optimizer", {}))
        self.history = {name: [list(point) for point in points] for name, points in state["history"].items()}
        self._restored = state

    @override
    def on_train_start(self) -> None:
        # here, not in on_load_checkpoint: only now does the model sit on its device and have its optimizer
        state, self._restored = self._restored, None
        if state is not None:
            self.metrics["train"].load_state_dict(state["train_metrics"], self.device)
            for scheduler, saved in zip(self._plateaus, state.get("plateaus", ()), strict=False):
                scheduler.load_state_dict({name: saved[name] for name in PLATEAU_STATE})


def _adopt_options(checkpoint: dict[str, Any], before: dict[str, Any], now: dict[str, Any]) -> None:
    """Overwrite options inside the saved state of an optimizer by those that a resume changes."""
    changed = {name: value for name, value in now.items() if value != before.get(name)}
    for group in [group for state in checkpoint["optimizer_states"] for group in state["param_groups"]]:
        for name in changed.keys() & group.keys():
            if name == "lr":
                own = changed["lr"] * group.get("lr_factor", 1.0)
                group["lr"] = group["lr"] / before["lr"] * changed["lr"] if before["lr"] else own
                group["initial_lr"] = own
            elif name != "weight_decay" or group[name]:  # biases and norms stay without
                group[name] = changed[name]
    if "lr" in changed:
        # one for each optimizer, or none at all
        for schedule, state in zip(checkpoint["lr_schedulers"], checkpoint["optimizer_states"], strict=False):
            schedule["base_lrs"] = [changed["lr"] * group.get("lr_factor", 1.0) for group in state["param_groups"]]
