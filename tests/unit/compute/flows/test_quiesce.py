# SPDX-License-Identifier: Apache-2.0
"""Servers stand still for snapshots of their volumes, and go on, whoever dies and whatever is stuck."""

from __future__ import annotations

import os
import threading

import pytest
from fake_flows import UUID, make_server, no_events

from dockstack.compute.flows import lifecycle, quiesce, recovery
from dockstack.compute.flows.rounds import Rounds
from dockstack.compute.host import quiesced
from dockstack.compute.model import PowerState

OTHER = "1fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11"
NAME = f"nova-{UUID}"
PATIENCE = 60
pytestmark = pytest.mark.unit


@pytest.fixture
def server(host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    return server


@pytest.fixture
def written(monkeypatch):
    """Whether servers stood still, each time that something of them was written out."""
    found = []
    monkeypatch.setattr(quiesce.server_devices, "write_out", lambda *_whose: found.append(1))
    return found


def make_old(host, server_uuid=UUID):
    os.utime(quiesced._find(host) / server_uuid, (0, 0))


class Stuck:
    """Storage that answers at its second question no more, until it is let go."""

    def __init__(self):
        self.questions, self.is_stuck, self.answer = 0, threading.Event(), threading.Event()

    def __call__(self, *_whose):
        self.questions += 1
        if self.questions == 2:
            self.is_stuck.set()
            assert self.answer.wait(PATIENCE)


@pytest.fixture
def stuck(host, server, monkeypatch):
    """A server that stands still, and whose last writes wait for storage; what its quiesce ended with."""
    storage, ended = Stuck(), []
    monkeypatch.setattr(quiesce.server_devices, "write_out", storage)

    def ask():
        try:
            quiesce.quiesce(host, server)
            ended.append(None)
        except quiesce.CannotQuiesce as error:
            ended.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert storage.is_stuck.wait(PATIENCE)
    yield storage, thread, ended
    storage.answer.set()
    thread.join(PATIENCE)


def finishes(work) -> bool:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    return not thread.is_alive()


def test_storage_that_is_stuck_keeps_nobody_and_its_server_goes_on(world, host, stuck):
    storage, thread, ended = stuck
    make_old(host)
    assert finishes(lambda: quiesce.sweep(host)), "the round does nothing for anybody else meanwhile"
    assert world.containers[NAME].state is PowerState.RUNNING
    storage.answer.set()
    thread.join(PATIENCE)
    assert "goes on" in str(ended[0]), "snapshots of it would not be of one moment"


def test_a_server_that_is_stuck_can_be_deleted(world, host, server, stuck):
    assert finishes(lambda: lifecycle.destroy(host, server))
    assert NAME not in world.containers
    storage, thread, ended = stuck
    storage.answer.set()
    thread.join(PATIENCE)
    assert ended[0] is not None


def test_one_that_another_works_on_waits_for_the_next_round(world, host, server, written):
    lifecycle.spawn(host, other := make_server(OTHER), no_events)
    for each in (server, other):
        quiesce.quiesce(host, each)
        make_old(host, each.uuid)
    held, let_go = threading.Event(), threading.Event()

    def work():
        with host.busy.hold(UUID):
            held.set()
            let_go.wait(PATIENCE)

    threading.Thread(target=work, daemon=True).start()
    assert held.wait(PATIENCE)
    try:
        assert finishes(lambda: quiesce.sweep(host))
        assert world.containers[f"nova-{OTHER}"].state is PowerState.RUNNING
    finally:
        let_go.set()


def test_a_note_of_a_server_that_runs_again_keeps_nothing_from_being_written_out(world, host, server, written):
    quiesce.quiesce(host, server)
    host.engine.unpause(NAME)  # the engine was restarted, or an administrator did it
    written.clear()
    quiesce.quiesce(host, server)
    assert len(written) == 2
    assert world.containers[NAME].state is PowerState.PAUSED


def test_asked_again_it_stands_still_for_as_long_from_then_on(world, host, server, written):
    quiesce.quiesce(host, server)
    make_old(host)
    quiesce.quiesce(host, server)
    quiesce.sweep(host)
    assert world.containers[NAME].state is PowerState.PAUSED


def test_a_start_forgets_the_note(host, server, written):
    quiesce.quiesce(host, server)
    lifecycle.reboot(host, server, hard=True)
    assert not quiesced.read(host, UUID)


def test_a_nova_compute_that_starts_lets_it_go_on_at_once(world, host, server, written):
    quiesce.quiesce(host, server)
    recovery.prepare(host)
    assert world.containers[NAME].state is PowerState.PAUSED
    make_old(host)
    recovery.prepare(host)
    assert world.containers[NAME].state is PowerState.RUNNING


def test_notes_that_cannot_be_read_skip_nothing_else_of_a_round(host, monkeypatch):
    ended = threading.Event()

    def fail(*_arguments):
        raise OSError(5, "the disk")

    monkeypatch.setattr(quiesced, "list_older", fail)
    claims = recovery.Claims(kept=(), abandoned=(), has_left={}.get)
    Rounds(host, lambda: claims, {}.get, end_forgotten_tasks=ended.set, bring_back_absent=len).go()
    assert ended.is_set()
