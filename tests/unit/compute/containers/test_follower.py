# SPDX-License-Identifier: Apache-2.0
"""The follower without an engine: what it tells, and what it tells once."""

from __future__ import annotations

import queue
import threading
import time
from types import SimpleNamespace

import pytest

from dockstack.compute.containers import events as events_module
from dockstack.compute.containers.events import Follower, differences
from dockstack.compute.engine import Container, EngineUnavailable, Event, EventKind
from dockstack.compute.model import PowerState

pytestmark = pytest.mark.unit

RUNNING, PAUSED, SHUTDOWN = PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (SHUTDOWN, RUNNING, EventKind.STARTED),
        (RUNNING, SHUTDOWN, EventKind.STOPPED),
        (RUNNING, PowerState.CRASHED, EventKind.STOPPED),
        (PAUSED, SHUTDOWN, EventKind.STOPPED),
        (RUNNING, PAUSED, EventKind.PAUSED),
        (PAUSED, RUNNING, EventKind.RESUMED),
        (None, RUNNING, EventKind.STARTED),
        (RUNNING, None, EventKind.STOPPED),
        (SHUTDOWN, None, None),
        (None, SHUTDOWN, None),
        (RUNNING, RUNNING, None),
        (RUNNING, PowerState.NOSTATE, None),
        (SHUTDOWN, PowerState.CRASHED, None),
    ],
)
def test_differences(before, after, kind) -> None:
    listings = [{} if state is None else {"u": state} for state in (before, after)]
    assert differences(*listings, 5) == ([] if kind is None else [Event("u", kind, 5)])


class FakeStream:
    def __init__(self, events) -> None:
        self._events = events
        self._closed = threading.Event()

    def __iter__(self):
        yield from self._events
        if self._events is LAST:
            self._closed.wait(60)

    def close(self) -> None:
        self._closed.set()


LAST: list[Event] = []
BEGAN = 1  # when a follower began; what its engine tells is younger, unless a test says so


class FakeEngine:
    """Plays one connection after another: an error, or a listing and a stream."""

    def __init__(self, *connections) -> None:
        self._connections = list(connections)
        self._listing: dict = {}
        self.since: list[int | None] = []

    def events(self, since_ns=None):
        self.since.append(since_ns)
        connection = self._connections.pop(0) if self._connections else (self._listing, LAST)
        if isinstance(connection, Exception):
            raise connection
        self._listing, events = connection
        return FakeStream(events)

    def containers(self):
        return tuple(
            Container(uuid, f"nova-{uuid}", state, {"org.openstack.nova.uuid": uuid})
            for uuid, state in self._listing.items()
        )


def follow(monkeypatch, *connections):
    monkeypatch.setattr("dockstack.compute.containers.events._FIRST_DELAY", 0.001)
    clock = SimpleNamespace(time_ns=lambda: BEGAN, monotonic=time.monotonic)
    monkeypatch.setattr(events_module, "time", clock)
    engine, events, listings = FakeEngine(*connections), queue.Queue(), queue.Queue()
    follower = Follower(engine, events.put, listings.put)
    follower.start()
    for _ in range(1 + sum(not isinstance(connection, Exception) for connection in connections)):
        listings.get(timeout=60)
    follower.stop()
    assert not follower._thread.is_alive()
    return [(event.server_uuid, event.kind) for event in events.queue], engine


def test_repeated_events_are_told_once(monkeypatch) -> None:
    events = [
        Event("a", EventKind.STARTED, 1),
        Event("b", EventKind.STARTED, 2),
        Event("c", EventKind.STARTED, 2),
    ]
    told, engine = follow(
        monkeypatch,
        ({}, events),
        ({"a": RUNNING, "b": RUNNING, "c": RUNNING}, [*events[1:], Event("a", EventKind.STOPPED, 3)]),
    )
    assert told == [
        ("a", EventKind.STARTED),
        ("b", EventKind.STARTED),
        ("c", EventKind.STARTED),
        ("a", EventKind.STOPPED),
        ("a", EventKind.STARTED),  # the last listing of the fake shows it running again
    ]
    assert engine.since == [None, 1, 1], "asks again for all that may have come out of order"


def test_after_an_outage_the_engine_is_asked_for_the_last_moments_only(monkeypatch) -> None:
    late = 100 * 10**9
    _, engine = follow(monkeypatch, ({}, [Event("a", EventKind.STARTED, late)]))
    assert engine.since == [None, late - events_module._WINDOW_NS]


def test_what_happened_before_it_began_is_not_told_when_the_engine_repeats_it(monkeypatch) -> None:
    before, after = Event("old", EventKind.STARTED, BEGAN - 1), Event("new", EventKind.STARTED, BEGAN + 1)
    told, engine = follow(monkeypatch, ({}, [after]), ({"new": RUNNING}, [before, after]))
    assert told == [("new", EventKind.STARTED)]
    assert engine.since == [None, BEGAN, BEGAN]


def test_events_that_come_the_wrong_way_round_are_both_told(monkeypatch) -> None:
    events = [
        Event("a", EventKind.STOPPED, 2_000),
        Event("b", EventKind.STOPPED, 1_999),  # the engine took its time before a's, and its turn after
        Event("b", EventKind.STARTED, 3_000),
    ]
    told, _ = follow(monkeypatch, ({"a": RUNNING, "b": RUNNING}, events))
    assert told[:3] == [("a", EventKind.STOPPED), ("b", EventKind.STOPPED), ("b", EventKind.STARTED)]


def test_what_a_newer_event_of_the_same_server_has_overtaken_is_not_told(monkeypatch) -> None:
    events = [
        Event("a", EventKind.PAUSED, 2_000),
        Event("a", EventKind.STARTED, 1_999),
        Event("b", EventKind.STARTED, 5),
    ]
    told, _ = follow(monkeypatch, ({"a": RUNNING, "b": SHUTDOWN}, events))
    assert told[:2] == [("a", EventKind.PAUSED), ("b", EventKind.STARTED)]


def test_two_of_one_kind_and_time_are_two_if_their_containers_are(monkeypatch) -> None:
    events = [Event("a", EventKind.STOPPED, 7, "first"), Event("a", EventKind.STARTED, 7, "second")]
    told, _ = follow(monkeypatch, ({"a": RUNNING}, [*events, events[0]]))
    assert told[:2] == [("a", EventKind.STOPPED), ("a", EventKind.STARTED)]
    assert len(told) == 2


def test_what_is_remembered_of_events_is_bounded() -> None:
    follower = Follower(FakeEngine(), lambda _event: None, lambda _containers: None)
    for number in range(1000):
        follower._take(Event(f"s{number}", EventKind.STARTED, number * 10**9))
    assert len(follower._seen) <= 11
    assert len(follower._changed_ns) <= 11


def test_what_the_listing_told_is_not_told_again(monkeypatch) -> None:
    told, _ = follow(
        monkeypatch,
        ({"a": RUNNING}, []),
        ({"a": SHUTDOWN}, [Event("a", EventKind.STOPPED, 4)]),
    )
    assert told == [("a", EventKind.STOPPED)]


def test_what_was_missed_is_told_also_when_nova_could_not_be_asked_at_first(monkeypatch) -> None:
    monkeypatch.setattr("dockstack.compute.containers.events._FIRST_DELAY", 0.001)
    engine = FakeEngine(({"a": RUNNING}, []), ({"a": SHUTDOWN}, []), ({"a": SHUTDOWN}, LAST))
    events, listings = queue.Queue(), []

    def on_listing(containers) -> None:
        listings.append(containers)
        if len(listings) == 2:
            raise RuntimeError("the conductor does not answer")

    follower = Follower(engine, events.put, on_listing)
    follower.start()
    told = events.get(timeout=60)
    follower.stop()
    assert (told.server_uuid, told.kind) == ("a", EventKind.STOPPED)
    assert events.empty()


def test_goes_on_through_errors(monkeypatch) -> None:
    told, engine = follow(
        monkeypatch,
        EngineUnavailable("down"),
        RuntimeError("unforeseen"),
        ({"a": RUNNING}, [Event("a", EventKind.PAUSED, 7)]),
    )
    assert told[0] == ("a", EventKind.PAUSED)
    assert engine.since[:3] == [None, None, None]
