#!/usr/bin/env bash
# ONNX files of Keras on TensorFlow that lack values or are not valid.
#
# One would expect: `model.export(path, format="onnx")` writes a file that gives the model's outputs, or raises an
#   error where it cannot.
# What happens: the mean and the variance of a Normalization layer become inputs of the graph without a value, so the
#   file lacks what the layer had learnt. onnx.checker takes it, since a graph may have several inputs.
#   Dense(activation="gelu") writes an operator that this ONNX does not have: "Unsupported ops" is logged, `export`
#   returns as ever, and onnx.checker rejects the file. A net without either is written right.
# Versions: keras 3.15.1, tensorflow 2.21.0, tf2onnx 1.17.0, onnx 1.23.2, Python 3.11.
# Why it matters here: such files are given as pretrained models. src/models/components/onnx_graphs.py refuses a graph
#   of several inputs and names them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0 tf2onnx==1.17.0 \
    onnx==1.23.2

cat > "$folder/try.py" <<'PYTHON'
import os
import sys

import keras
import numpy as np
import onnx

rows = np.arange(12, dtype="float32").reshape(4, 3)
normalization = keras.layers.Normalization()
normalization.adapt(rows)
for title, layers in (
    ("Dense alone", [keras.layers.Dense(2)]),
    ("Normalization and Dense", [normalization, keras.layers.Dense(2)]),
    ("Dense with gelu", [keras.layers.Dense(2, activation="gelu")]),
):
    net = keras.Sequential([keras.Input((3,)), *layers])
    net(rows)
    path = os.path.join(sys.argv[1], "net.onnx")
    net.export(path, format="onnx", verbose=False)
    model = onnx.load(path)
    try:
        onnx.checker.check_model(model, full_check=True)
        checker = "valid"
    except onnx.checker.ValidationError as error:
        checker = str(error).splitlines()[0]
    print(f"{title}: inputs of the net {len(net.inputs)}, of the graph {len(model.graph.input)}; {checker}")
PYTHON

export CUDA_VISIBLE_DEVICES=-1
seen=$(KERAS_BACKEND=tensorflow "$folder/venv/bin/python" "$folder/try.py" "$folder" 2> "$folder/log") ||
    { cat "$folder/log" >&2; exit 1; }
grep "Unsupported ops" "$folder/log"
echo "$seen"
[[ $seen == "Dense alone: inputs of the net 1, of the graph 1; valid
Normalization and Dense: inputs of the net 1, of the graph 3; valid
Dense with gelu: inputs of the net 1, of the graph 1; No Op registered for Erfc with domain_version of 15" ]]

# Seen:
# Dense alone: inputs of the net 1, of the graph 1; valid
# Normalization and Dense: inputs of the net 1, of the graph 3; valid
# Dense with gelu: inputs of the net 1, of the graph 1; No Op registered for Erfc with domain_version of 15
