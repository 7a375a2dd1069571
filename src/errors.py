"""The three ways a run ends early, as exceptions; the front door turns each into its exit code."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """Input that cannot be used: one line that says what is wrong, where, and what would be right. Exit code 2."""


class RunFailed(Exception):
    """The run itself went wrong in a way that is understood (a diverged loss, a store that stopped). Exit code 1."""


class Interrupted(BaseException):
    """A signal asked the process to stop. Exit code 128 + signum: 130 for SIGINT, 143 for SIGTERM.

    A BaseException, as KeyboardInterrupt is, so that no `except Exception` on the way out swallows it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}"


def stop_behind(error: BaseException) -> Interrupted | None:
    """The signal that an error hides: a library that is cut in the middle may fail on its way out, and raise that.

    OmegaConf 2.3.1 does, with UnboundLocalError or AttributeError, where it is about to set a key.
    """
    for one in chain(error):
        if isinstance(one, Interrupted | KeyboardInterrupt):
            return one if isinstance(one, Interrupted) else Interrupted(signal.SIGINT)
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and so on; each once, as errors that are raised again may lead back to themselves."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        yield one
        seen.add(id(one))
        one = one.__cause__ or one.__context__


def suggest(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` where a known name is near, else the names themselves: the tail of an error line."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f" (did you mean {near[0]}?)"
    return f" (known: {', '.join(known)})" if known else ""
