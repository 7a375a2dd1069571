"""What the processes that tests fork have imported already; the server that they are forked from imports this module.

A command then starts in milliseconds: all of src is imported, with what Hydra and matplotlib keep after their first
use. The writer of its run is forked from a process that has imported MLflow, as those of a sweep's jobs are. That
commands and writers start from nothing as well is for the tests of fresh processes.
"""

import importlib
import pkgutil

import src
from src import tracking
from src.tracking.writer import service

tracking.keep_warm()  # first, while this process has imported nothing that it would share without need
service.load()

import gc  # noqa: E402
import io  # noqa: E402

import sklearn.datasets  # noqa: E402, F401  (src imports it where a dataset is asked for)

from src.config import compose  # noqa: E402
from src.plots.base import new_axes  # noqa: E402

for package in pkgutil.iter_modules(src.__path__, "src."):
    if package.ispkg:
        for module in pkgutil.walk_packages(importlib.import_module(package.name).__path__, f"{package.name}."):
            importlib.import_module(module.name)

compose(["model=fnn", "data=iris"])
figure, axes = new_axes()
axes.set_title("fonts")
figure.savefig(io.BytesIO())

gc.collect()
gc.freeze()  # what all commands share is never searched for garbage, which would copy it
