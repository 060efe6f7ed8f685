# SPDX-License-Identifier: Apache-2.0
"""Remember which networks have their metadata served on this host, and with which settings; without Neutron's code."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class Served:
    """What was set up for each network, and which networks are about to be left.

    The caller holds ``lock`` around every call; a network is left under it, too.

    Args:
        lock: the agent's.
        leave: takes down what serves a network, by its name.
        linger: seconds from a network's last port to its being left; a server that comes in between finds all in place.
    """

    def __init__(self, lock: threading.RLock, leave: Callable[[str], None], linger: float) -> None:
        self._lock = lock
        self._leave = leave
        self._linger = linger
        self._done: dict[str, Hashable] = {}
        self._leaving: dict[str, threading.Timer] = {}

    def has(self, network: str, how: Hashable) -> bool:
        """Tell whether a network with ports is served just so already; in any case it is not left now."""
        timer = self._leaving.pop(network, None)
        if timer is not None:
            timer.cancel()
        return self._done.get(network) == how

    def note(self, network: str, how: Hashable) -> None:
        """Remember that a network is served now, and how."""
        self._done[network] = how

    def forget(self) -> None:
        """Take nothing for granted any more: each network is looked at anew."""
        self._done.clear()

    def part(self, network: str) -> None:
        """Leave a network without ports when it has lingered; a second call changes nothing."""
        if network in self._leaving:
            return
        timer = threading.Timer(self._linger, self._end, [network])
        timer.daemon = True  # the agent may end meanwhile; at its start it looks for what was left
        self._leaving[network] = timer
        timer.start()

    def _end(self, network: str) -> None:
        with self._lock:
            if self._leaving.get(network) is not threading.current_thread():
                return  # a port came while we waited for the lock
            del self._leaving[network]
            self._done.pop(network, None)
            self._leave(network)
