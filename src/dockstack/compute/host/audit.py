# SPDX-License-Identifier: Apache-2.0
"""What runs on this host: one listing answers a whole round of Nova's periodic questions."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from dockstack.compute.engine import NotFound
from dockstack.names import HOST_LABEL, NAME_LABEL, NAME_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.compute.engine import Container, Engine
    from dockstack.compute.model import PowerState


class Audit:
    """Lists this host's servers and remembers their states for a moment.

    Nova's periodic synchronisation first counts the servers, then asks for each one's state. The count's listing
    answers the rest, so that a round costs one call however many servers there are. Whatever changes a server's state,
    a flow or an event, has it forgotten here; the next question about it then goes to the engine.
    """

    def __init__(
        self, engine: Engine, host: str, lifetime: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Remember nothing yet.

        Args:
            engine: whom to ask.
            host: only containers with this host's label count.
            lifetime: seconds that a listing stays good.
            clock: where the seconds come from.
        """
        self._engine = engine
        self._host = host
        self._lifetime = lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[str, PowerState] = {}
        self._listed_at = float("-inf")
        self._changes = 0

    def list_servers(self) -> tuple[Container, ...]:
        """List this host's servers in every state, in one call."""
        with self._lock:
            changes_before = self._changes
        found = tuple(container for container in self._engine.containers({HOST_LABEL: self._host}) if container.current)
        with self._lock:
            if self._changes == changes_before:
                self._states = {container.server_uuid: container.state for container in found}
                self._listed_at = self._clock()
        return found

    def get_state(self, server_uuid: str, *, fresh: bool) -> PowerState:
        """Tell one server's power state.

        Args:
            server_uuid: which.
            fresh: do not answer from memory.

        Raises:
            NotFound: it has no container.
        """
        with self._lock:
            remembered = self._states.get(server_uuid)
            young = self._clock() - self._listed_at < self._lifetime
        if remembered is not None and young and not fresh:
            return remembered
        found = self._engine.container(NAME_PREFIX + server_uuid)
        if found.labels.get(HOST_LABEL) != self._host:
            raise NotFound(f"Container {found.name} is another host's")
        return found.state

    def list_names(self) -> list[str]:
        """List the names that the servers were given."""
        return [container.labels.get(NAME_LABEL, container.name) for container in self.list_servers()]

    def has(self, server_uuid: str) -> bool:
        """Whether a server has a container here."""
        try:
            return self._engine.container(NAME_PREFIX + server_uuid).labels.get(HOST_LABEL) == self._host
        except NotFound:
            return False

    def forget(self, server_uuid: str) -> None:
        """Drop what is remembered of a server, and whatever a listing under way is about to say."""
        with self._lock:
            self._changes += 1
            self._states.pop(server_uuid, None)
