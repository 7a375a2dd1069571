"""ONNX graphs: read, reduced to one input and one output, in the operators that onnx2torch knows.

It knows those up to opset 17; graphs of later ones are written in the terms of that one here, where they can be. Of
scikit-learn's operators (ai.onnx.ml) the linear ones become standard ones.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from src.errors import UserError, suggest
from src.runtime import optional

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

OPSET = 17  # the latest that onnx2torch knows
ML = "ai.onnx.ml"
SMALL = 64  # numbers: shorter tensors may be settings of an operator, such as the factors of a resize
SHAPING = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten", "Reshape")  # change no value


def require() -> None:
    """Check that the packages of the extra are installed."""
    for package in ("onnx", "onnx2torch"):
        optional.require(package, optional.extra("onnx"), for_="model=onnx")


# files ---------------------------------------------------------------------------------------------------------------


def files(path: Path) -> list[Path]:
    """The file of a graph, and those beside it that hold its weights where it has such."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    model = onnx.load(path, load_external_data=False)
    names = {ExternalDataInfo(one).location for one in model.graph.initializer if uses_external_data(one)}
    return [path, *(path.parent / name for name in sorted(names))]


def read(path: Path) -> tuple[ModelProto, str]:
    """A graph with its weights, and the sha256 of its file; of several files, of all of them in order.

    Raises:
        UserError: there is no such file, or it is no ONNX graph.
    """
    import onnx
    from google.protobuf.message import DecodeError

    digest = hashlib.sha256()
    try:
        for one in files(path):
            digest.update(one.read_bytes())
        model = onnx.load(path)
    except OSError as error:
        raise UserError(f"model.path={path}: {error.strerror or error}") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise UserError(f"model.path={path}: no ONNX graph, or a damaged one") from error
    if not model.graph.node:
        raise UserError(f"model.path={path}: no ONNX graph, or an empty one")
    return model, digest.hexdigest()


def packed(model: ModelProto) -> str:
    """A graph without the values of its larger weights, as text: those lie beside it in a checkpoint."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for weight in bare.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.size >= SMALL and np.issubdtype(values.dtype, np.floating):
            weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(values), weight.name))
    return base64.b64encode(zlib.compress(bare.SerializeToString())).decode()


def unpacked(text: str) -> ModelProto:
    """The graph that `packed` wrote."""
    import onnx

    return onnx.load_from_string(zlib.decompress(base64.b64decode(text)))


# one input, one output -----------------------------------------------------------------------------------------------


def reduced(model: ModelProto, output: str | None, path: Path) -> ModelProto:
    """The part of a graph that leads to one output, in operators that onnx2torch knows.

    Args:
        output: name of a graph's output, or of a value inside it; None: the only one, or the only one of numbers (a
            classifier of scikit-learn also gives labels).

    Raises:
        UserError: no such output, or several; several inputs; operators that are not known here.
    """
    from onnx import inliner

    if model.functions:
        model = inliner.inline_local_functions(model)
    graph = model.graph
    _prune(graph, _output(graph, output, path))
    for node in [node for node in graph.node if node.domain == ML or node.op_type == "Erfc"]:
        _standardize(graph, node)
    model = _expanded(model)
    problems = sorted({problem for node in model.graph.node if (problem := _lower(model, node))})
    if problems:
        raise UserError(f"model.path={path}: operators that onnx2torch lacks: {', '.join(problems)}")
    for opset in model.opset_import:
        opset.version = min(opset.version, OPSET) if opset.domain == "" else opset.version
    _input(model.graph, path)
    return _with_fixed_shapes(model)


def _output(graph: GraphProto, output: str | None, path: Path) -> str:
    makers = {name: node for node in graph.node for name in node.output}
    if output is not None:
        if output not in makers:
            known = [one.name for one in graph.output]
            raise UserError(f"model.output={output}: {path} has no such value{suggest(output, known)}")
        return output
    # a list of dicts, one a row, stands for the table that it is made from
    names = [
        makers[one.name].input[0] if makers[one.name].op_type == "ZipMap" else one.name
        for one in graph.output
        if one.name in makers and (makers[one.name].op_type == "ZipMap" or _is_floating(one))
    ]
    if len(names) != 1:
        known = [one.name for one in graph.output]
        raise UserError(f"model.path={path} has the outputs {', '.join(known)}; choose one: model.output={known[0]}")
    return names[0]


def _prune(graph: GraphProto, output: str) -> None:
    """Leave nothing but what leads to a value, which becomes the only output."""
    import onnx

    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    _replace(graph.node, reversed(kept))
    _replace(graph.initializer, [one for one in graph.initializer if one.name in needed])
    names = {one.name for one in graph.initializer}
    _replace(graph.input, [one for one in graph.input if one.name in needed - names])
    _replace(graph.output, [onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)])


def _input(graph: GraphProto, path: Path) -> None:
    """Make sure that there is one input; one of whole numbers that is only turned into floats becomes one of floats."""
    import onnx

    if len(graph.input) != 1:
        names = ", ".join(f"{one.name} {tuple(shape(one) or ())}" for one in graph.input) or "none"
        raise UserError(f"model.path={path} needs one input, its graph has: {names}")
    (given,) = graph.input
    users = [node for node in graph.node if given.name in node.input]
    casts = [node for node in users if node.op_type == "Cast" and _attributes(node)["to"] == onnx.TensorProto.FLOAT]
    if not _is_floating(given) and users == casts:
        given.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _with_fixed_shapes(model: ModelProto) -> ModelProto:
    """The graph with sizes as constants, as far as they follow from those of its input: only the rows stay open (-1).

    Exporters write a flattening as many operators on the sizes of its input, which no compiled or exported program of
    torch can ask for.
    """
    import onnx

    graph = model.graph
    if graph.input[0].type.tensor_type.shape.dim:
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    del graph.value_info[:]
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    graph.output[0].CopyFrom(known.output[0])
    sizes = {one.name: shape(one) for one in (*known.value_info, *known.output)}
    for node in graph.node:
        found = sizes.get(node.output[0]) if node.op_type in ("Reshape", "Expand") else None
        open_ = [axis for axis, size in enumerate(found or ()) if size is None]
        if found and (len(open_) < 2 if node.op_type == "Reshape" else open_ in ([], [0])):
            name = f"{node.output[0]}/sizes"
            values = np.array([-1 if size is None else size for size in found])
            graph.initializer.append(onnx.numpy_helper.from_array(values, name))
            node.input[1] = name
    given, output = graph.input[0].name, graph.output[0].name
    _prune(graph, output)
    graph.output[0].CopyFrom(known.output[0])
    assert [one.name for one in graph.input] == [given]
    return model


def shape(value: ValueInfoProto) -> list[int | None] | None:
    """Sizes of a value, None where one is open; None where not even their number is declared."""
    declared = value.type.tensor_type
    if not declared.HasField("shape"):
        return None
    return [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in declared.shape.dim]


def dtype(value: ValueInfoProto) -> torch.dtype:
    """Dtype of a value."""
    import onnx

    return torch.from_numpy(np.zeros(0, onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))).dtype


def drop_last_activation(graph: GraphProto, operator: str) -> bool:
    """Take away the operator of this name that gives the output, reshaped at most; True if there was one."""
    makers = {name: node for node in graph.node for name in node.output}
    value = graph.output[0].name
    while (node := makers.get(value)) is not None and node.op_type in SHAPING:
        value = node.input[0]
    if node is None or node.op_type != operator:
        return False
    node.op_type = "Identity"
    del node.attribute[:]
    return True


# operators -----------------------------------------------------------------------------------------------------------


def _standardize(graph: GraphProto, node: NodeProto) -> None:
    """Replace a linear operator of ai.onnx.ml, or one that only tf2onnx has, by standard ones; others stay."""
    import onnx

    given, values = node.input[0], _attributes(node)
    new: list[NodeProto] = []

    def add(operator: str, *inputs: str | np.ndarray, **options: Any) -> str:  # noqa: ANN401 (attributes)
        names = []
        for one in inputs:
            if isinstance(one, str):
                names.append(one)
                continue
            names.append(f"{result}/weight_{len(graph.initializer)}")
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(one, np.float32), names[-1]))
        name = f"{result}/{operator}_{len(new)}"
        new.append(onnx.helper.make_node(operator, names, [name], name=name, **options))
        return name

    result = node.output[-1]  # of a classifier its scores, after its labels
    if node.op_type == "Scaler":
        last = add("Mul", add("Sub", given, np.array(values["offset"])), np.array(values["scale"]))
    elif node.op_type in ("LinearRegressor", "LinearClassifier"):
        rows = len(values["intercepts"]) if "intercepts" in values else values.get("targets", 1)
        weight = np.array(values["coefficients"]).reshape(rows, -1)
        last = add("Gemm", given, weight, np.array(values.get("intercepts", np.zeros(rows))), transB=1)
        after = values.get("post_transform", b"NONE").decode()
        if after in ("SOFTMAX", "LOGISTIC"):
            last = add(*(("Softmax", last) if after == "SOFTMAX" else ("Sigmoid", last)))
        elif after != "NONE":
            return
    elif node.op_type == "Erfc":  # in the gelu of Keras
        last = add("Sub", np.array(1.0), add("Erf", given))
    elif node.op_type == "Normalizer" and values.get("norm") == b"L1":
        last = add("Div", given, add("ReduceL1", given, axes=[1], keepdims=1))
    else:
        return
    new.append(onnx.helper.make_node("Identity", [last], [result], name=result))
    place = list(graph.node).index(node)
    nodes = list(graph.node)
    _replace(graph.node, [*nodes[:place], *new, *nodes[place + 1 :]])


def _expanded(model: ModelProto) -> ModelProto:
    """The graph with operators that onnx2torch lacks written out, where ONNX defines them by simpler ones."""
    from onnx import inliner

    while True:  # as one may be defined by another
        operators = {(node.domain, node.op_type) for node in model.graph.node}
        missing = sorted((domain, name) for domain, name in operators if not _is_known(name, domain, OPSET))
        before = len(model.graph.node)
        if missing:
            model = inliner.inline_selected_functions(model, missing, inline_schema_functions=True)
        if len(model.graph.node) == before:
            return model


def _is_known(operator: str, domain: str, version: int) -> bool:
    from onnx2torch.node_converters import get_converter

    try:
        get_converter(operation_type=operator, domain=domain, version=version)
    except NotImplementedError:
        return False
    return True


def _lower(model: ModelProto, node: NodeProto) -> str | None:
    """Write an operator of a later opset in terms of OPSET; what stands against it, in words, or None."""
    from onnx import defs

    _use_older_form(model.graph, node)
    if not _is_known(node.op_type, node.domain, OPSET):
        return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    now = defs.get_schema(node.op_type, domain=node.domain)
    older = defs.get_schema(node.op_type, OPSET, node.domain)
    for one in list(node.attribute):
        if one.name in older.attributes:
            continue
        usual = now.attributes[one.name].default_value if one.name in now.attributes else None
        if usual is None or _value(usual) != _value(one):
            return f"{node.op_type} with {one.name}"
        node.attribute.remove(one)
    return f"{node.op_type} with {len(node.input)} inputs" if len(node.input) > older.max_input else None


def _use_older_form(graph: GraphProto, node: NodeProto) -> None:
    """Change what an operator says in another way since OPSET, without a change of meaning."""
    import onnx

    idle: dict[str, Callable[[Any], bool]] = {
        "allowzero": lambda value: True,  # a size of zero is none that a net has
        "num_outputs": lambda value: True,  # which are there to be counted
        "dilations": lambda value: node.op_type == "AveragePool" and set(value) == {1},
    }
    for one in list(node.attribute):
        if one.name in idle and idle[one.name](_value(one)):
            node.attribute.remove(one)
    if node.op_type.startswith("Reduce") and node.op_type != "ReduceSum" and len(node.input) == 2:
        constants = {one.name: one for one in graph.initializer}
        constants |= {one.output[0]: one.attribute[0].t for one in graph.node if one.op_type == "Constant"}
        if node.input[1] in constants:
            axes = onnx.numpy_helper.to_array(constants[node.input[1]]).tolist()
            node.attribute.append(onnx.helper.make_attribute("axes", axes))
            del node.input[1]


def _value(attribute: Any) -> Any:  # noqa: ANN401 (a number, a text, a tensor)
    import onnx

    return onnx.helper.get_attribute_value(attribute)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {one.name: _value(one) for one in node.attribute}


def _is_floating(value: ValueInfoProto) -> bool:
    kind = value.type.WhichOneof("value")
    return kind == "tensor_type" and dtype(value).is_floating_point


def _replace(field: Any, values: Iterable[Any]) -> None:  # noqa: ANN401 (a list of protobuf)
    kept = list(values)
    del field[:]
    field.extend(kept)
