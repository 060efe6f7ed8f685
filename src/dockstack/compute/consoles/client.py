# SPDX-License-Identifier: Apache-2.0
"""One viewer's connection to a console; its output queue is bounded, however slowly the viewer reads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dockstack.compute.consoles.text import ASK_SIZE, SizeReports, notice

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from dockstack.compute.engine import Size

WAITING_BYTES = 256 * 1024
RATE = 512 * 1024  # bytes a second, more than anybody reads: what a flood makes Nova's proxy keep for a slow browser
BURST = 1024 * 1024
_CHUNK = 16 * 1024


class RateLimit:
    """A token bucket: how many bytes may be sent now."""

    def __init__(self, rate: int, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Start full."""
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._at = float(burst), clock()

    def available(self) -> int:
        """Return how much may be sent."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return int(self._left)

    def spend(self, size: int) -> None:
        """Take note of what was sent."""
        self._left -= size


class Client:
    """One connection of Nova's proxy; no call waits."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over an admitted connection."""
        connection.setblocking(False)
        self.gone = False
        self.size: Size | None = None
        self._connection = connection
        self._reports = SizeReports()
        self._limit = RateLimit(RATE, BURST)
        self._waiting = bytearray(ASK_SIZE)

    def fileno(self) -> int:
        """Return what a selector watches."""
        return self._connection.fileno()

    def show(self, data: bytes) -> None:
        """Keep for sending; one who is far behind misses what lies between."""
        self._waiting += data
        if len(self._waiting) > WAITING_BYTES:
            kept = bytes(self._waiting[-WAITING_BYTES // 4 :])
            self._waiting[:] = notice("Too much output; some of it is not shown") + kept[kept.find(b"\n") + 1 :]

    @property
    def eager(self) -> bool:
        """Whether there is something to send that may be sent now."""
        return bool(self._waiting) and self._limit.available() > 0

    def send(self) -> None:
        """Send what fits now."""
        try:
            sent = self._connection.send(self._waiting[: min(_CHUNK, max(0, self._limit.available()))])
        except BlockingIOError:
            return
        except OSError:
            self.gone = True
            return
        self._limit.spend(sent)
        del self._waiting[:sent]

    def read(self) -> bytes:
        """Return what was typed; ``gone`` says that its window is closed, ``size`` how large that is."""
        try:
            data = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        self.gone = self.gone or not data
        typed, size = self._reports.feed(data)
        self.size = size or self.size
        return typed

    def close(self) -> None:
        """Send what can still be sent at once, and hang up."""
        if self._waiting and not self.gone:
            self.send()
        self._connection.close()
