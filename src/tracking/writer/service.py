"""The writer process of one run: it stores what the training process sends, and is the run's guardian.

It ignores SIGINT and SIGTERM and lives in a session of its own. When the training process dies without a word, it
stores all that was in the pipe, marks the run KILLED, and leaves: a status is never RUNNING for ever.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from src.tracking import store
from src.tracking.writer.pipes import Inbox, Outbox

if TYPE_CHECKING:
    from src.tracking.writer.life import Writer


def settle() -> None:
    """Set a process up to write: signals are not meant for it, and MLflow is quiet."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the backlog tries again by itself
    for name in ("MLFLOW_RUN_ID", "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"):
        os.environ.pop(name, None)


def load() -> type[Writer]:
    """Imports MLflow and what writes to it: the package's lazy boundary, since MLflow reads the settings of `quiet`."""
    store.quiet()
    import mlflow  # noqa: PLC0415 (not before it is needed: MLflow takes two seconds)

    if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401, PLC0415 (half a second, not for a server)
    from src.tracking.writer.life import Writer  # noqa: PLC0415 (not before it is needed: MLflow takes two seconds)

    return Writer


def serve(source: int, answers: int, training: int) -> NoReturn:
    """Writes one run, to its end and that of this process.

    Args:
        source, answers: descriptors of the pipes from and to the training process, which has this id.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # no library may print among the answers
    inbox, outbox = Inbox(source, training), Outbox(answers)
    inbox.start()
    writer = None
    try:
        # two seconds: before the run is known, while the training process imports torch
        writer = load()(inbox, outbox, training)
        writer.run()
    except Exception as error:  # noqa: BLE001 (the last word of the process)
        traceback.print_exc()
        if writer is not None and not writer.created:  # later, leaving without a word brings another writer
            outbox.send({"error": writer.explain(error), "kind": "failed"})
    finally:
        sys.stderr.flush()
        os._exit(0)  # MLflow's exit handlers have nothing to do here, and some of its threads never end


def main() -> None:
    settle()
    serve(os.dup(0), os.dup(1), training=os.getppid())


if __name__ == "__main__":
    main()
