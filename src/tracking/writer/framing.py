"""The lines between a training process and its writer: numbered, and so short that each arrives whole or not at all.

A line is `<sequence> <part> <+ or .> <ASCII JSON>`; `.` marks a message's last part. A message that was cut short by a
signal is sent again from part 0, and one that arrives twice is dropped by its number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

LINE = 4096  # bytes; POSIX pipes write so much in one piece
PAYLOAD = LINE - 64


def encode(sequence: int, message: dict[str, Any]) -> list[bytes]:
    text = json.dumps(message, separators=(",", ":"), default=str).encode("ascii")
    if len(text) <= PAYLOAD:
        return [b"%d 0 . %s\n" % (sequence, text)]
    parts = [text[i : i + PAYLOAD] for i in range(0, len(text), PAYLOAD)]
    last = len(parts) - 1
    return [b"%d %d %s %s\n" % (sequence, i, b"." if i == last else b"+", part) for i, part in enumerate(parts)]


class Decoder:
    """Bytes in, `(sequence, message)` out; repeated and broken messages are left out."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts: list[bytes] = []
        self._last = -1

    def feed(self, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
        """Take what was read from the pipe; yields the messages that it completes."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            number, part, more, text = line.split(b" ", 3)
            if part == b"0":
                self._parts = []
            self._parts.append(text)
            if more == b"." and len(self._parts) == int(part) + 1 and int(number) > self._last:
                self._last = int(number)
                yield self._last, json.loads(b"".join(self._parts))
