"""ONNX graphs as models: the same outputs as where they come from, trained further, and whole in a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from src.config import compose
from src.errors import UserError
from src.experiment.assemble import Parts, assemble
from src.experiment.build import build_model
from src.models.load import load_model
from src.models.onnx_graph import OnnxGraph
from src.runtime.signals import Signals
from src.spec import Classes, DataSpec, ImageSpec, Number, SeriesSpec, TableSpec
from tests.conftest import Lab

FIXTURES = Path(__file__).parent.parent / "fixtures" / "onnx"
SHORT = ("trainer=cpu", "tracking.system_metrics=false", "threads=1")
BINARY, THREE = Classes(("no", "yes"), (4, 5)), Classes(("a", "b", "c"), (3, 3, 3))


def spec(shape: tuple[int, ...], target: Classes | Number = THREE) -> DataSpec:
    kind = {1: TableSpec, 2: SeriesSpec, 3: ImageSpec}[len(shape)]
    channels = shape[0] if kind is ImageSpec else shape[-1]
    task = "regression" if isinstance(target, Number) else "binary" if len(target.names) == 2 else "classification"
    return DataSpec("toy", (task,), {"train": 9}, kind(shape, (2.0,) * channels, (4.0,) * channels), target)


def build(path: Path, given: DataSpec, *overrides: str) -> OnnxGraph:
    return build_model(compose(["model=onnx", f"model.path={path}", *overrides]), given).eval()


def graph(folder: Path, module: nn.Module, shape: tuple[int, ...], name: str = "net.onnx", **options) -> Path:
    """A module as torch writes it, with any number of rows."""
    path = folder / name
    rows = {"dynamic_shapes": ({0: torch.export.Dim("rows", min=2)},)} | options
    torch.onnx.export(module.eval(), (torch.zeros(2, *shape),), dynamo=True, verbose=False, **rows).save(path)
    return path


def written(
    folder: Path, nodes: list, weights: dict[str, np.ndarray], sizes: list, outputs: list | None = None
) -> Path:
    """A graph of these nodes from `x` to `y`."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)
    made = helper.make_graph(
        nodes,
        "graph",
        [given],
        outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)]), folder / "net.onnx")
    return folder / "net.onnx"


def theirs(path: Path, x: torch.Tensor) -> torch.Tensor:
    """What onnxruntime answers."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def answers(model: OnnxGraph, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.task.predict(model(x))


def refusal(path: Path, given: DataSpec, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        build(path, given, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# the same answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("keras_digits", "digits"),
        ("logistic_iris", "iris"),
        ("mlp_iris", "iris"),
        ("ridge_diabetes", "diabetes"),
    ],
)
def test_answers_are_those_of_tensorflow_and_scikit_learn(name: str, data: str) -> None:
    """Which answered in their own process; see tests/fixtures/onnx/make.py."""
    path = FIXTURES / f"{name}.onnx"
    parts = assemble(compose(["model=onnx", f"model.path={path}", f"data={data}", *SHORT]), Signals())
    saved = np.load(path.with_suffix(".npz"))
    x = torch.from_numpy(saved["x"])
    x = x.movedim(-1, 1) if x.ndim == 4 else x
    torch.testing.assert_close(answers(parts.model.eval(), x), torch.from_numpy(saved["y"]), rtol=1e-5, atol=1e-5)
    assert parts.model.kind == ("raw" if data == "diabetes" else "logits" if "log" not in name else "probabilities")


class Net(nn.Module):
    """Convolutions, norms of both kinds and attention, such as today's exporter writes them."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.AvgPool2d(2))
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, classes)
        self.body[1].running_mean.data.normal_(std=0.1)

    def forward(self, x):
        x = self.norm(self.body(x).flatten(2).mT)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_graphs_of_later_opsets_are_read(opset: int, tmp_path: Path) -> None:
    """onnx2torch itself knows operators up to opset 17, and no exporter of torch writes those any more."""
    torch.manual_seed(0)
    path = graph(tmp_path, Net(), (2, 6, 6), opset_version=opset)
    model = build(path, spec((2, 6, 6)))
    x = torch.randn(5, 2, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs(path, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("scaling", "change"),
    [
        ("raw", lambda x: x),
        ("unit", lambda x: x / 255),
        ("standard", lambda x: (x - 2) / 4),
        (
            "imagenet",
            lambda x: (
                (x / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
                / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
            ),
        ),
    ],
)
def test_inputs_are_scaled_as_asked_for(scaling: str, change, tmp_path: Path) -> None:
    path = graph(tmp_path, nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), (3, 4, 4))
    x = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    with torch.no_grad():
        found = build(path, spec((3, 4, 4)), f"model.scaling={scaling}")(x)
    torch.testing.assert_close(found, theirs(path, change(x.float())), rtol=1e-4, atol=1e-4)


class Mean(nn.Module):
    """The mean of all but the last axis, or but the first after the rows."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first

    def forward(self, x):
        return (x.flatten(2).mean(2) if self.first else x.flatten(1, -2).mean(1)) * 1.0


@pytest.mark.parametrize("shape", [(3, 4, 5), (7, 3)])
def test_the_layout_is_the_declared_one(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = torch.rand(5, *shape)
    images = len(shape) == 3
    other = (*shape[1:], shape[0]) if images else shape[::-1]
    moved = x.movedim(1, -1) if images else x.movedim(-1, 1)
    mean = x.mean((2, 3)) if images else x.mean(1)
    for laid, first, rows in ((shape, images, x), (other, not images, moved)):
        path = graph(tmp_path, Mean(first), laid)
        torch.testing.assert_close(theirs(path, rows), mean)
        torch.testing.assert_close(build(path, spec(shape))(x), mean)


def test_a_layout_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)]
    path = written(tmp_path, nodes, {"axes": np.array([1, 2])}, ["rows", None, None, None])
    message = refusal(path, spec((3, 4, 4)))
    assert message == f"model.path={path} takes (B, ?, ?, ?): say which, model.layout=channels_first or channels_last"
    x = torch.rand(5, 3, 4, 3)
    found = build(path, spec((3, 4, 3)), "model.layout=channels_last")(x)
    torch.testing.assert_close(found, x.mean((2, 3)))


def test_grey_images_need_no_channel(tmp_path: Path) -> None:
    path = graph(tmp_path, nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), (4, 4))
    x = torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(build(path, spec((1, 4, 4)))(x), theirs(path, x.squeeze(1)))


@pytest.mark.parametrize("last", [nn.Identity(), nn.Sigmoid(), nn.Sequential(nn.Sigmoid(), nn.Flatten(0))])
def test_one_of_two_classes(last: nn.Module, tmp_path: Path) -> None:
    path = graph(tmp_path, nn.Sequential(nn.Linear(4, 1), last), (4,))
    x = torch.randn(6, 4)
    expected = theirs(path, x).flatten()
    expected = expected.sigmoid() if isinstance(last, nn.Identity) else expected
    torch.testing.assert_close(answers(build(path, spec((4,), BINARY)), x), expected)


@pytest.mark.parametrize("outputs", ["auto", "logits", "probabilities"])
def test_two_columns_for_one_of_two_classes(outputs: str, tmp_path: Path) -> None:
    last = nn.Identity() if outputs == "logits" else nn.Softmax(1)
    path = graph(tmp_path, nn.Sequential(nn.Linear(4, 2), last), (4,))
    x = torch.randn(6, 4)
    found = answers(build(path, spec((4,), BINARY), f"model.outputs={outputs}"), x)
    expected = theirs(path, x)
    torch.testing.assert_close(found, (expected.softmax(1) if outputs == "logits" else expected)[:, 1])


@pytest.mark.parametrize("unit", ["raw", "standard"])
def test_numbers_are_in_the_target_s_unit(unit: str, tmp_path: Path) -> None:
    path = graph(tmp_path, nn.Linear(4, 1), (4,))
    x = torch.randn(6, 4)
    found = answers(build(path, spec((4,), Number(mean=50.0, std=7.0)), f"model.outputs={unit}"), x)
    expected = theirs(path, x).flatten()
    torch.testing.assert_close(found, expected if unit == "raw" else expected * 7 + 50, rtol=1e-5, atol=1e-5)


def test_an_operator_that_keras_writes_for_its_gelu(tmp_path: Path) -> None:
    """tf2onnx writes TensorFlow's own name of it into the file, which ONNX has not."""
    path = written(tmp_path, [helper.make_node("Erfc", ["x"], ["y"])], {}, ["rows", 3])
    x = torch.randn(5, 3)
    torch.testing.assert_close(build(path, spec((3,)))(x), torch.erfc(x))


# what does not go ----------------------------------------------------------------------------------------------------


def test_what_does_not_go_is_one_line(tmp_path: Path) -> None:
    forest, digits = FIXTURES / "forest_iris.onnx", FIXTURES / "keras_digits.onnx"
    lacks = "operators that onnx2torch lacks: ai.onnx.ml.TreeEnsembleClassifier"
    assert refusal(forest, spec((4,))) == f"model.path={forest}: {lacks}"
    assert refusal(tmp_path / "no.onnx", spec((4,))) == f"model.path={tmp_path}/no.onnx: No such file or directory"
    for content in (b"", b"no graph", digits.read_bytes()[:999]):
        (tmp_path / "bad.onnx").write_bytes(content)
        assert refusal(tmp_path / "bad.onnx", spec((4,))).startswith(f"model.path={tmp_path}/bad.onnx: no ONNX graph, ")
    ten = Classes(tuple("abcdefghij"), (1,) * 10)
    assert refusal(digits, spec((1, 9, 9), ten)).endswith(
        "takes inputs (B, 8, 8, 1), data=toy gives (B, 1, 9, 9) or (B, 9, 9, 1) or (B, 9, 9) or (B, 81)"
    )
    needed = "model: OnnxGraph gives outputs (2, 10), the task classification takes (2, 3)"
    assert refusal(digits, spec((1, 8, 8))) == needed
    assert "model.output=no: " in refusal(digits, spec((1, 8, 8), ten), "model.output=no")
    assert "to test the graph as it is: trainer.max_epochs=0" in refusal(digits, spec((1, 8, 8)), "model.freeze=all")
    assert "of the task classification auto, logits or prob" in refusal(digits, spec((1, 8, 8)), "model.outputs=raw")
    assert "is another file than that of the run" in refusal(digits, spec((1, 8, 8), ten), "model.sha256=ab12")


def test_several_inputs_or_outputs_are_one_line(tmp_path: Path) -> None:
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "z")]
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    path = written(tmp_path, nodes, {}, ["rows", 3], outputs)
    assert refusal(path, spec((3,))) == f"model.path={path} has the outputs y, z; choose one: model.output=y"
    x = torch.randn(4, 3)
    torch.testing.assert_close(build(path, spec((3,)), "model.output=z")(x), -x)
    model = onnx.load(path)
    model.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "w"], ["y"]))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    onnx.save(model, path)
    assert "needs one input, its graph has: x (None, 3), w (3,)" in refusal(path, spec((3,)), "model.output=y")


def test_a_fixed_number_of_rows_is_taken_where_the_graph_goes_with_any(tmp_path: Path) -> None:
    """Exported for one row, as by default."""
    fixed = {"dynamic_shapes": None}
    path = graph(tmp_path, nn.Linear(4, 3), (4,), **fixed)
    x = torch.randn(2, 4)
    with torch.no_grad():
        torch.testing.assert_close(build(path, spec((4,)))(x.repeat(3, 1)), theirs(path, x).repeat(3, 1))
    nodes = [helper.make_node("Reshape", ["x", "sizes"], ["y"])]
    path = written(tmp_path, nodes, {"sizes": np.array([2, 3])}, [2, 3])
    assert refusal(path, spec((3,))).endswith("a graph is to be exported with an open number of rows")


@pytest.mark.parametrize(
    ("node", "extra"),
    [
        (helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2]), "dilations"),
        (helper.make_node("Pad", ["x", "pads", "", "axes"], ["y"]), "4 inputs"),
    ],
)
def test_what_an_old_operator_cannot_say_is_named(node: onnx.NodeProto, extra: str, tmp_path: Path) -> None:
    weights = {"pads": np.array([1, 1]), "axes": np.array([2])}
    path = written(
        tmp_path, [node], {key: value for key, value in weights.items() if key in node.input}, ["n", 1, 8, 8]
    )
    assert f"lacks: {node.op_type} with {extra}" in refusal(path, spec((1, 8, 8)))


# training ------------------------------------------------------------------------------------------------------------


def test_all_weights_train_and_settings_do_not() -> None:
    """Those too that onnx2torch keeps beside its layers, such as Keras' matrices; a factor of 1/16 stays."""
    ten = Classes(tuple("abcdefghij"), (1,) * 10)
    model = build(FIXTURES / "keras_digits.onnx", spec((1, 8, 8), ten)).train()
    names = {one.name: numpy_helper.to_array(one) for one in onnx.load(model.path).graph.initializer}
    weights = sum(value.size for value in names.values() if value.dtype == np.float32 and value.ndim)
    assert sum(p.numel() for p in model.parameters()) == weights
    draw = torch.Generator().manual_seed(0)
    batch = {"input": torch.randint(0, 17, (8, 1, 8, 8), generator=draw), "target": torch.arange(8)}
    model.training_step(batch, 0).backward()
    assert all(p.grad is not None and p.grad.norm() > 0 for p in model.parameters())


def test_a_new_head_on_a_value_inside(tmp_path: Path) -> None:
    path = FIXTURES / "keras_digits.onnx"
    inside = next(node.output[0] for node in onnx.load(path).graph.node if node.op_type == "MaxPool")
    given = ["model.head=true", f"model.output='{inside}'", "model.freeze=head_only"]
    model = build(path, spec((1, 8, 8)), *given).train()
    assert model.head.weight.shape == (3, 8 * 4 * 4)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    model.training_step({"input": torch.rand(4, 1, 8, 8), "target": torch.tensor([0, 1, 2, 0])}, 0).backward()
    assert model.head.weight.grad.norm() > 0


def fitted(folder: Path, *overrides: str) -> Parts:
    shutil.copy(FIXTURES / "keras_digits.onnx", folder / "net.onnx")
    given = ["model=onnx", f"model.path={folder / 'net.onnx'}", "data=digits", *SHORT]
    parts = assemble(compose([*given, *overrides]), Signals())
    parts.checkpoint.directory = parts.texts.folder = parts.pictures.folder = folder
    parts.trainer.fit(parts.model, datamodule=parts.data)
    return parts


def test_a_checkpoint_is_whole_without_the_file(tmp_path: Path) -> None:
    parts = fitted(tmp_path, "trainer.max_epochs=2")
    losses = [value for _, value in parts.model.history["train/loss"]]
    assert losses[1] < losses[0]
    (tmp_path / "net.onnx").unlink()
    content = torch.load(parts.checkpoint.best_path, weights_only=True)
    assert len(content["labbook"]["config"]["model"]["graph"]) < 3000  # its weights lie beside it
    assert len(content["labbook"]["config"]["model"]["sha256"]) == 64
    again = load_model(parts.checkpoint.last_path)
    x = parts.data.head("test", 9)["input"]
    with torch.no_grad():
        assert torch.equal(again(x), parts.model.eval()(x))
        assert again.description()["config"]["model"] == content["labbook"]["config"]["model"]


def test_weights_beside_the_file_belong_to_it(tmp_path: Path) -> None:
    model = onnx.load(FIXTURES / "keras_digits.onnx")
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    ten = Classes(tuple("abcdefghij"), (1,) * 10)
    found = build(tmp_path / "net.onnx", spec((1, 8, 8), ten))
    assert found.files() == [tmp_path / "net.onnx", tmp_path / "weights.bin"]
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(found(x), build(FIXTURES / "keras_digits.onnx", spec((1, 8, 8), ten))(x))
    content = bytearray((tmp_path / "weights.bin").read_bytes())
    content[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(content)
    assert "is another file" in refusal(tmp_path / "net.onnx", spec((1, 8, 8), ten), f"model.sha256={found.sha256}")


def test_everything_afterwards_by_the_run_s_id_without_the_file(lab: Lab) -> None:
    shutil.copy(FIXTURES / "keras_digits.onnx", lab.folder / "net.onnx")
    given = ["model=onnx", "model.path=net.onnx", "data=digits", *SHORT]
    tested = lab.train(*given, "trainer.max_epochs=0")
    assert tested.code == 0, tested.err
    (run,) = lab.runs()
    assert run.data.metrics["test/accuracy"] > 0.8  # as TensorFlow trained it
    done = lab.train(*given, "trainer.max_epochs=2")
    assert done.code == 0, done.err
    trained = lab.runs()[0].info.run_id
    (lab.folder / "net.onnx").unlink()
    for one in (run.info.run_id, trained):
        evaluated = lab.run("evaluate", f"run={one}", "resamples=0")
        assert evaluated.code == 0 and "to the last bit" in evaluated.out, evaluated.err
    exported = lab.run("export", f"run={trained}", "format=onnx", "output=again.onnx")
    assert exported.code == 0, exported.err
    verified = lab.run("rerun", f"run={trained}", "verify=true")
    assert verified.code == 0 and "identical" in verified.out, verified.err
    shutil.copy(FIXTURES / "mlp_iris.onnx", lab.folder / "net.onnx")
    changed = lab.run("rerun", f"run={trained}", "verify=true")
    assert changed.code == 2 and "model.path=net.onnx is another file than that of the run" in changed.err
    # what this project exports is a graph as any other
    same = lab.train("model=onnx", "model.path=again.onnx", "data=digits", *SHORT, "trainer.max_epochs=0")
    assert same.code == 0, same.err
    before, after = (lab.client.get_run(one).data.metrics for one in (trained, lab.runs()[0].info.run_id))
    assert after["test/loss"] == pytest.approx(before["test/loss"], rel=1e-4)
