#!/usr/bin/env bash
# Random numbers of Keras that are the same in each call.
#
# One would expect: `keras.random.normal` without a seed draws new numbers in each call, as numpy and torch do; Keras
#   says that a generator of its own, of the whole process, stands behind it.
# What happens: inside a `keras.StatelessScope` it begins at the same place each time, so two calls of a layer in two
#   scopes get the same numbers. The scope keeps back all updates of variables, as its manual says, and the state of
#   that generator is one of them; it is none of the model's, so who hands the model's variables on does not see it.
#   On JAX, Keras has an error for such draws in a compiled function; here there is none.
# Versions: keras 3.15.1 on torch 2.14.1, Python 3.11.
# Why it matters here: noise in a layer of the user's own would be the same in each training step.
#   src/models/components/keras_net.py refuses a net that changes such variables.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 torch==2.14.1

cat > "$folder/try.py" <<'PYTHON'
import keras
import numpy as np


class Noise(keras.Layer):
    """Adds numbers that are drawn without a seed."""

    def call(self, x):
        return x + keras.random.normal((1, 4))


def call(scope):
    if not scope:
        return keras.ops.convert_to_numpy(net(x))
    with keras.StatelessScope([(one, one.value) for one in net.variables]):
        return keras.ops.convert_to_numpy(net(x))


with keras.device("cpu"):
    net, x = keras.Sequential([keras.Input((4,)), Noise(), keras.layers.Dense(4)]), np.zeros((1, 4), "float32")
    for scope in (False, True):
        outputs = [call(scope) for _ in range(5)]
        print("in a scope each:" if scope else "plain calls:", len(np.unique(outputs, axis=0)), "different of 5")
PYTHON

seen=$(KERAS_BACKEND=torch "$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
[[ $seen == "plain calls: 5 different of 5
in a scope each: 1 different of 5" ]]

# Seen:
# plain calls: 5 different of 5
# in a scope each: 1 different of 5
