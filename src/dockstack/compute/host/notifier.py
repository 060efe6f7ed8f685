# SPDX-License-Identifier: Apache-2.0
"""Notifies Nova of what happens to servers, but not of the steps of a flow that is under way.

While a flow works on a server, only the last event of that server is kept; Nova is notified of it when the flow has
ended. Nova is never notified that a flow started a server: it reads the state itself when its call returns. The same
holds for a stop that Nova asked for.

Why: a reboot stops and starts. If Nova were told of the stop at once, it would look at the server, which is stopped,
and then at its database, where the reboot may have ended meanwhile. It would take the server for one that shut itself
down, and stop it. Nova's libvirt driver waits 15 s with each stop for the same reason. A stop may also be the first
step of what Nova asks for, as of a rescue: if Nova took the request back meanwhile, it would stop the server in its
midst.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dockstack.compute.engine import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dockstack.compute.engine import Event
    from dockstack.compute.host.host import Busy


class EventNotifier:
    """Notifies of events of servers, never in the midst of a flow."""

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
        self._asked: dict[str, tuple[int, int]] = {}  # by server: when Nova's last stop began and ended, in ns

    @contextmanager
    def stopping(self, server_uuid: str) -> Iterator[None]:
        """Have a server to oneself while the body stops it as Nova asked: Nova is not told of that stop.

        The engine's word of it may come after the body has ended; it is known by its time.
        """
        with self._busy.hold(server_uuid):
            began_ns = time.time_ns()
            try:
                yield
            finally:
                with self._lock:
                    self._asked[server_uuid] = (began_ns, time.time_ns())

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
                        target=self._tell_later, args=(event.server_uuid,), name="event-notifier", daemon=True
                    )
                    later.start()  # waits for our lock; without a thread, nothing must be kept for it
                    self._kept[event.server_uuid] = event
                return
            expected = self._expects(event)
        if not expected:
            self._tell(event)

    def _tell_later(self, server_uuid: str) -> None:
        self._busy.wait(server_uuid)
        with self._lock:
            event = self._kept.pop(server_uuid)
            expected = event.kind is EventKind.STARTED or self._expects(event)
        if not expected:
            self._tell(event)

    def _expects(self, event: Event) -> bool:
        """Say whether an event is the stop that Nova asked for; what came after it makes that stop history."""
        began_ns, ended_ns = self._asked.get(event.server_uuid, (0, 0))
        if event.time_ns > ended_ns:
            self._asked.pop(event.server_uuid, None)
        return event.kind is EventKind.STOPPED and began_ns <= event.time_ns <= ended_ns
