"""System metrics: MLflow's own measurements of the machine, and the training process's share of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psutil
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

PREFIX = "system/"  # under which MLflow's page looks for them
LEAST_SECONDS = 0.5  # a last sample closer to the one before says nothing


class SystemMetrics(SystemMetricsMonitor):
    """Samples every `interval` seconds and once more at the end, so that a short run has a sample too.

    Args:
        uri: of the tracking store.
        training: pid of the training process.
        emit: takes `(key, value, step)` points.
        first_step: 0, or for a resumed run the step after its last sample.
    """

    def __init__(
        self,
        uri: str,
        run_id: str,
        training: int,
        interval: float,
        first_step: int,
        emit: Callable[[list[tuple[str, float, int]]], None],
    ) -> None:
        # MLflow opens a client it has no use for here: on the run's own store, or it would make another one
        super().__init__(run_id, sampling_interval=interval, samples_before_logging=1, tracking_uri=uri)
        self.sampling_interval = interval
        self._step, self._stopping = first_step, threading.Event()
        self._emit = emit
        self._sampled = time.monotonic()
        self._sampling = threading.Lock()
        psutil.cpu_percent()  # the first call has nothing to compare with
        try:
            self._training = psutil.Process(training)
            self._training.cpu_percent()
        except psutil.Error:
            self._training = None

    def monitor(self) -> None:
        """Sample until `finish`; runs in a thread of its own."""
        psutil.cpu_percent()  # each thread has a first call of its own
        while not self._stopping.wait(self.sampling_interval):
            self.sample()

    def sample(self) -> None:
        """Measure once and emit the points."""
        with self._sampling:
            self.collect_metrics()
            points = self.aggregate_metrics()
            for monitor in self.monitors:
                monitor.clear_metrics()
            if self._training is not None:
                try:
                    with self._training.oneshot():
                        points["process_cpu_percent"] = self._training.cpu_percent()
                        points["process_memory_megabytes"] = round(self._training.memory_info().rss / 1e6, 1)
                except psutil.Error:
                    self._training = None
            self._emit([(f"{PREFIX}{k}", float(v), self._step) for k, v in points.items()])
            self._step += 1
            self._sampled = time.monotonic()

    def finish(self) -> None:
        """Stop, with a last sample where the last one is not of just now."""
        self._stopping.set()
        if time.monotonic() - self._sampled > LEAST_SECONDS or self._step == 0:
            self.sample()
