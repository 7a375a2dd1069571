"""A trained net of another framework as an ONNX graph (https://onnx.ai): evaluated as it is, or trained further."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from src.errors import UserError
from src.models.components import finetuning, onnx_nets
from src.models.components import onnx_graphs as graphs
from src.models.components.finetuning import Freeze
from src.models.components.layers import take_lone_values
from src.models.own.module import OwnModule
from src.spec import DataSpec, ImageSpec, Number, SeriesSpec, TableSpec
from src.tasks.base import Task

Layout = Literal["auto", "channels_first", "channels_last"]
Scaling = Literal["raw", "unit", "standard", "imagenet"]
Outputs = Literal["auto", "logits", "probabilities", "raw", "standard"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SUM = 1e-3  # how far a sum of probabilities may be from 1


class OnnxGraph(OwnModule):
    """An ONNX graph in torch's layers, by onnx2torch: `net`, and with `head` a new last layer.

    With `trainer.max_epochs=0` it is tested as it is. A checkpoint has graph and weights and is read without the file,
    of which the run keeps a copy beside its checkpoints.

    Args:
        spec: what the data is.
        task: gives the number of outputs.
        path: of the file, .onnx.
        output: the graph's output that is taken, or any value inside it; null: the only one of numbers.
        scaling: of the inputs: `raw` as the data has them (pixels from 0 to 255), `unit` divided by the data's levels
            (pixels from 0 to 1), `standard` in standard units of the training split, `imagenet` as nets are given
            pictures that were trained on ImageNet.
        layout: of images and series in the graph; `auto`: the one that the graph's declared input fits.
        outputs: what they are. Of classes `logits` or `probabilities`; `auto`: a last softmax or sigmoid is left out,
            so that they are logits; others are probabilities where they sum to 1. Of numbers `raw`, in the target's own
            unit (`auto`), or `standard`, in standard units of the training target.
        head: a new linear layer on the output, which then has any size.
        freeze: with `head`: `none`, `head_only` or `all`, as of `torchvision`.
        backbone_lr_factor: with `head`: learning rate before it, as a share of the optimizer's.
        sha256: of the file, which a run records; another file is refused.
        graph: text of the graph, which a checkpoint has in the place of the file.

    Raises:
        UserError: a file that is no graph or another one than before, operators that are not known here, inputs or
            outputs that do not fit data and task.
    """

    inputs = (TableSpec, ImageSpec, SeriesSpec)
    tasks = ("classification", "binary", "regression")
    heads = ("head.",)

    def __init__(
        self,
        spec: DataSpec,
        task: Task,
        *,
        path: str,
        output: str | None = None,
        scaling: Scaling = "raw",
        layout: Layout = "auto",
        outputs: Outputs = "auto",
        head: bool = False,
        freeze: Freeze = "none",
        backbone_lr_factor: float = 1.0,
        sha256: str | None = None,
        graph: str | None = None,
    ) -> None:
        finetuning.check(freeze, backbone_lr_factor)
        graphs.require()
        super(OwnModule, self).__init__(spec, task)  # which makes its net of a user's own class
        self.path, self.sha256, self.freeze = Path(path).expanduser(), sha256, freeze  # type: ignore[assignment]
        self.of_number = isinstance(spec.target, Number)
        self._check(head, freeze, backbone_lr_factor, outputs)
        model = self._read(output) if graph is None else graphs.unpacked(graph)
        (given,) = model.graph.input
        self.scaling, self.dtype_in = scaling, graphs.dtype(given)
        if scaling != "raw" and not self.dtype_in.is_floating_point:
            raise UserError(f"model.scaling={scaling}: the graph takes {self.dtype_in}, so raw")
        self.layout = self._laid_out(graphs.shape(given), layout)
        if outputs == "auto" and not head and self._drop_activation(model):
            outputs = "logits"
        self.graph = graphs.packed(model)
        self.net = onnx_nets.net(model)
        take_lone_values(self.net)
        self.kind, self.head = outputs, None
        self.body_lr_factor = backbone_lr_factor
        trial = self._trial()
        if head:
            self.head = nn.Linear(trial.flatten(1).shape[1], task.num_outputs)
            self.net.requires_grad_(freeze == "none")
        elif outputs == "auto":
            self.kind = self._recognized(trial)
        self.check_outputs({"input": torch.zeros(2, *spec.input_shape)})
        self.train()

    def _check(self, head: bool, freeze: str, lr_factor: float, outputs: str) -> None:
        for option, changed in (("freeze", freeze != "none"), ("backbone_lr_factor", lr_factor != 1)):
            if changed and not head:
                raise UserError(
                    f"model.{option} is for model.head=true; to test the graph as it is: trainer.max_epochs=0"
                )
        fitting = ("raw", "standard") if self.of_number else ("logits", "probabilities")
        if outputs not in ("auto", *fitting):
            raise UserError(f"model.outputs={outputs}: of the task {self.task.name} auto, {' or '.join(fitting)}")

    def _read(self, output: str | None) -> Any:  # noqa: ANN401 (a ModelProto, of a package that may be missing)
        model, digest = graphs.read(self.path)
        if self.sha256 not in (None, digest):
            raise UserError(
                f"model.path={self.path} is another file than that of the run (sha256 {digest[:12]}, it was "
                f"{str(self.sha256)[:12]}); to take it: model.sha256=null"
            )
        self.sha256 = digest
        return graphs.reduced(model, output, self.path)

    # inputs ----------------------------------------------------------------------------------------------------------

    def _laid_out(self, declared: list[int | None] | None, layout: str) -> str:
        """The layout that the graph's declared input has.

        Raises:
            UserError: none fits, or several do.
        """
        rows = torch.zeros(1, *self.spec.input_shape)
        known = {name: tuple(laid.shape[1:]) for name, laid in self._layouts(rows).items()}

        def fits(sizes: tuple[int, ...]) -> bool:
            if declared is None:
                return True
            wanted = declared[1:]
            return len(wanted) == len(sizes) and all(a in (None, b) for a, b in zip(wanted, sizes, strict=True))

        fitting = [name for name, sizes in known.items() if fits(sizes)]
        if layout in fitting or (layout == "auto" and len(fitting) == 1):
            return layout if layout != "auto" else fitting[0]
        takes = (
            "anything" if declared is None else f"(B, {', '.join('?' if n is None else str(n) for n in declared[1:])})"
        )
        if layout == "auto" and fitting:
            raise UserError(f"model.path={self.path} takes {takes}: say which, model.layout={' or '.join(fitting)}")
        given = " or ".join(f"(B, {', '.join(map(str, sizes))})" for sizes in known.values())
        raise UserError(f"model.path={self.path} takes inputs {takes}, data={self.spec.name} gives {given}")

    def _layouts(self, x: Tensor) -> dict[str, Tensor]:
        """Rows (B, ...) as each layout has them."""
        found = {}
        if isinstance(self.spec.input, ImageSpec):
            found = {"channels_first": x, "channels_last": x.movedim(1, -1)}
            if x.shape[1] == 1:
                found["no_channels"] = x.squeeze(1)
        elif isinstance(self.spec.input, SeriesSpec):
            found = {"channels_last": x, "channels_first": x.movedim(-1, 1)}
        return found | {"flat": x.flatten(1)}

    @override
    def taken(self, x: Tensor) -> Tensor:
        x = self._layouts(self._scaled(x))[self.layout]
        return x.to(self.dtype_in) if self.scaling == "raw" else x

    def _scaled(self, x: Tensor) -> Tensor:
        if self.scaling == "standard":
            return self.normalize(x)
        if self.scaling == "raw":
            return x
        levels = self.spec.input.levels if isinstance(self.spec.input, ImageSpec) else 1
        x = x.to(self.dtype_in) / levels
        if self.scaling == "unit":
            return x
        mean, std = (x.new_tensor(values).view(-1, 1, 1) for values in IMAGENET)
        return (x - mean) / std

    # outputs ---------------------------------------------------------------------------------------------------------

    def _drop_activation(self, model: Any) -> bool:  # noqa: ANN401 (a ModelProto, of a package that may be missing)
        """Leave out what turns logits into probabilities, so that a loss is taken of the logits themselves."""
        if self.of_number:
            return False
        sizes = graphs.shape(model.graph.output[0]) or []
        single = self.task.num_outputs == 1 and math.prod(size or 1 for size in sizes[1:]) == 1
        return graphs.drop_last_activation(model.graph, "Sigmoid" if single else "Softmax")

    def _trial(self) -> Tensor:
        """The graph's outputs (4, ...) for rows drawn at random; torch's own random state stays as it is.

        Raises:
            UserError: it fails on them.
        """
        draw = torch.Generator().manual_seed(0)
        rows = torch.rand(4, *self.spec.input_shape, generator=draw)
        self.net.eval()
        try:
            with torch.no_grad():
                return self.net(self.taken(rows))
        except Exception as error:  # of any operator
            raise UserError(
                f"model.path={self.path} fails on 4 rows of {self.spec.input_shape} ({finetuning.reason(error)}); "
                "a graph is to be exported with an open number of rows"
            ) from error

    def _recognized(self, outputs: Tensor) -> Outputs:
        if self.of_number:
            return "raw"
        sums_to_one = outputs.ndim == 2 and outputs.shape[1] > 1 and bool((outputs.sum(1) - 1).abs().max() < SUM)
        return "probabilities" if sums_to_one and bool((outputs >= 0).all()) else "logits"

    def forward(self, x: Tensor) -> Tensor:
        """Raw inputs (B, ...) to the task's outputs (B, K)."""
        found = self.net(self.taken(x))
        if self.head is not None:
            return self.head(found.float().flatten(1))
        found = found.float()
        if found.ndim == 1 and self.task.num_outputs == 1:
            found = found.unsqueeze(1)
        if self.of_number:
            number = self.spec.target_as(Number)
            return found if self.kind == "standard" else (found - number.mean) / number.std
        if self.kind == "probabilities":
            found = _logits(found)
        two = self.task.num_outputs == 1 and found.ndim == 2 and found.shape[1] == 2
        return found[:, 1:] - found[:, :1] if two else found

    @override
    def train(self, mode: bool = True) -> OnnxGraph:
        super().train(mode)
        if self.freeze == "head_only":
            self.net.eval()
        return self

    # a run -----------------------------------------------------------------------------------------------------------

    @override
    def attach(self, *, config: dict[str, Any] | None = None, **parts: Any) -> Self:
        if config is not None:
            config = config | {"model": config["model"] | {"sha256": self.sha256}}
        return super().attach(config=config, **parts)

    def files(self) -> list[Path]:
        """The file, and those of its weights."""
        return graphs.files(self.path)

    @override
    def description(self) -> dict[str, Any]:
        """Config with the graph, and what was found out about it: when a checkpoint is read, the file may be gone."""
        described = super().description()
        found = {"graph": self.graph, "layout": self.layout, "outputs": self.kind}
        if "model" in self.config:
            described["config"] = self.config | {"model": self.config["model"] | found}
        return described


def _logits(probabilities: Tensor) -> Tensor:
    """Logarithms of probabilities (B, C); of one of two (B, 1) its logit."""
    tiny = torch.finfo(probabilities.dtype).tiny
    logs = probabilities.clamp(min=tiny).log()
    return logs - (1 - probabilities).clamp(min=tiny).log() if probabilities.shape[1] == 1 else logs
