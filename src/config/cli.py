"""The front door of every command: arguments in, one checked configuration a run, true exit codes out.

Exit codes: 0 success; 1 the run failed; 2 input that cannot be used; 130 and 143 stopped by SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import signal
import string
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig

from src.config import recipes
from src.config.composition import checked, explain, plain_arguments
from src.errors import Interrupted, RunFailed, UserError, stop_behind, suggest
from src.runtime import project, trust
from src.runtime.compat.hydra import FLAGS, arguments_parser
from src.runtime.project import version
from src.runtime.signals import sigterm_raises

Task = Callable[[DictConfig], object]


class Command:
    """One command line from its arguments to its exit code.

    Args:
        name: of the command, which reads conf/NAME.yaml.
        task: what it does with its checked configuration.
        plugins: makes further plugins known to Hydra, ahead of a sweep.
        is_job: whether this process runs for a launcher, which is told of an error in one line.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        *,
        plugins: Callable[[], None] = lambda: None,
        is_job: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.task = task
        self.plugins = plugins
        self.is_job = is_job
        self.traceback = False
        self.error: Exception | None = None

    def run(self, arguments: list[str]) -> int:
        """Runs the command and returns its exit code; says on stderr what went wrong, in one line."""
        code = 0
        try:
            with sigterm_raises():
                self.call(arguments)
            sys.stdout.flush()
        except SystemExit as stop:  # Hydra's help and the like end this way
            if isinstance(stop.code, str):
                print(f"error: {stop.code}", file=sys.stderr)
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 128 + signal.SIGPIPE
        except KeyboardInterrupt:
            code = self._stopped(Interrupted(signal.SIGINT))
        except Interrupted as stop:
            code = self._stopped(stop)
        except Exception as error:  # noqa: BLE001 (any error becomes one line and an exit code)
            hidden = stop_behind(error)
            code = self._report(error) if hidden is None else self._stopped(hidden)
        return code

    def call(self, arguments: list[str]) -> None:
        """Runs the command.

        Raises:
            UserError: arguments that do not fit.
            RunFailed: it failed.
        """
        arguments = plain_arguments(arguments, self.name)
        self.traceback = any(_asks_traceback(argument) for argument in arguments)
        if "--version" in arguments:
            print(f"labbook {version()}")
            return
        parsed = _parse(arguments)
        if parsed.help:
            print(_help(self.name))
            return
        # argparse takes a flag between two overrides for their end
        flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
        sys.argv[1:] = flags + [argument for argument in arguments if argument not in flags]
        recipes.register()
        if parsed.shell_completion:
            self._complete()
            return
        if parsed.info:
            self.plugins()
        with checked(self.plugins):
            self._hydra()
        if self.error is not None:
            raise self.error

    def _hydra(self) -> None:
        main = hydra.main(config_path=str(recipes.CONF), config_name=self.name, version_base="1.3")
        # with it set Hydra raises instead of printing its own report and leaving with code 1
        before = os.environ.get("HYDRA_FULL_ERROR")
        os.environ["HYDRA_FULL_ERROR"] = "1"
        try:
            main(self.job)()
        except HydraException as error:
            raise explain(error, self.name) from error
        except (UserError, RunFailed, OSError, MemoryError):
            raise
        except Exception as error:  # all that a task raises is kept by job, so this is Hydra's view of the input
            raise explain(error, self.name) from error
        finally:
            os.environ.pop("HYDRA_FULL_ERROR")
            if before is not None:
                os.environ["HYDRA_FULL_ERROR"] = before

    def _complete(self) -> None:
        """Answers the shell; silent where a half-typed line does not compose."""
        os.environ["COMP_LINE"] = " ".join(plain_arguments(os.environ.get("COMP_LINE", "").split(" "), self.name))
        try:
            self._hydra()
        except Exception as error:
            raise SystemExit(1) from error

    def job(self, config: DictConfig) -> object:
        """Runs one job. Keeps its error, to which Hydra would add lines of its own; a launcher gets that of its job."""
        self.traceback = self.traceback or bool(config.get("traceback"))
        try:
            trust.allow(config.get("trust"))
            return self.task(config)
        except SystemExit as stop:
            error: Exception = RunFailed(f"the run was ended by sys.exit({stop.code!r})")
            if isinstance(stop.__context__, BrokenPipeError):  # rich ends the program where its reader has gone
                error = stop.__context__
        except Exception as raised:
            if hidden := stop_behind(raised):
                raise hidden from raised
            error = raised
        if self.is_job():
            understood = isinstance(_understood(error), UserError | RunFailed)
            self.traceback = self.traceback or not understood  # it goes into a file, and nobody can ask again
            self._report(error)
            raise self._told(error)
        self.error = error
        return None

    def _told(self, error: Exception) -> Exception:
        """Error for a launcher, in one line."""
        understood = _understood(error)
        if isinstance(understood, UserError | RunFailed):
            return type(understood)(_one_line(understood))
        return RunFailed(f"{type(error).__name__}: {_one_line(error)} [{_place(error)}]")

    def _report(self, error: Exception) -> int:
        """Says what went wrong; returns the exit code."""
        error = _understood(error)
        known = isinstance(error, UserError | RunFailed)
        if self.traceback:
            traceback.print_exception(error)
        if known:
            print(f"error: {_one_line(error)}", file=sys.stderr)
        else:
            place = _place(error)
            text = f"{type(error).__name__}: {_one_line(error)}" if str(error) else type(error).__name__
            advice = "" if self.traceback else "; debug=true shows the traceback"
            print(f"error: {text} [{place}{advice}]", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1

    def _stopped(self, stop: Interrupted) -> int:
        if self.traceback:
            traceback.print_exception(sys.exception())
        print(str(stop), file=sys.stderr)
        return 128 + stop.signum


def _understood(error: Exception) -> Exception:
    """The UserError, RunFailed or failed import inside what `instantiate` wraps, else the error itself."""
    inner: BaseException | None = error
    while isinstance(inner, InstantiationException):
        inner = inner.__cause__
        if isinstance(inner, UserError | RunFailed | ImportError):
            return inner
    return error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _place(error: Exception) -> str:
    """file:line where own or the user's code last stood, or that of the raise."""
    libraries = tuple({sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")})
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if not frame.filename.startswith(libraries) and Path(frame.filename).is_file():
            return f"{project.short(frame.filename)}:{frame.lineno}"
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"


def _asks_traceback(argument: str) -> bool:
    key, _, value = argument.lstrip("+").partition("=")
    wanted = key == "debug" and value != "none" and value in recipes.choices()["debug"]
    return wanted or (key == "traceback" and value.lower() == "true")


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Hydra's own flags; a mistake is a UserError."""
    parser, known = arguments_parser(), [flag for flags in FLAGS for flag in flags]

    def refuse(message: str) -> NoReturn:
        stray = message.removeprefix("unrecognized arguments: ").split()
        if len(stray) < len(message.split()) and stray[0].startswith("-"):
            raise UserError(f"unknown flag {stray[0]}{suggest(stray[0], known)}")
        raise UserError(message)

    parser.error = refuse  # type: ignore[method-assign]
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    parsed = parser.parse_args(flags + [argument for argument in arguments if argument not in flags])
    if parsed.experimental_rerun is not None:
        raise UserError("--experimental-rerun is not supported: it loads a pickle")
    return parsed


def _help(name: str) -> str:
    """conf/NAME.txt with the groups and their choices filled in."""
    lines = [f"{group}: {', '.join(names)}" for group, names in recipes.choices().items()]
    text = (recipes.CONF / f"{name}.txt").read_text(encoding="utf-8")
    return string.Template(text).substitute(groups="\n".join(f"  {line}" for line in lines)).rstrip()
