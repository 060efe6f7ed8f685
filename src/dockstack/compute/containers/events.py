# SPDX-License-Identifier: Apache-2.0
"""One thread that follows the engine's events, whatever happens to the engine."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from dockstack.compute.engine import Event, EventKind, EventStream
from dockstack.compute.model import PowerState
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dockstack.compute.engine import Container, Engine

LOG = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.2, 2.0  # seconds between attempts to reach an engine that is away
_WINDOW_NS = 10 * 10**9  # how far apart in time two events may be that come in the wrong order

_STATES = {
    EventKind.STARTED: PowerState.RUNNING,
    EventKind.STOPPED: PowerState.SHUTDOWN,
    EventKind.PAUSED: PowerState.PAUSED,
    EventKind.RESUMED: PowerState.RUNNING,
}


class Follower:
    """Follows events; at every (re)connect lists all containers first.

    The engine keeps only its last 256 events and none over a crash. So what a listing shows is compared with what was
    known before, and a difference is reported like the event that was missed.

    An event is known again by what it is (container, kind, time), never by its place in the stream: the engine takes an
    event's time before it takes its turn to send it, so two that happen at once may come the wrong way round.
    """

    def __init__(
        self,
        engine: Engine,
        on_event: Callable[[Event], None],
        on_listing: Callable[[tuple[Container, ...]], None],
    ) -> None:
        """Prepare to follow; ``start`` begins.

        Args:
            engine: whose events.
            on_event: called in the follower's thread with each event, none twice.
            on_listing: called in the follower's thread at each (re)connect with all containers of ours, to reconcile.
        """
        self._engine = engine
        self._on_event = on_event
        self._on_listing = on_listing
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._stream: EventStream | None = None
        self._states: dict[str, PowerState] | None = None
        self._changed_ns: dict[str, int] = {}  # by server: the time of its newest event
        self._seen: set[Event] = set()
        self._last_ns = 0
        self._began_ns = 0  # what happened before is in the first listing
        self._thread = threading.Thread(target=self._run, name="engine-events", daemon=True)

    def start(self) -> None:
        """Begin to follow, in a thread of its own."""
        self._thread.start()

    def stop(self, timeout: float = 10) -> None:
        """End the thread and wait for it, at most ``timeout`` seconds."""
        self._stopping.set()
        with self._lock:
            if self._stream is not None:
                self._stream.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        delay = _FIRST_DELAY
        while not self._stopping.is_set():
            connected_at = time.monotonic()
            try:
                self._follow()
            except DockstackError as error:
                level = logging.WARNING if delay == _FIRST_DELAY else logging.DEBUG  # say it once an outage
                LOG.log(level, "Cannot follow the engine's events; trying on until it is back: %s", error)
            except Exception:
                LOG.exception("Following the engine's events failed; going on")
            delay = _FIRST_DELAY if time.monotonic() - connected_at > _LONGEST_DELAY else min(delay * 2, _LONGEST_DELAY)
            self._stopping.wait(delay)

    def _follow(self) -> None:
        """Connect, list, report what was missed, then follow to the stream's end.

        The stream is opened before the listing: what happens between the two waits in it.
        """
        self._began_ns = self._began_ns or time.time_ns()
        stream = self._engine.events(self._oldest_ns() if self._last_ns else None)
        with self._lock:
            self._stream = stream
        try:
            if not self._stopping.is_set():
                self._catch_up(self._engine.containers())
                for event in stream:
                    self._take(event)
        finally:
            with self._lock:
                self._stream = None
            stream.close()

    def _catch_up(self, containers: tuple[Container, ...]) -> None:
        now = time.time_ns()
        states = {container.server_uuid: container.state for container in containers if container.current}
        missed = [] if self._states is None else list(differences(self._states, states, now))
        self._on_listing(containers)
        self._states = states  # only now: if Nova could not be asked, the next attempt finds the differences again
        for event in missed:
            self._on_event(event)

    def _take(self, event: Event) -> None:
        """Report an event once: after a reconnect the engine repeats those of the last moments.

        One that comes after a newer one of the same server is not reported: what it says is over.
        """
        if event in self._seen or event.time_ns < self._oldest_ns():
            return
        self._remember(event)
        if event.time_ns < self._changed_ns.get(event.server_uuid, 0):
            return
        self._changed_ns[event.server_uuid] = event.time_ns
        if self._states is not None:
            state = _STATES[event.kind]
            if self._states.get(event.server_uuid, PowerState.SHUTDOWN) == state:
                return  # the listing told already
            self._states[event.server_uuid] = state
        self._on_event(event)

    def _oldest_ns(self) -> int:
        return max(self._began_ns, self._last_ns - _WINDOW_NS)

    def _remember(self, event: Event) -> None:
        """Keep an event for as long as the engine may repeat it or send an older one after it."""
        self._last_ns = max(self._last_ns, event.time_ns)
        oldest = self._oldest_ns()
        self._seen = {known for known in self._seen if known.time_ns >= oldest} | {event}
        self._changed_ns = {uuid: time_ns for uuid, time_ns in self._changed_ns.items() if time_ns >= oldest}


def differences(before: dict[str, PowerState], after: dict[str, PowerState], now_ns: int) -> list[Event]:
    """Return the events that lead from one listing to another; a server that is gone has stopped."""
    events = []
    for uuid in sorted(before.keys() | after.keys()):
        was, now = before.get(uuid, PowerState.SHUTDOWN), after.get(uuid, PowerState.SHUTDOWN)
        kind = _change(was, now)
        if kind is not None:
            events.append(Event(uuid, kind, now_ns))
    return events


def _change(was: PowerState, now: PowerState) -> EventKind | None:
    if was == now or PowerState.NOSTATE in (was, now):
        return None
    if now is PowerState.PAUSED:
        return EventKind.PAUSED
    if now is PowerState.RUNNING:
        return EventKind.RESUMED if was is PowerState.PAUSED else EventKind.STARTED
    return EventKind.STOPPED if was in (PowerState.RUNNING, PowerState.PAUSED) else None
