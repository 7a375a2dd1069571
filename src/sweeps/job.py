"""One job in a process of its own: the frozen configuration in, what became of it into the ledger."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf

from src.errors import Interrupted, UserError
from src.sweeps.ledger import Job, become, own_run

SWEEP_ID, SWEEP_JOB, SWEEP_RUN = "LABBOOK_SWEEP_ID", "LABBOOK_SWEEP_JOB", "LABBOOK_SWEEP_RUN"
_PDEATHSIG = 1  # of prctl(2)


def fork(job: Job, task: Callable[[DictConfig], Any], environment: Mapping[str, str], threads: int) -> NoReturn:
    """What a forked process does, to its end.

    Args:
        environment: what is added to the launcher's.
        threads: of the job, where its configuration does not say.
    """
    os.setsid()  # a Ctrl-C in the terminal is the launcher's, which stops its jobs one by one
    _end_with(os.getppid())
    for path, numbers, flags in ((job.output, (1, 2), os.O_WRONLY | os.O_CREAT | os.O_APPEND), (os.devnull, (0,), 0)):
        descriptor = os.open(path, flags, 0o644)
        for number in numbers:
            os.dup2(descriptor, number)
    os.environ.update(environment)
    code = work(job, task, threads)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)


def work(job: Job, task: Callable[[DictConfig], Any], threads: int) -> int:
    """Makes this process the job, and notes what becomes of it; returns the exit code."""
    become(job)
    if run := own_run(job.folder.parents[1])[0]:
        os.environ[SWEEP_RUN] = run
    began, code = time.monotonic(), 0
    result: dict[str, Any] = {"status": "finished"}
    try:
        result["objective"] = task(_configured(job, threads))
    except (Interrupted, KeyboardInterrupt) as stop:
        signum = stop.signum if isinstance(stop, Interrupted) else signal.SIGINT
        code, result = 128 + signum, {"status": "killed", "error": f"stopped by {signal.Signals(signum).name}"}
    except BaseException as error:
        code = 2 if isinstance(error, UserError) else 1
        result = {"status": "failed", "error": str(error) or type(error).__name__}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left takes no time, and should not be cut
    job.note(**result, code=code, seconds=time.monotonic() - began)
    return code


def _configured(job: Job, threads: int) -> DictConfig:
    """The configuration as Hydra hands it to a job; of one that was cut, to go on with its run."""
    setup_globals()
    config = OmegaConf.load(job.config)
    assert isinstance(config, DictConfig)
    if config.get("threads", threads) is None:
        config.threads = threads
    if job.state.run is not None:
        config.hydra.overrides.task = [f"resume={job.state.run}"]
        config.resume = job.state.run
    plain = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    HydraConfig.instance().cfg = config
    return plain


def _end_with(parent: int) -> None:
    """Has Linux stop this process when the launcher ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise Interrupted(signal.SIGTERM)
