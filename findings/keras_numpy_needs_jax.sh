#!/usr/bin/env bash
# Keras on its numpy backend needs JAX.
#
# One would expect: KERAS_BACKEND=numpy is the backend that needs numpy alone, which Keras brings along.
# What happens: `import keras` fails with it until scipy and JAX are installed: its convolutions, pooling and some
#   mathematical operations are JAX's. Keras requires neither package, and the error only names the module.
# Versions: keras 3.15.1, scipy 1.17.1, jax 0.10.2, Python 3.11.
# Why it matters here: it is no light way to run a Keras model where torch is not wanted, such as a small environment
#   that only predicts. Labbook sets KERAS_BACKEND=torch (src/models/components/keras_net.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"

after() {
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "$1"
    echo "after $1: $(KERAS_BACKEND=numpy "$folder/venv/bin/python" "$folder/try.py")"
}

cat > "$folder/try.py" <<'PYTHON'
try:
    import keras
except ModuleNotFoundError as error:
    print(error)
else:
    print("imported,", keras.backend.backend())
PYTHON

seen=$(after keras==3.15.1; after scipy==1.17.1; after jax==0.10.2)
echo "$seen"
[[ $seen == "after keras==3.15.1: No module named 'scipy'
after scipy==1.17.1: No module named 'jax'
after jax==0.10.2: imported, numpy" ]]

# Seen:
# after keras==3.15.1: No module named 'scipy'
# after scipy==1.17.1: No module named 'jax'
# after jax==0.10.2: imported, numpy
