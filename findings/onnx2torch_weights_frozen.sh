#!/usr/bin/env bash
# A net that onnx2torch made from an ONNX graph trains only some of its weights.
#
# One would expect: the weights of a converted graph are parameters of the module, as those of a net of torch are, so
#   that an optimizer given `net.parameters()` trains all of them. A weight that two nodes share stays shared.
# What happens: only the weights of what becomes a layer of torch (Gemm, Conv, ...) are parameters. The matrix of a
#   MatMul and the bias of an Add, which is how Keras writes its Dense layer, become buffers: training leaves them as
#   they are, and nothing says so. Weights shared by two Gemm nodes become a copy for each, and training makes those
#   different.
# Versions: onnx2torch 1.5.15, onnx 1.23.2, torch 2.14.1, Python 3.11.
# Why it matters here: fine-tuning such a net trains less than it seems to. src/models/components/onnx_nets.py makes
#   those buffers into parameters.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx2torch==1.5.15 onnx==1.23.2 torch==2.14.1

cat > "$folder/try.py" <<'PYTHON'
import numpy as np
import onnx
import onnx2torch
import torch
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(0)
sizes = {"dense_weight": (4, 4), "dense_bias": (4,), "shared_weight": (4, 4), "shared_bias": (4,)}
graph = helper.make_graph(
    [
        helper.make_node("MatMul", ["x", "dense_weight"], ["a"]),
        helper.make_node("Add", ["a", "dense_bias"], ["b"]),
        helper.make_node("Gemm", ["b", "shared_weight", "shared_bias"], ["c"]),
        helper.make_node("Gemm", ["c", "shared_weight", "shared_bias"], ["y"]),
    ],
    "net",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
    [numpy_helper.from_array(random.standard_normal(s).astype("float32"), name) for name, s in sizes.items()],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.checker.check_model(model, full_check=True)

net = onnx2torch.convert(model)
before = {name: value.clone() for name, value in net.state_dict().items()}
net(torch.ones(2, 4)).square().mean().backward()
torch.optim.SGD(net.parameters(), lr=0.01).step()
for name, value in sorted(net.state_dict().items()):
    print(name, list(value.shape), "same after training" if torch.equal(value, before[name]) else "trained")
print("still shared:", torch.equal(net.get_submodule("Gemm").weight, net.get_submodule("Gemm_1").weight))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
[[ $seen == "Gemm.bias [4] trained
Gemm.weight [4, 4] trained
Gemm_1.bias [4] trained
Gemm_1.weight [4, 4] trained
initializers.onnx_initializer_0 [4, 4] same after training
initializers.onnx_initializer_1 [4] same after training
still shared: False" ]]

# Seen:
# Gemm.bias [4] trained
# Gemm.weight [4, 4] trained
# Gemm_1.bias [4] trained
# Gemm_1.weight [4, 4] trained
# initializers.onnx_initializer_0 [4, 4] same after training
# initializers.onnx_initializer_1 [4] same after training
# still shared: False
