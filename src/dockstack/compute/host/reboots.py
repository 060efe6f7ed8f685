# SPDX-License-Identifier: Apache-2.0
"""Servers that were rebooted from inside: which are about to be started again, and how fast each came back before."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Reboots:
    """What is remembered of reboots from inside, for as long as this process lives.

    The engine takes such a server for one that has ended. Nova must not: it would stop it, and not have it back.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._waiting: dict[str, object] = {}
        self._in_a_row: dict[str, int] = {}

    @contextmanager
    def waiting(self, server_uuid: str) -> Iterator[Callable[[], bool]]:
        """Have a server count as about to be started while the body runs; yields what tells whether it still is."""
        mark = object()
        with self._lock:
            self._waiting[server_uuid] = mark

        def still_waits() -> bool:
            with self._lock:
                return self._waiting.get(server_uuid) is mark

        try:
            yield still_waits
        finally:
            with self._lock:
                if self._waiting.get(server_uuid) is mark:
                    del self._waiting[server_uuid]

    def call_off(self, server_uuid: str) -> None:
        """Forget a server that is stopped, and so stays off; one of which nothing is known is fine."""
        with self._lock:
            self._waiting.pop(server_uuid, None)
            self._in_a_row.pop(server_uuid, None)

    def count(self, server_uuid: str, *, early: bool) -> int:
        """Count one more reboot; return how many that were as early came just before it."""
        with self._lock:
            before = self._in_a_row.pop(server_uuid, 0)
            if early:
                self._in_a_row[server_uuid] = before + 1
            return before

    def in_a_row(self, server_uuid: str) -> int:
        """Say how many reboots came in a row, each soon after a start."""
        with self._lock:
            return self._in_a_row.get(server_uuid, 0)

    def __contains__(self, server_uuid: str) -> bool:
        with self._lock:
            return server_uuid in self._waiting
