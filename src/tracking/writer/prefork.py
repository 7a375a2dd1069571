"""One process that has imported MLflow and forks a writer for each run that asks, which saves a second or two a run.

The launcher of a sweep starts it; the jobs that are forked from the launcher share its socket. Where it is gone or was
never started, writers start as usual.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import time
from typing import IO

from src.tracking.locks import identity, is_alive
from src.tracking.writer import service

POLL_SECONDS = 0.5  # how soon a launcher is missed
LARGEST = 1 << 20  # bytes of a request

_requests: socket.socket | None = None
_server: subprocess.Popen | None = None
_known = ""  # which process it is


def start(command: list[str], **options: object) -> None:
    """Start the process, unless it runs; of a process that was forked from its launcher too.

    Args:
        command: that runs this module; `options` are further ones of Popen.
    """
    global _requests, _server, _known
    if is_alive(_known):
        return
    if _requests is not None:
        _requests.close()  # of a server that is gone
    # datagrams: many processes write into the one socket, and each request arrives whole
    _requests, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    _requests.setblocking(False)
    with other:
        _server = subprocess.Popen(command, stdin=other, stdout=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    _known = identity(_server.pid)


def server() -> int | None:
    """Process id of the server."""
    return None if _server is None else _server.pid


class Forked:
    """A writer process that was asked for, as `subprocess.Popen` would show it.

    Attributes:
        pid: known once the writer has said it; 0 before.
    """

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        self.stdin, self.stdout = stdin, stdout
        self.pid = 0
        self._known = ""

    def introduce(self, pid: int) -> None:
        """Take note of its process id."""
        self.pid, self._known = pid, identity(pid)

    def wait(self, seconds: float | None = None) -> None:
        """Waits until it has ended; raises TimeoutExpired after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while is_alive(self._known):
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("writer", seconds or 0.0)
            time.sleep(0.01)

    def kill(self) -> None:
        """End the writer at once."""
        if is_alive(self._known):
            os.kill(self.pid, signal.SIGKILL)


def writer() -> Forked | None:
    """Asks for a writer of this process's run; None where nobody would answer."""
    if _requests is None:
        return None
    (read, write), (listen, answer) = os.pipe(), os.pipe()
    request = json.dumps({"training": os.getpid(), "environment": dict(os.environ)}).encode()
    try:
        socket.send_fds(_requests, [request], [read, answer])
    except OSError:
        os.close(write)
        os.close(listen)
        return None
    finally:
        os.close(read)
        os.close(answer)
    return Forked(os.fdopen(write, "wb", 0), os.fdopen(listen, "rb", 0))


def main() -> None:
    service.settle()
    launcher, requests = os.getppid(), socket.socket(fileno=0)
    service.load()
    gc.freeze()  # what all writers share is never searched for garbage, which would copy it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a writer ended
    while os.getppid() == launcher:
        if not select.select([requests], [], [], POLL_SECONDS)[0]:
            continue
        text, descriptors, _, _ = socket.recv_fds(requests, LARGEST, 2)
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    else:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    requests.close()
    asked = json.loads(text)
    os.environ.clear()
    os.environ.update(asked["environment"])
    service.settle()
    os.write(descriptors[1], json.dumps({"pid": os.getpid()}).encode() + b"\n")
    source, answers = descriptors
    service.serve(source, answers, training=asked["training"])


if __name__ == "__main__":
    main()
