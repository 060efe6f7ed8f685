# SPDX-License-Identifier: Apache-2.0
"""What happens to servers, told to Nova; what a flow of ours does on its way is not told.

A reboot stops and starts. If Nova hears of the stop, looks at the server, which is stopped, and then at its database,
where the reboot has ended meanwhile, it takes the server for one that shut itself down, and stops it. Its driver for
libvirt waits 15 s with each stop for that reason. So while a flow works on a server, only the last thing that happened
is kept, and told when the flow has ended. That a server was started by a flow is not told at all: Nova asks itself.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dockstack.compute.engine import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.compute.engine import Event
    from dockstack.compute.host.host import Busy


class Herald:
    """Tells what happens to servers, never in the midst of a flow."""

    def __init__(self, busy: Busy, tell: Callable[[Event], None]) -> None:
        """Prepare to tell.

        Args:
            busy: the servers that a flow works on.
            tell: called with each event, from the thread that it came in or from one of ours.
        """
        self._busy = busy
        self._tell = tell
        self._lock = threading.Lock()
        self._kept: dict[str, Event] = {}

    def take(self, event: Event) -> None:
        """Tell an event, now or when no flow works on its server any more; in the latter case, only the last one."""
        with self._lock:
            waiting = event.server_uuid in self._kept
            if waiting:
                self._kept[event.server_uuid] = event
                return
            if event.server_uuid in self._busy:
                if event.kind is not EventKind.STARTED:
                    later = threading.Thread(
                        target=self._tell_later, args=(event.server_uuid,), name="herald", daemon=True
                    )
                    later.start()  # waits for our lock; without a thread, nothing must be kept for it
                    self._kept[event.server_uuid] = event
                return
        self._tell(event)

    def _tell_later(self, server_uuid: str) -> None:
        self._busy.wait(server_uuid)
        with self._lock:
            event = self._kept.pop(server_uuid)
        if event.kind is not EventKind.STARTED:
            self._tell(event)
