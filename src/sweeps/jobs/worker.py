"""One job in a process of its own: the frozen configuration in, what became of it into the ledger."""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf
from typing_extensions import override

from src.config.resume import continued
from src.errors import Interrupted, RunFailed, UserError
from src.runtime import signals
from src.sweeps.jobs.ledger import Job, about, own_run, read_job, set_current
from src.tracking.locks import RunLock

SWEEP_ID, SWEEP_JOB, SWEEP_RUN = "LABBOOK_SWEEP_ID", "LABBOOK_SWEEP_JOB", "LABBOOK_SWEEP_RUN"
RESUMES = "LABBOOK_SWEEP_RESUMES"  # the run that the job goes on with, for the processes of further devices
ENTRY = "src.commands.job"
ATTEMPT_SECONDS = 60.0  # that an earlier process of the same job may take to end
_PDEATHSIG = 1  # of prctl(2)


class RankFollower(Job):
    """The job as a process of a further device has it: only the first one records what becomes of it."""

    @override
    def update(self, **changes: object) -> None:
        """Leave the ledger as it is."""
        ...


def fork(job: Job, task: Callable[[DictConfig], Any], environment: Mapping[str, str], threads: int) -> NoReturn:
    """Run the job in this forked process, and end it.

    Args:
        environment: what is added to the launcher's.
        threads: of the job, where its configuration does not say.
    """
    os.setsid()  # a Ctrl-C in the terminal is the launcher's, which stops its jobs one by one
    end_with(os.getppid())
    for path, numbers, flags in ((job.output, (1, 2), os.O_WRONLY | os.O_CREAT | os.O_APPEND), (os.devnull, (0,), 0)):
        descriptor = os.open(path, flags, 0o644)
        for number in numbers:
            os.dup2(descriptor, number)
    _leave_notebook()
    os.environ.update(environment)
    code = work(job, task, threads)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)


def _leave_notebook() -> None:
    """Let a job that a notebook has begun print into its file: the kernel's own streams lead to nothing in a fork."""
    if vars(builtins).pop("get_ipython", None) is not None:  # by which rich knows a notebook, too
        sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))


def run_alone(folder: Path, attempt: int, task: Callable[[DictConfig], Any], leads: bool) -> int:
    """Run the job in a process that a cluster's engine has started, or Lightning for a further device.

    It does nothing where the job was begun anew since, or has finished: the engine may start a job that waited for its
    turn when another launcher has long had it done.

    Args:
        attempt: at the job, as counted when it was handed to the engine.
        leads: whether this is the job's first process.

    Returns:
        The exit code.

    Raises:
        RunFailed: another process is this job, and goes on being it.
    """
    job = read_job(folder).read()
    sweep = about(folder.parent.parent)
    os.environ.update({SWEEP_ID: sweep["id"], SWEEP_JOB: str(job.number)})
    if not leads:
        job = RankFollower(**vars(job))
        job.state.run = os.environ.get(RESUMES, job.state.run) or None
        return work(job, task, sweep["threads"])
    lock = RunLock(folder / "process")
    if not lock.take(os.getpid(), ATTEMPT_SECONDS):
        raise RunFailed(f"{folder}: process {lock.holder()} is this job already")
    if job.read().state.attempts != attempt or job.done:
        return 0
    job.update(status="running", error=None, code=0)
    return work(job, task, sweep["threads"])


def work(job: Job, task: Callable[[DictConfig], Any], threads: int) -> int:
    """Make this process the job, and record what becomes of it; returns the exit code.

    Signals may be held back until it can say what ended it.
    """
    set_current(job)
    # what the job starts (a process a device) runs this job, not the sweep
    os.environ[RESUMES] = job.state.run or ""
    sys.modules["__main__"].__spec__ = importlib.util.find_spec(ENTRY)
    sys.argv[1:] = [str(job.folder), str(job.state.attempts)]
    if run := own_run(job.folder.parents[1])[0]:
        os.environ[SWEEP_RUN] = run
    began, code = time.monotonic(), 0
    result: dict[str, Any] = {}
    try:
        signals.accept()
        result["objective"] = task(_configure(job, threads))
        result["status"] = "pruned" if job.state.pruned else "finished"
    except (Interrupted, KeyboardInterrupt) as stop:
        signum = stop.signum if isinstance(stop, Interrupted) else signal.SIGINT
        code, result = 128 + signum, {"status": "killed", "error": f"stopped by {signal.Signals(signum).name}"}
    except BaseException as error:  # noqa: BLE001 (whatever ended the job, the ledger says so)
        code = 2 if isinstance(error, UserError) else 1
        result = {"status": "failed", "error": str(error) or type(error).__name__}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left takes no time, and should not be cut
    job.update(**result, code=code, seconds=time.monotonic() - began)
    return code


def _configure(job: Job, threads: int) -> DictConfig:
    """Read the configuration as Hydra hands it to a job; of one that was cut, to go on with its run."""
    setup_globals()
    config = OmegaConf.load(job.config)
    assert isinstance(config, DictConfig)
    if config.get("threads", threads) is None:
        config.threads = threads
    if job.state.run is not None:
        config.hydra.overrides.task = [f"resume={job.state.run}"]
        config.resume = job.state.run
    plain = continued(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]))
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    return plain


def end_with(parent: int, signum: int = signal.SIGTERM) -> None:
    """Have Linux send this process a signal when its parent ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, signum)
    if os.getppid() != parent:
        raise Interrupted(signal.SIGTERM)
