"""ONNX graphs in torch's layers, by onnx2torch (https://github.com/ENOT-AutoDL/onnx2torch): all weights train."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from onnx import ModelProto


def net(model: ModelProto) -> nn.Module:
    """The graph as a module of one input and one output, all of whose weights train.

    Weights that are no part of a layer, such as the matrices of Keras, are buffers where onnx2torch makes them, which
    would stay as they are.
    """
    import onnx2torch

    made = onnx2torch.convert(model)
    constants: Any = getattr(made, "initializers", nn.Module())
    for name, value in list(constants.named_buffers()):
        if value.is_floating_point() and value.ndim:  # a number alone is a setting, such as an epsilon
            delattr(constants, name)
            constants.register_parameter(name, nn.Parameter(value))
    rows = next(node for node in made.graph.nodes if node.op == "placeholder")
    for node in list(made.graph.nodes):
        shaper = SHAPERS.get(type(made.get_submodule(node.target)).__name__) if node.op == "call_module" else None
        sizes = [_numbers(made, one) for one in node.args[1:]]
        if shaper is None or not sizes or None in sizes:
            continue
        with made.graph.inserting_before(node):
            node.replace_all_uses_with(made.graph.call_function(shaper, (node.args[0], rows, *sizes)))
        made.graph.erase_node(node)
    made.graph.eliminate_dead_code()
    made.delete_all_unused_submodules()
    made.recompile()
    return made


def _numbers(made: Any, node: Any) -> list[int] | None:  # noqa: ANN401 (torch.fx)
    """Whole numbers that a node of torch.fx stands for, where they are constant."""
    value = None
    if node.op == "get_attr":
        value = getattr(made.get_submodule("initializers"), node.target.partition(".")[2])
    elif node.op == "call_module":
        value = getattr(made.get_submodule(node.target), "value", None)
    return value.flatten().tolist() if isinstance(value, Tensor) and not value.is_floating_point() else None


# Operators on sizes, as ONNX has them; `rows` is the graph's input, which tells how many rows there are. Those of
# onnx2torch ask tensors for these numbers, which no compiled or exported graph can.


def reshape(x: Tensor, rows: Tensor, sizes: list[int]) -> Tensor:
    """Give other sizes: one of 0 is that of x, and one of -1 what is left."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(sizes)])


def expand(x: Tensor, rows: Tensor, sizes: list[int]) -> Tensor:
    """Repeat to these sizes, where those of x are 1; -1 is the number of rows."""
    wanted = [rows.shape[0] if size == -1 else size for size in sizes]
    return x.broadcast_to(torch.broadcast_shapes(x.shape, wanted))


def squeeze(x: Tensor, rows: Tensor, axes: list[int]) -> Tensor:
    """Take away axes of size 1."""
    return x.squeeze(tuple(axes))


def unsqueeze(x: Tensor, rows: Tensor, axes: list[int]) -> Tensor:
    """Add axes of size 1, counted in the result."""
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def cut(
    x: Tensor,
    rows: Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> Tensor:
    """Take a part along some axes, by default the first ones."""
    places = [slice(None)] * x.ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = steps[i] if steps else 1
        if step < 0:
            raise NotImplementedError("Slice with a negative step")
        places[axes[i] if axes else i] = slice(start, end, step)
    return x[tuple(places)]


SHAPERS: dict[str, Callable[..., Tensor]] = {
    "OnnxSlice": cut,
    "OnnxReshape": reshape,
    "OnnxExpand": expand,
    "OnnxSqueezeDynamicAxes": squeeze,
    "OnnxUnsqueezeDynamicAxes": unsqueeze,
}
