# SPDX-License-Identifier: Apache-2.0
"""Find what a kill is meant for, and kill it: only processes that the records and the engines say are this cloud's."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from dockstack.chaos import machine
from dockstack.chaos.model import Victim
from dockstack.deploy.node import processes
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.wanted import hosts
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dockstack.chaos.machine import Place
    from dockstack.deploy.supervision.backends.model import Backend
    from dockstack.deploy.supervision.services import Service

LEAVES_CHILDREN = "process"  # an engine's: its shims live on
ROUND = 0.1


class Absent(DockstackError):  # noqa: N818 - said of a victim
    """There is nothing to kill now."""


class Hunter:
    """Kills processes of a cloud's services on this machine."""

    def __init__(self, services: Iterable[Service], backend: Backend, places: tuple[Place, ...]) -> None:
        """Take the services that the records know, and who supervises them."""
        self._services = {service.name: service for service in services}
        self._backend = backend
        self._places = places

    def strike_service(self, victim: Victim, number: int) -> dict[int, str]:
        """Kill a service with all its processes, or an engine without its containers; return names by pid.

        Args:
            victim: which service.
            number: on which host.

        Raises:
            Absent: the cloud has none, it is not ours, or it does not run now.
        """
        service = self._find(victim, number)
        main = self._backend.look(service).pid
        if main is None:
            raise Absent(f"{service.name} does not run.")
        everything = processes.snapshot()
        return strike({main} if service.kill_mode == LEAVES_CHILDREN else processes.tree(main, everything))

    def strike_containerd(self, number: int) -> dict[int, str]:
        """Kill the process through which an engine talks to its containers.

        Raises:
            Absent: the engine has none of its own.
        """
        main = self._backend.look(self._find(Victim.ENGINE, number)).pid
        everything = processes.snapshot()
        own = processes.tree(main, everything) if main else set()
        found = {pid for pid in own if everything[pid].name == Victim.CONTAINERD.value and pid != main}
        if not found:
            raise Absent("The engine has no containerd of its own.")
        return strike(found)

    def strike_shim(self, server_id: str) -> dict[int, str]:
        """Kill the process that holds a server's container.

        Raises:
            Absent: the server runs nowhere.
        """
        for place in self._places:
            for container in machine.list_containers(place, server_id):
                main = processes.look(int(container["State"]["Pid"]))
                shim = processes.look(main.parent) if main else None
                if shim and shim.name.startswith("containerd-shim"):
                    return strike({shim.pid})
        raise Absent(f"Server {server_id} runs nowhere.")

    def strike_host(self, number: int, away: float) -> dict[int, str]:
        """Kill all that runs on a further host, servers too, again and again for some seconds.

        Its supervisor brings its services back, as the start of a machine would.

        Raises:
            Absent: there is no such host.
        """
        if not 0 < number < len(self._places):
            raise Absent(f"The machine has no further host {number}.")
        key = self._places[number].key
        killed: dict[int, str] = {}
        deadline = time.monotonic() + away
        while True:
            killed |= strike(self._inhabitants(key))
            if time.monotonic() > deadline:
                return killed
            time.sleep(ROUND)

    def _inhabitants(self, key: str) -> set[int]:
        """Return a host's processes, and those of its services that run beside it."""
        everything = processes.snapshot()
        found = host_removal.inhabitants(hosts.mount_namespace(key))
        for service in self._services.values():
            if service.name.startswith(f"{key}-") and not service.inside:
                main = self._backend.look(service).pid
                found |= processes.tree(main, everything) if main else set()
        return found

    def _find(self, victim: Victim, number: int) -> Service:
        key = self._places[number].key if number < len(self._places) else None
        if key is None:
            raise Absent(f"The machine has no further host {number}.")
        name = hosts.service_name(key, victim.value) if key else victim.value
        service = self._services.get(name)
        if service is None or not service.stoppable:
            raise Absent(f"The cloud has no service {name} of its own.")
        return service


def strike(pids: Iterable[int], send: Callable[[int, int], None] = os.kill) -> dict[int, str]:
    """Kill processes at once; return the names of those that were there."""
    found = {pid: process.name for pid in pids if pid > 1 and pid != os.getpid() and (process := processes.look(pid))}
    killed = {}
    for pid, name in found.items():
        try:
            send(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed[pid] = name
    return killed
