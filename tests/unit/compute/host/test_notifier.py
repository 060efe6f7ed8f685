# SPDX-License-Identifier: Apache-2.0
"""What Nova is told, and what not."""

from __future__ import annotations

import queue
import time

import pytest

from dockstack.compute.engine import Event, EventKind
from dockstack.compute.host.host import Busy
from dockstack.compute.host.notifier import EventNotifier

pytestmark = pytest.mark.unit

STARTED, STOPPED, PAUSED = (Event("u", kind, 1) for kind in (EventKind.STARTED, EventKind.STOPPED, EventKind.PAUSED))


@pytest.fixture
def told() -> queue.Queue:
    return queue.Queue()


@pytest.fixture
def busy() -> Busy:
    return Busy()


@pytest.fixture
def notifier(busy, told) -> EventNotifier:
    return EventNotifier(busy, told.put)


@pytest.mark.parametrize("event", [STARTED, STOPPED, PAUSED])
def test_what_happens_by_itself_is_told_at_once(notifier, told, event) -> None:
    notifier.take(event)
    assert told.get_nowait() == event


@pytest.mark.parametrize("events", [[STARTED], [STOPPED, STARTED], [STOPPED, PAUSED, STARTED]])
def test_a_flows_own_start_is_not_told(busy, notifier, told, events) -> None:
    with busy.hold("u"):
        for event in events:
            notifier.take(event)
    notifier.take(Event("other", EventKind.STOPPED, 2))
    assert told.get(timeout=30).server_uuid == "other"
    busy.wait("u")
    assert told.empty()


@pytest.mark.parametrize("events", [[STOPPED], [STARTED, STOPPED], [PAUSED, STOPPED]])
def test_what_a_flow_ends_in_is_told_when_it_has_ended(busy, notifier, told, events) -> None:
    with busy.hold("u"):
        for event in events:
            notifier.take(event)
        notifier.take(Event("other", EventKind.STOPPED, 2))
        assert told.get(timeout=30).server_uuid == "other", "others need not wait"
        assert told.empty()
    assert told.get(timeout=30) == STOPPED
    notifier.take(STARTED)
    assert told.get(timeout=30) == STARTED


def _stopped_now() -> Event:
    return Event("u", EventKind.STOPPED, time.time_ns())


@pytest.mark.parametrize("late", [False, True])
def test_a_stop_that_nova_asked_for_is_not_told(busy, notifier, told, late) -> None:
    with notifier.stopping("u"):
        stop = _stopped_now()
        if not late:
            notifier.take(stop)
    busy.wait("u")
    if late:
        notifier.take(stop)
    by_itself = _stopped_now()
    notifier.take(by_itself)
    assert told.get(timeout=30) == by_itself
    assert told.empty()


def test_a_stop_before_the_one_that_nova_asked_for_is_told(notifier, told) -> None:
    earlier = _stopped_now()
    with notifier.stopping("u"):
        pass
    notifier.take(earlier)
    assert told.get(timeout=30) == earlier


def test_another_servers_stop_is_told_while_nova_stops_one(notifier, told) -> None:
    with notifier.stopping("u"):
        other = Event("other", EventKind.STOPPED, time.time_ns())
        notifier.take(other)
        assert told.get(timeout=30) == other
