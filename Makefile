# make train: set up and run the main job on embedded data; make test: set up and run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup train test slow bench tensorflow ui lock

train: $(READY)
	$(BIN)/python -m src.train model=cnn

# each worker takes a stretch of neighbouring tests, which share fixtures, and helps out once it has done its own
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" $(ARGS)

slow: $(READY)
	$(BIN)/python -m pytest -m slow $(ARGS)

# alone on the machine: every figure is a ratio, but a busy core disturbs it all the same
bench: $(VENV)/.bench
	set -e; for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script; done

# one worker and no job queue: half a gigabyte instead of three
ui: $(READY)
	$(BIN)/python -m src.tracking.ui

setup: $(READY)

# Hashes are checked for everything; the project itself is linked in without any build isolation or download.
$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m src.tracking.store
	touch $@

# the peers of the extra `bench`, in an environment of their own: Keras starts slower beside packages that it looks at
$(VENV)/.bench: $(READY)
	$(PYTHON) -m venv $(VENV)/bench
	$(VENV)/bench/bin/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python -c \
		"import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['bench'])")
	touch $@

# trained models in TensorFlow and LiteRT, beside their own predictions; 4 GB
tensorflow: $(VENV)/.tensorflow
	$(BIN)/python benchmarks/to_tensorflow.py

# onnx2tf wants other versions than we do, and an older TensorFlow than today's
$(VENV)/.tensorflow: $(READY)
	$(PYTHON) -m venv $(VENV)/onnx2tf
	$(VENV)/onnx2tf/bin/python -m pip install --quiet --disable-pip-version-check onnx2tf==1.29.24
	$(PYTHON) -m venv $(VENV)/tensorflow
	$(VENV)/tensorflow/bin/python -m pip install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0
	touch $@

# needs uv; torch and mlflow are held at the versions in pyproject's [tool.uv]
lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--extra test --extra explain --extra export --extra litert --extra search --extra ray --extra slurm --extra rl \
		--extra hf --extra timm --extra keras --extra onnx --extra build --extra check \
		--no-header --no-annotate --no-emit-index-url -o requirements.lock
