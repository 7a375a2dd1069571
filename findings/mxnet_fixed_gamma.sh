#!/usr/bin/env bash
# Weights in a file of MXNet that MXNet itself does not use.
#
# One would expect: `gamma` of a batch normalisation multiplies its output, so what is stored under that name is what
#   the net computes with, and another program that reads the file gets the same outputs.
# What happens: `mx.sym.BatchNorm` has `fix_gamma=True` by default, and then computes with 1, as its manual says. The
#   array keeps what it had: 5 stays 5 in predictions. Training sets it to 1 in each step, but then weight decay makes
#   it smaller, and that is what a file gets. The layer of gluon has `fix_gamma=False`, and the file has no word of it.
# Versions: mxnet 1.9.1 (retired since), numpy 1.23.5, Python 3.11.
# Why it matters here: weights of a symbol's net give other outputs in torch. src/training/weight_files.py reads arrays
#   as they are stored, since the file cannot tell.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mxnet==1.9.1 numpy==1.23.5

cat > "$folder/try.py" <<'PYTHON'
import sys

import mxnet as mx
import numpy as np

x = mx.sym.Variable("x")
for options in ({}, {"fix_gamma": False}):
    layer = mx.sym.BatchNorm(x, name="norm", **options).simple_bind(mx.cpu(), x=(1, 1), grad_req="null")
    layer.arg_dict["norm_gamma"][:], layer.arg_dict["norm_beta"][:] = 5, 0
    layer.aux_dict["norm_moving_mean"][:], layer.aux_dict["norm_moving_var"][:] = 0, 1
    output = layer.forward(is_train=False, x=mx.nd.ones((1, 1)))[0].asscalar()
    print(options or "by default", "output of 1:", round(float(output), 1), end=", ")
    print("stored:", float(layer.arg_dict["norm_gamma"].asscalar()))

random = np.random.default_rng(0)
net = mx.sym.FullyConnected(mx.sym.BatchNorm(x, name="norm"), num_hidden=1)
net = mx.mod.Module(mx.sym.LinearRegressionOutput(net, name="y"), data_names=["x"], label_names=["y_label"])
rows = mx.io.NDArrayIter({"x": random.normal(size=(16, 3))}, {"y_label": random.normal(size=(16, 1))}, 4)
net.fit(rows, num_epoch=3, optimizer="sgd", optimizer_params={"learning_rate": 0.1, "wd": 0.5})
net.save_params(sys.argv[1])
gamma = mx.nd.load(sys.argv[1])["arg:norm_gamma"].asnumpy()
print("in a file after training:", *(f"{value:.2f}" for value in gamma))
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py" "$folder/net.params" 2> "$folder/log") ||
    { cat "$folder/log" >&2; exit 1; }
echo "$seen"
[[ $seen == "by default output of 1: 1.0, stored: 5.0
{'fix_gamma': False} output of 1: 5.0, stored: 5.0
in a file after training: 0.95 0.95 0.95" ]]

# Seen:
# by default output of 1: 1.0, stored: 5.0
# {'fix_gamma': False} output of 1: 5.0, stored: 5.0
# in a file after training: 0.95 0.95 0.95
