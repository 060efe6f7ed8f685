# SPDX-License-Identifier: Apache-2.0
"""The events thread: what happens to servers is told as it happens, once, also across the engine's death."""

from __future__ import annotations

import os
import queue
import signal
import time

import pytest
from private_engine import wait_for

from dockstack.compute.containers.events import Follower
from dockstack.compute.engine import Engine, EventKind
from dockstack.compute.model import PowerState


class Witness:
    """Collects what a follower says."""

    def __init__(self, engine) -> None:
        self.events: queue.Queue = queue.Queue()
        self.listings: queue.Queue = queue.Queue()
        self.follower = Follower(engine, self.events.put, self.listings.put)

    def expect(self, server, kind, within: float = 90) -> None:
        event = self.events.get(timeout=within)
        assert (event.server_uuid, event.kind) == (server.uuid, kind)

    def expect_listing(self, within: float = 90) -> dict[str, PowerState]:
        return {found.server_uuid: found.state for found in self.listings.get(timeout=within)}

    def expect_silence(self) -> None:
        time.sleep(0.3)  # for what must not come
        assert self.events.empty(), self.events.get()


@pytest.fixture
def witness(engine):
    witness = Witness(engine)
    witness.follower.start()
    witness.expect_listing()
    yield witness
    witness.follower.stop()
    assert not witness.follower._thread.is_alive()


def test_tells_what_happens_once(lab, witness) -> None:
    server = lab.boot()
    name = server.container_name
    witness.expect(server, EventKind.STARTED)
    lab.engine.pause(name)
    witness.expect(server, EventKind.PAUSED)
    lab.engine.unpause(name)
    witness.expect(server, EventKind.RESUMED)
    lab.engine.kill(name)
    witness.expect(server, EventKind.STOPPED)
    lab.engine.start(name)
    witness.expect(server, EventKind.STARTED)
    lab.engine.remove(name)
    witness.expect(server, EventKind.STOPPED)
    witness.expect_silence()


def test_lists_again_after_the_engines_death_and_tells_what_was_missed(lab, witness, private_engine) -> None:
    dies, stays, starts = lab.boot(), lab.boot(), lab.boot()
    for server in (dies, stays, starts):
        witness.expect(server, EventKind.STARTED)
    pid = lab.state(dies).pid
    private_engine.kill()
    os.kill(pid, signal.SIGKILL)  # while nobody looks
    private_engine.start()
    listing = witness.expect_listing()
    assert listing[dies.uuid] == PowerState.SHUTDOWN
    assert listing[stays.uuid] == PowerState.RUNNING
    witness.expect(dies, EventKind.STOPPED)
    lab.engine.start(dies.container_name)
    witness.expect(dies, EventKind.STARTED)
    witness.expect_silence()


def test_stops_while_the_engine_is_away() -> None:
    witness = Witness(Engine("unix:///nonexistent/docker.sock", 5))
    witness.follower.start()
    wait_for(witness.follower._thread.is_alive, "the thread")
    witness.follower.stop()
    assert not witness.follower._thread.is_alive()


def test_goes_on_when_a_listener_fails(lab, engine) -> None:
    said: queue.Queue = queue.Queue()

    def fail_first(event) -> None:
        said.put(event)
        if said.qsize() == 1:
            raise RuntimeError("a listener's mistake")

    follower = Follower(engine, fail_first, lambda _: None)
    follower.start()
    try:
        wait_for(lambda: follower._states is not None, "the first listing")
        first = lab.boot()
        wait_for(lambda: said.qsize() >= 1, "the first event")
        second = lab.boot()
        wait_for(lambda: said.qsize() >= 2, "the second event")
        assert [event.server_uuid for event in said.queue] == [first.uuid, second.uuid]
    finally:
        follower.stop()
