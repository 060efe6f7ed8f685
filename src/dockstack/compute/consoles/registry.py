# SPDX-License-Identifier: Apache-2.0
"""The open consoles of a host: one for each server, shared by its serial and VNC viewers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from dockstack.compute.consoles.console import Console


class Registry:
    """Finds or makes a server's console."""

    def __init__(self, make: Callable[[str], Console]) -> None:
        """Start with none.

        Args:
            make: makes the console of a server.
        """
        self._make = make
        self._lock = threading.Lock()
        self._consoles: dict[str, Console] = {}

    def join(self, server_uuid: str, connection: socket.socket) -> None:
        """Connect one more viewer to a server's console; make the console if there is none."""
        with self._lock:
            console = self._consoles.get(server_uuid)
            if console is not None and console.join(connection):
                return
            self._consoles = {uuid: each for uuid, each in self._consoles.items() if each.open}
            console = self._consoles[server_uuid] = self._make(server_uuid)
            console.join(connection)

    def close(self) -> None:
        """End all consoles."""
        with self._lock:
            consoles, self._consoles = list(self._consoles.values()), {}
        for console in consoles:
            console.end()
        for console in consoles:
            console.wait()
