"""Runs the command line in a process of its own, forked from a server that imported torch and MLflow once.

The process can be waited for (`command`), or watched, signalled and really killed while it runs (`Started`); it can
also run a program of its own (`program`).
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.warm"])


@dataclass
class Result:
    code: int  # as a shell sees it; -9 where the process was killed
    out: str
    err: str


def command(
    arguments: list[str],
    env: dict[str, str],
    cwd: Path,
    kill: tuple[Any, ...] | None = None,
    files: str = "",
    timeout: float = 300,  # seconds
    entry: str = "train",
    code: Path | None = None,
) -> Result:
    """`python -m src.ENTRY ARGUMENTS` in `cwd`; `kill` is (place, count[, signum]): a signal at that passing.

    `code` is the root of another copy of the project, whose `src` is imported instead of this one's.
    """
    out, err = (cwd / f".{name}-{os.getpid()}{files}" for name in ("out", "err"))
    process = CONTEXT.Process(target=_to_files, args=(str(out), str(err), entry, arguments, env, str(cwd), kill, code))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"{arguments} took over {timeout} s; stderr: {err.read_text()[-2000:]}")
    return Result(process.exitcode, out.read_text(), err.read_text())


def limit_memory(more: int) -> None:
    """Lets this process (of Linux) allocate so many MiB beyond what it has; what would take more fails."""
    import resource

    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limit = (int(status["VmData"].split()[0]) << 10) + (more << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


class Started:
    """A command that runs; what is used of `subprocess.Popen`, of a process that was forked by another one.

    Args:
        source: text of a program that takes the command's place; `program` is the short way to it.
    """

    def __init__(
        self,
        arguments: list[str],
        env: dict[str, str],
        cwd: Path,
        entry: str = "train",
        source: str | None = None,
    ) -> None:
        (out, out_end), (err, err_end) = CONTEXT.Pipe(duplex=False), CONTEXT.Pipe(duplex=False)
        run = (_run, entry, arguments) if source is None else (_run_program, source, arguments)
        self._process = CONTEXT.Process(target=_to_pipes, args=(out_end, err_end, *run, env, str(cwd)))
        self._process.start()
        self.pid: int = self._process.pid
        for end in (out_end, err_end):
            end.close()
        self._files: list[IO[str]] = [os.fdopen(os.dup(pipe.fileno()), errors="replace") for pipe in (out, err)]
        self._texts = ["", ""]
        self._lines: list[queue.Queue[str]] = [queue.Queue(), queue.Queue()]
        # read all the time: a pipe that nobody reads stops the process once it is full
        self._readers = [threading.Thread(target=self._read, args=(number,), daemon=True) for number in range(2)]
        for reader in self._readers:
            reader.start()

    def _read(self, number: int) -> None:
        with self._files[number] as file:
            for line in file:
                self._lines[number].put(line)
        self._lines[number].put("")  # no further one

    def readline(self) -> str:
        """The next line of stdout, which `communicate` does not say again; empty once there is none."""
        line = self._lines[0].get()
        if not line:
            self._lines[0].put(line)
        return line

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Everything that it and the processes which it started say, once all of them have ended."""
        self.wait(timeout)
        for number, reader in enumerate(self._readers):
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
            self._texts[number] += "".join(iter(self._lines[number].get, ""))
            self._lines[number].put("")
        return self._texts[0], self._texts[1]

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def program(source: str, *arguments: str, env: dict[str, str] | None = None, cwd: Path) -> Started:
    """`python -c SOURCE ARGUMENTS` in `cwd` and in this environment (None: that of the test), with src imported."""
    return Started(list(arguments), dict(os.environ) if env is None else env, cwd, source=source)


def _to_files(out: str, err: str, *command: Any) -> None:
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    _run(*command)


def _to_pipes(out, err, run: Callable[..., None], *command: Any) -> None:
    os.setsid()  # a group of its own, so that a Ctrl-C of the test is for it alone
    for pipe, number in ((out, 1), (err, 2)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    run(*command)


def _run_program(source: str, arguments: list[str], env: dict[str, str], cwd: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(source, "<string>", "exec"), {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()  # which a forked process leaves out


def _run(
    entry: str,
    arguments: list[str],
    env: dict[str, str],
    cwd: str,
    kill: tuple[Any, ...] | None = None,
    code: Path | None = None,
) -> None:
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    if code is not None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "src"]:
            del sys.modules[name]
        sys.path.insert(0, str(code))
        sys.dont_write_bytecode = False  # further commands with this copy need not compile it again
    sys.argv = [f"labbook-{entry}", *arguments]
    sys.modules["__main__"].__spec__ = importlib.util.find_spec(f"src.{entry}")  # by which Lightning starts more of it
    if kill is not None:
        _arm(*kill)
    importlib.import_module(f"src.{entry}").main()


def _arm(place: str, count: int, signum: int = signal.SIGKILL) -> None:
    """Makes the process send itself a signal, without any warning to it, at the count-th passing of a place."""
    import pytorch_lightning as pl

    import src.training.callbacks.checkpoint as checkpoint
    from src.experiment import artifacts
    from src.tracking.run import Run
    from src.training.callbacks.progress import ProgressBar
    from src.training.callbacks.recording import Recorder

    places = {
        "start": (Run, "_wait"),  # the store is being opened
        "test": (pl.Trainer, "test"),
        "report": (artifacts, "report"),
        "step": (Recorder, "on_train_batch_end"),  # before anything else happens at the end of a step
        "step_end": (ProgressBar, "on_train_batch_end"),
        "validation": (checkpoint.Checkpoint, "on_validation_end"),
        "epoch": (checkpoint.Checkpoint, "on_train_epoch_end"),
        "rename": (os, "replace"),  # a checkpoint is written and not yet in its place
        "save": (checkpoint.Checkpoint, "save"),
    }
    owner, name = places[place]
    original = getattr(owner, name)
    passed = 0

    def deadly(*args, **kwargs):
        nonlocal passed
        passed += 1
        if passed == count:
            os.kill(os.getpid(), signum)
        return original(*args, **kwargs)

    setattr(owner, name, deadly)
