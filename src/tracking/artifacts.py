"""Files of a run: in place for a local store, else in a local folder whose changed files are uploaded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from src.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

UPLOAD_SECONDS = 30.0  # between two looks for changed files
QUIET_SECONDS = 2.0  # a file that changed later than this may still be written


def local_directory(store: Store, artifact_uri: str, run_id: str) -> tuple[Path, bool]:
    """The run's folder on this machine, and whether MLflow reads the same folder."""
    parts = urlsplit(artifact_uri)
    if not store.is_server and parts.scheme in ("", "file"):
        return Path(unquote(parts.path) if parts.scheme else artifact_uri), True
    return store.artifacts / "remote" / run_id / "artifacts", False


class Uploader:
    """Sends the files of a folder to the run's remote artifacts, each again only after it changed."""

    def __init__(self, client: MlflowClient, run_id: str, directory: Path, beat: Callable[[], None]) -> None:
        self._client, self._run_id, self._directory, self._beat = client, run_id, directory, beat
        self._sent: dict[Path, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def finish(self, deadline: float) -> list[str]:
        """Uploads what is left, trying until the deadline; returns what could not be uploaded."""
        self._stop.set()
        while True:
            failed = self._sync(0.0)
            if not failed or time.monotonic() > deadline:
                return failed
            time.sleep(1.0)

    def _watch(self) -> None:
        while not self._stop.wait(UPLOAD_SECONDS):
            self._sync(QUIET_SECONDS)

    def _sync(self, quiet: float) -> list[str]:
        failed = []
        with self._lock:
            for path in sorted(self._directory.rglob("*")):
                relative = path.relative_to(self._directory)
                # Checkpoints and the like are written under another name first, then renamed.
                if not path.is_file() or path.suffix in (".tmp", ".part") or relative.name.startswith("."):
                    continue
                try:
                    state = path.stat()
                    mark = (state.st_size, state.st_mtime_ns)
                    if self._sent.get(relative) == mark or time.time() - state.st_mtime < quiet:
                        continue
                    self._beat()
                    folder = str(relative.parent) if relative.parent.parts else None
                    self._client.log_artifact(self._run_id, str(path), folder)
                    self._sent[relative] = mark
                except FileNotFoundError:
                    continue
                except Exception:  # noqa: BLE001 (tried again later)
                    failed.append(str(relative))
                    if quiet == 0.0:  # the store is away: the caller looks at the clock and begins again
                        return failed
        return failed
