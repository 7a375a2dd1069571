"""Files that a dataset needs: found and verified, or downloaded once; without a network, one line says what to do."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from torchvision.datasets.utils import calculate_md5, download_url

from src.errors import UserError
from src.runtime.format import first_line

PROBE_SECONDS = 6.0  # to find a server that answers
STALL_SECONDS = 10.0  # without a single byte, in a running download


@dataclass(frozen=True)
class RemoteFile:
    """One file of a dataset. `urls` are mirrors of it, the preferred one first."""

    name: str
    md5: str
    urls: tuple[str, ...]


def verified(files: Sequence[RemoteFile], folder: Path, dataset: str) -> list[Path]:
    """Paths of the files in `folder`, each with the right checksum; downloads those that are missing.

    Several processes may ask at once: one downloads, the others wait for it.

    Raises:
        UserError: a file is damaged, or missing and no server can be reached or the folder cannot be written.
    """
    for file in files:
        _check(file, folder, dataset)
    if _missing(files, folder):
        with _locked(folder, _by_hand(files, folder, dataset)):
            missing = _missing(files, folder)
            if missing:
                _download(missing, folder, dataset)
    return [folder / file.name for file in files]


def _check(file: RemoteFile, folder: Path, dataset: str) -> None:
    path = folder / file.name
    try:
        intact = not path.exists() or not file.md5 or calculate_md5(path) == file.md5
    except OSError as error:
        raise UserError(f"data={dataset}: {path} cannot be read ({error.strerror})") from None
    if not intact:
        advice = "delete it, and it is downloaded again"
        raise UserError(f"data={dataset}: {path} is damaged (its MD5 is not {file.md5}): {advice}")


def _missing(files: Sequence[RemoteFile], folder: Path) -> list[RemoteFile]:
    return [file for file in files if not (folder / file.name).exists()]


def _by_hand(files: Sequence[RemoteFile], folder: Path, dataset: str) -> str:
    missing = _missing(files, folder)
    names = ", ".join(file.name for file in missing)
    return f"put {names} into {folder} by hand, or point data.root to a copy; source: {missing[0].urls[0]}"


@contextmanager
def _locked(folder: Path, by_hand: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".download.lock")
        lock.acquire()
    except OSError as error:
        raise UserError(f"cannot download into {folder} ({error.strerror}): {by_hand}") from None
    try:
        yield
    finally:
        lock.release()


def _download(files: Sequence[RemoteFile], folder: Path, dataset: str) -> None:
    reachable = _reachable([file.urls for file in files])
    for file in files:
        failures = []
        for url in (url for url in file.urls if _host(url) in reachable):
            try:
                _fetch(url, folder, file)
                break
            except (OSError, RuntimeError, urllib.error.URLError) as error:
                failures.append(f"{_host(url)}: {first_line(error, str(getattr(error, 'reason', error)))}")
        else:
            why = "; ".join(failures) or "no network, or the server does not answer"
            raise UserError(f"data={dataset} cannot be downloaded ({why}): {_by_hand(files, folder, dataset)}")


def _fetch(url: str, folder: Path, file: RemoteFile) -> None:
    """Downloads under a temporary name, so that a file with the final name is whole."""
    partial = folder / f"{file.name}.part"
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        download_url(url, folder, filename=partial.name, md5=file.md5 or None)
        os.replace(partial, folder / file.name)
    finally:
        socket.setdefaulttimeout(before)
        partial.unlink(missing_ok=True)


def _reachable(mirrors: Sequence[Sequence[str]]) -> set[str]:
    """Hosts that answer within a few seconds, asked all at once, each in a thread: a name lookup has no timeout."""
    urls = {_host(url): url for group in mirrors for url in group}
    answers: dict[str, bool] = {}

    def ask(host: str, url: str) -> None:
        request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "pytorch/vision"})
        try:
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
            answers[host] = True
        except urllib.error.HTTPError:
            answers[host] = True  # a server that refuses one file is there; the download itself will say why
        except (OSError, ValueError):
            answers[host] = False

    for host, url in urls.items():
        threading.Thread(target=ask, args=(host, url), daemon=True).start()
    deadline = time.monotonic() + PROBE_SECONDS
    while time.monotonic() < deadline and len(answers) < len(urls):
        first = next(iter(urls))
        if answers.get(first):
            break  # the preferred mirror is there: no need to wait for a slow one
        time.sleep(0.02)
    return {host for host, there in dict(answers).items() if there}


def _host(url: str) -> str:
    return url.split("/")[2]
