"""Model: the LightningModule that all families share: one step for all stages, metrics, the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

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
from src.models.components import schedule
from src.models.reporting import Reporting, Stage
from src.runtime import own_code, trust
from src.runtime.compat.torch import is_compiled
from src.runtime.ranges import checked
from src.spec import DataSpec, ImageSpec, InputSpec
from src.tasks.base import StepOutput, Task
from src.tasks.registry import common_tasks, offered_tasks
from src.tasks.worst import WorstExamples


class Model(Reporting):
    """Base of all models: `loss = task.evaluate_batch(model(input), batch).loss`, in every stage the same.

    A family says which data it takes (`inputs`, and where they are images with how many `channels`; empty: any) and
    which tasks it serves (`tasks`, its usual one first), builds its layers in `__init__` from the spec, calls its
    output layer `head` (or names it in `heads`), and defines `forward` on raw input. What it can do beyond that is in
    src/tasks/abilities.py. An option outside the range of its annotation in `__init__` is refused.

    Attributes:
        owns_training_step: it makes its own steps of the optimizer, so that Lightning's options of a step do not work.
        logs_metrics: it logs metrics of its own, beside the task's.
        static_graph: the same operations whatever the values are, so that counting and compiling them makes sense.
        optimizer, scheduler: factories; `optimizer(groups)`, `scheduler(optimizer)` with what it takes by name of
            `total_steps` and `mode`, in which the monitored metric is better.
        interval: of the scheduler's steps, `step` or `epoch`; None: what is usual for it.
        config: the run's resolved config as plain containers; goes into every checkpoint.
        changed_code: of a loaded model, what a person should know of code that is another by now; else empty.
        source_hashes: modules of the user's own by name, with the hash of their source.
        memory_format: of images from `normalize` on; torch.channels_last where the weights are.
        body_lr_factor: learning rate of all but the head, as a share of the optimizer's.
        worst_examples: the test rows with the largest losses.
    """

    inputs: ClassVar[tuple[type[InputSpec], ...]] = ()
    channels: ClassVar[tuple[int, ...]] = ()
    tasks: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("head.",)
    owns_training_step = False
    logs_metrics = False
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
        super().__init__(task)
        self.automatic_optimization = not self.owns_training_step
        self.spec = spec
        self.optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW
        self.scheduler: Callable[..., Any] | None = None
        self.interval: schedule.Interval | None = None
        self.body_lr_factor = 1.0
        self.config: dict[str, Any] = {}
        self.source_hashes: dict[str, str] = {}
        self.changed_code = ""
        self.memory_format = torch.preserve_format
        self.worst_examples = WorstExamples(task)
        self._by_epoch: list[Any] = []  # schedules
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
        interval: schedule.Interval | None = None,
        channels_last: bool = False,
    ) -> Self:
        """Set what a run decides and no family's constructor takes; see the attributes. None leaves one as it is.

        Args:
            channels_last: images, and weights of convolutions, lie in memory with their channels last.
        """
        if config is not None:
            named = trust.named_code(type(self).__init__, config.get("model", {}))
            self.config, self.source_hashes = config, own_code.hashes(config, named.values())
        self.optimizer = optimizer or self.optimizer
        self.scheduler, self.interval = scheduler or self.scheduler, interval or self.interval
        if channels_last:
            self.to(memory_format=torch.channels_last)
            self.memory_format = torch.channels_last
        return self

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
        value = self.history[self.monitor][-1][1] if self.monitor in self.history else None
        for scheduler in self._by_epoch:
            schedule.step_epoch(scheduler, value, self.monitor_mode)

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
            if schedule.takes(self.scheduler, "total_steps"):
                raise UserError(
                    "scheduler: the length of training is unknown; set trainer.max_epochs or scheduler=none"
                )
            total_steps = 0
        scheduler = schedule.make(self.scheduler, optimizer, total_steps=int(total_steps), mode=self.monitor_mode)
        interval = self.interval or schedule.interval_of(self.scheduler)
        if interval == "epoch" or isinstance(scheduler, ReduceLROnPlateau):
            # stepped by on_train_epoch_end: Lightning would step it after the epoch's checkpoint is written, and a
            # resumed run would miss that step
            self._by_epoch.append(scheduler)
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
            "plateaus": [scheduler.state_dict() for scheduler in self._by_epoch],  # and other schedules by the epoch
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
            for scheduler, saved in zip(self._by_epoch, state.get("plateaus", ()), strict=False):
                schedule.load_state(scheduler, saved, self.scheduler or type(scheduler))


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
        for saved, state in zip(checkpoint["lr_schedulers"], checkpoint["optimizer_states"], strict=False):
            saved["base_lrs"] = [changed["lr"] * group.get("lr_factor", 1.0) for group in state["param_groups"]]
