"""`make ui`: MLflow's own UI on the default store, lean, with the link that opens on the runs.

MLflow's default is four workers and a job queue (14 processes, 3 GB); one person needs one worker.
"""

from __future__ import annotations

import os
import sys

from src.errors import UserError
from src.tracking.store import connect, experiment_id, resolve
from src.tracking.ui_views import runs_page


def main() -> None:
    port = os.environ.get("PORT", "5000")
    try:
        store = resolve()
        if store.is_server:
            raise UserError(f"the tracking store is a server with a UI of its own: open {store.shown}")
        runs = experiment_id(store, connect(store), os.environ.get("MLFLOW_EXPERIMENT_NAME", "labbook"))
    except UserError as error:
        sys.exit(f"error: {error}")
    print(f"runs:   http://127.0.0.1:{port}/{runs_page(runs)}")
    print(f"charts: http://127.0.0.1:{port}/{runs_page(runs, charts=True)}", flush=True)
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.chdir(store.root)
    command = ["server", "--workers", "1", "--port", port, "--backend-store-uri", store.uri]
    artifacts = ["--default-artifact-root", str(store.artifacts)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *command, *artifacts])


if __name__ == "__main__":
    main()
