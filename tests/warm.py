"""What the processes that tests fork have imported already; the server that they are forked from imports this module.

A command then starts in milliseconds, and the writer of its run is forked from a process that has imported MLflow, as
those of a sweep's jobs are. That commands and writers start from nothing as well is for the tests of fresh processes.
"""

from src import tracking
from src.tracking.writer import service

tracking.keep_warm()  # first, while this process has imported nothing that it would share without need
service.load()

import sklearn.datasets  # noqa: E402, F401  (torch comes in while the other process imports MLflow)

import src.analysis.per_class  # noqa: E402
import src.experiment.run  # noqa: E402
import src.models.cnn  # noqa: E402
import src.models.fnn  # noqa: E402, F401
