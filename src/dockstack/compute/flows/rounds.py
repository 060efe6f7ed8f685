# SPDX-License-Identifier: Apache-2.0
"""Look every minute for what should not be here, not only when nova-compute starts or the engine comes back.

A step of Nova's that was lost leaves a container behind while all services run: a source that never heard that its
move was confirmed, or that the server was deleted meanwhile. Nova asks for it no more.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from dockstack.compute.failures import isolated
from dockstack.compute.flows import incoming_migration, quiesce, recovery, volumes
from dockstack.compute.host import received
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from dockstack.compute.flows.recovery import Claims, Unrescued
    from dockstack.compute.host.host import Host

LOG = logging.getLogger(__name__)

INTERVAL = 60.0  # seconds; a round costs one listing of the engine and one question to Nova


class Rounds:
    """One thread that sweeps from time to time; no failure ends it."""

    def __init__(
        self,
        host: Host,
        read_claims: Callable[[], Claims],
        read_unrescued: Callable[[str], Unrescued | None],
        *,
        end_forgotten_tasks: Callable[[], None],
        bring_back_absent: Callable[[Collection[str]], None],
        interval: float = INTERVAL,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            host: which.
            read_claims: asks Nova, in one question, which servers it has here.
            read_unrescued: asks Nova for one server, if it is not being rescued.
            end_forgotten_tasks: has Nova end what it waits for and nobody is doing.
            bring_back_absent: has Nova bring back servers that are its host's, and not here; given those that are here.
            interval: seconds between two rounds.
        """
        self._host = host
        self._read_claims = read_claims
        self._read_unrescued = read_unrescued
        self._end_forgotten_tasks = end_forgotten_tasks
        self._bring_back_absent = bring_back_absent
        self._interval = interval
        self._named: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own; the first round comes later, as Nova's start has swept itself."""
        self._thread.start()

    def stop(self, timeout: float = 10) -> None:
        """End the thread and wait for it, at most ``timeout`` seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def go(self) -> None:
        """Do one round: list what is here, then ask Nova about it, and about whatever is odd once more.

        Nova is asked after the engine: what is made in between is Nova's by then, and left alone.
        """
        listed = self._host.engine.containers()
        quiesce.sweep(self._host)
        volumes.allow_again(self._host)
        with isolated("the round's sweep"):
            recovery.sweep_listed(self._host, self._read_claims(), listed, self._named)
        incoming_migration.sweep_listed(self._host, listed)
        recovery.end_unknown_rescues(self._host, listed, self._read_unrescued)
        self._end_forgotten_tasks()
        self._bring_back_absent({container.server_uuid for container in listed} | {*received.list_servers(self._host)})

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self.go()
            except DockstackError as error:
                LOG.warning("Cannot look for what is left of servers; trying on: %s", error)
            except Exception:
                LOG.exception("Looking for what is left of servers failed; going on")
