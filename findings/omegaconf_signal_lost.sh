#!/usr/bin/env bash
# A Ctrl-C that leaves OmegaConf as another error.
#
# One would expect: an exception that a signal handler raises (KeyboardInterrupt, or one's own for SIGTERM) comes out of
#   a library's call as it is, since it is no `Exception` and no `except Exception` takes it.
# What happens: where OmegaConf 2.3.1 sets a key to a node, it notes the node's old key in the first line of a `try` and
#   puts it back in `finally`. A signal before that line has run makes the `finally` fail: UnboundLocalError comes out,
#   and KeyboardInterrupt is only in its chain of contexts. Code that catches Exception around the composition of a configuration
#   (Hydra 1.3.8 does, in `get_mode`) takes it for bad input and goes on: the signal is lost.
# Versions: omegaconf 2.3.1, Python 3.11.
# Why it matters here: a sweep of 500 jobs that was asked to stop while it composed went on, or left with the exit code
#   of a wrong configuration. src/errors.py `stop_behind` looks for the signal behind an error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check omegaconf==2.3.1

cat > "$folder/try.py" <<'PYTHON'
import inspect
import signal
import sys

from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

lines, first = inspect.getsourcelines(BaseContainer._set_item_impl)
place = first + next(number for number, line in enumerate(lines) if line.strip() == "old = value._key()")


def arrive(frame, event, argument):
    """A Ctrl-C just before that line."""
    if event == "line" and frame.f_code.co_name == "_set_item_impl" and frame.f_lineno == place:
        sys.settrace(None)
        signal.raise_signal(signal.SIGINT)
    return arrive


config, node = OmegaConf.create({"a": 1}), OmegaConf.create({"b": 2})
sys.settrace(arrive)
try:
    config.a = node
except KeyboardInterrupt:
    print("KeyboardInterrupt")
except Exception as error:
    behind = error
    while behind.__cause__ or behind.__context__:
        behind = behind.__cause__ or behind.__context__
    print(type(error).__name__, "in place of", type(behind).__name__)
PYTHON

seen=$("$folder/venv/bin/python" "$folder/try.py")
echo "$seen"
[[ $seen == "UnboundLocalError in place of KeyboardInterrupt" ]]

# Seen:
# UnboundLocalError in place of KeyboardInterrupt
