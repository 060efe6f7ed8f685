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

    The engine takes such a server for one that has ended. Nova must not: it would stop the server, and not have it back.
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
        """Have a server stay off, as one that is stopped; one that does not wait is fine."""
        with self._lock:
            self._waiting.pop(server_uuid, None)

    def __contains__(self, server_uuid: str) -> bool:
        with self._lock:
            return server_uuid in self._waiting
