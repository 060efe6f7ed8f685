# SPDX-License-Identifier: Apache-2.0
"""Which of the host's processors a server runs on.

A server with two vCPUs runs on two processors, so that whatever it asks, /proc/cpuinfo, sysconf(3) or the scheduler, it
counts two. Those that are its own are Nova's choice; the others are the least taken of the shared ones.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from dockstack.compute.cpulist import parse

if TYPE_CHECKING:
    from collections.abc import Collection

    from dockstack.compute.model import Limits


class Processors:
    """The shared processors of a host and who runs on which; remembered from the engine after a restart."""

    def __init__(self, shared: Collection[int], dedicated: Collection[int] = (), *, spread: bool = True) -> None:
        """Start with none taken.

        Args:
            shared: the processors of servers without dedicated ones.
            dedicated: those that Nova gives to one server alone.
            spread: give each server as many as it has vCPUs; otherwise each may run on all, up to its quota.
        """
        self.shared = frozenset(shared)
        self.dedicated = frozenset(dedicated)
        self._spread = spread
        self._lock = threading.Lock()
        self._taken: dict[str, frozenset[int]] = {}

    def place(self, server_uuid: str, limits: Limits, current: str = "") -> Limits:
        """Return the limits with the server's processors; again is the same.

        Args:
            server_uuid: which.
            limits: what its flavor allows, and the processors that are its own.
            current: where it is now, as the engine writes it; kept if it still fits.
        """
        count = min(limits.vcpus - len(limits.pinned), len(self.shared))
        with self._lock:
            known = self._taken.get(server_uuid) or frozenset(parse(current)) - set(limits.pinned)
            fits = len(known) == count and known <= self.shared
            chosen = known if fits and self._spread else self._choose(count, server_uuid)
            self._taken[server_uuid] = chosen
        return replace(limits, cpus=tuple(sorted({*chosen, *limits.pinned})))

    def remember(self, server_uuid: str, current: str) -> None:
        """Count a server that was placed before this process started."""
        with self._lock:
            self._taken.setdefault(server_uuid, frozenset(parse(current)) & self.shared)

    def __contains__(self, server_uuid: str) -> bool:
        with self._lock:
            return server_uuid in self._taken

    def release(self, server_uuid: str) -> None:
        """Forget a server; an unknown one is fine."""
        with self._lock:
            self._taken.pop(server_uuid, None)

    def _choose(self, count: int, server_uuid: str) -> frozenset[int]:
        if count <= 0 or not self._spread:
            return self.shared if count > 0 else frozenset()
        others = (taken for uuid, taken in self._taken.items() if uuid != server_uuid)
        # One that runs everywhere weighs on all alike, and so decides nothing.
        load = Counter(cpu for taken in others if taken != self.shared for cpu in taken)
        return frozenset(sorted(self.shared, key=lambda cpu: (load[cpu], cpu))[:count])
