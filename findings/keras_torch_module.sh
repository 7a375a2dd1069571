#!/usr/bin/env bash
# A model of Keras on torch is a torch.nn.Module, but cannot be used as one.
#
# One would expect: with KERAS_BACKEND=torch a Keras model is a torch.nn.Module, so `train()` switches Dropout on, each
#   weight is in `state_dict` once, and a `state_dict` loads into a second model made by the same code.
# What happens: `train()` sets the flag `training`, which Keras's layers do not read: only the argument `training=True`
#   of a call switches Dropout on. `state_dict` of a Sequential names each weight twice, and the names count the models
#   and layers that the process has made before, so the second model refuses the weights of the first. The seed of
#   Dropout is a torch.nn.Parameter of whole numbers among `parameters()`.
# Versions: keras 3.15.1, torch 2.14.1, Python 3.11.
# Why it matters here: a loop that trains modules of torch would train such a net without Dropout, and could not load
#   its checkpoints. src/models/components/keras_net.py wraps the model for that.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 torch==2.14.1

cat > "$folder/try.py" <<'PYTHON'
import keras
import torch


def make():
    return keras.Sequential([keras.Input((100,)), keras.layers.Dropout(0.5), keras.layers.Dense(3, use_bias=False)])


with keras.device("cpu"):
    first, second = make(), make()
    x = torch.ones(1, 100)
    print("a module of torch:", isinstance(first, torch.nn.Module))
    dropout = first.train().layers[0]
    print("training:", dropout.training)
    print("Dropout after train() changes x:", not torch.equal(dropout(x), x))
    print("Dropout of a call with training=True changes x:", not torch.equal(dropout(x, training=True), x))
for title, net in (("first", first), ("second", second)):
    for name in net.state_dict():
        print(f"{title}: {name}")
print("parameters:", *sorted(str(value.dtype) for value in first.parameters()))
try:
    second.load_state_dict(first.state_dict())
except RuntimeError:
    print("the second model refuses the weights of the first")
PYTHON

seen=$(KERAS_BACKEND=torch "$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
[[ $seen == "a module of torch: True
training: True
Dropout after train() changes x: False
Dropout of a call with training=True changes x: True
first: _functional._torch_params.seed_generator/seed_generator_state
first: _functional._torch_params.sequential/dense/kernel
first: _torch_params.seed_generator/seed_generator_state
first: _torch_params.sequential/dense/kernel
second: _functional._torch_params.seed_generator_1/seed_generator_state
second: _functional._torch_params.sequential_1/dense_1/kernel
second: _torch_params.seed_generator_1/seed_generator_state
second: _torch_params.sequential_1/dense_1/kernel
parameters: torch.float32 torch.int32
the second model refuses the weights of the first" ]]

# Seen:
# a module of torch: True
# training: True
# Dropout after train() changes x: False
# Dropout of a call with training=True changes x: True
# first: _functional._torch_params.seed_generator/seed_generator_state
# first: _functional._torch_params.sequential/dense/kernel
# first: _torch_params.seed_generator/seed_generator_state
# first: _torch_params.sequential/dense/kernel
# second: _functional._torch_params.seed_generator_1/seed_generator_state
# second: _functional._torch_params.sequential_1/dense_1/kernel
# second: _torch_params.seed_generator_1/seed_generator_state
# second: _torch_params.sequential_1/dense_1/kernel
# parameters: torch.float32 torch.int32
# the second model refuses the weights of the first
