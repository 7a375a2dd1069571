"""The writer process's ends of its two pipes: messages of the training process in, answers out."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import threading
from typing import Any

from src.tracking.locks import identity, is_alive
from src.tracking.writer.framing import Decoder

POLL_SECONDS = 0.5  # how soon a training process is missed whose pipe somebody else holds open
END = {"op": "end of input"}


class Inbox(threading.Thread):
    """Drains the pipe without limit, so that the training process never waits for the store."""

    def __init__(self, descriptor: int, training: int) -> None:
        super().__init__(daemon=True)
        self._descriptor, self._training = descriptor, identity(training)
        self.messages: queue.SimpleQueue[tuple[int | None, dict[str, Any]]] = queue.SimpleQueue()

    def run(self) -> None:
        """Read until the pipe ends or the training process is gone."""
        decoder = Decoder()
        while True:
            alive = is_alive(self._training)  # asked before the look, so that nothing written later is missed
            ready, _, _ = select.select([self._descriptor], [], [], POLL_SECONDS if alive else 0.0)
            data = os.read(self._descriptor, 1 << 16) if ready else b""
            if data:
                for entry in decoder.feed(data):
                    self.messages.put(entry)
            elif ready or not alive:
                self.messages.put((None, END))
                return


class Outbox:
    """Answers to the training process, which may be gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; nothing happens where nobody reads any more."""
        with self._lock, contextlib.suppress(OSError):
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")

    def beat(self) -> None:
        """Say that the writer is alive, though it has nothing to say."""
        self.send({"busy": True})

    def note(self, text: str) -> None:
        """Send a line for the user."""
        self.send({"note": text})

    def acknowledge(self, sequence: int) -> None:
        """Say that this message and all before it are stored."""
        self.send({"ack": sequence})
