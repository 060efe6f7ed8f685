# SPDX-License-Identifier: Apache-2.0
"""What is left of a server goes while all services run, at little cost; what anybody works on or may want stays."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from fake_flows import UUID, make_server, no_events

from dockstack.compute.engine import EngineError
from dockstack.compute.flows import lifecycle, recovery, rescue
from dockstack.compute.flows.rounds import Rounds
from dockstack.compute.host import creation, received, set_aside
from dockstack.compute.model import PowerState

NAME = f"nova-{UUID}"
OTHER = "1fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11"
NOTHING = {"containers": [], "namespaces": [], "links": [], "switch": [], "patches": [], "spools": []}
pytestmark = pytest.mark.unit


def claims(*kept, left=None):
    return recovery.Claims(kept=kept, abandoned=(), has_left=(left or {}).get)


def make_rounds(host, answer, *, interval=60.0, read_unrescued={}.get, end_tasks=lambda: None, shelve=len):
    return Rounds(
        host, answer, read_unrescued, end_forgotten_tasks=end_tasks, bring_back_absent=shelve, interval=interval
    )


def test_a_source_whose_server_was_deleted_elsewhere_goes(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    lifecycle.spawn(host, make_server(OTHER), no_events)
    make_rounds(host, lambda: claims(OTHER, left={UUID: True})).go()
    assert list(world.containers) == [f"nova-{OTHER}"]


def test_a_quiet_round_lists_once_and_asks_about_nobody(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    rounds = make_rounds(
        host,
        lambda: recovery.Claims((UUID,), (), has_left=lambda uuid: pytest.fail(f"asked about {uuid}")),
        read_unrescued=lambda uuid: pytest.fail(f"asked about {uuid}"),
    )
    world.calls.clear()
    rounds.go()
    assert world.calls == ["containers", "list_plugged"]


def test_one_that_may_come_back_or_that_a_flow_works_on_stays(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    before = world.leftovers()
    make_rounds(host, lambda: claims(left={UUID: False})).go()
    with host.busy.hold(UUID):
        make_rounds(host, lambda: claims(left={UUID: True})).go()
    assert world.leftovers() == before


def test_one_that_comes_back_between_two_questions_stays(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    before, answers = world.leftovers(), iter([True])
    make_rounds(host, lambda: recovery.Claims((), (), has_left=lambda _uuid: next(answers, False))).go()
    assert world.leftovers() == before


def test_one_that_nova_does_not_know_is_named_once(host, caplog):
    lifecycle.spawn(host, make_server(), no_events)
    rounds = make_rounds(host, claims)
    rounds.go()
    rounds.go()
    assert caplog.text.count("does not know the server of container") == 1


def test_a_broken_arrival_goes_and_a_rescue_that_nova_does_not_know_of_ends(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    identity = world.containers[NAME].id
    rescue.begin(host, server)
    arriving = NAME + set_aside.ARRIVING
    world.containers[arriving] = replace(
        world.containers[NAME],
        name=arriving,
        id="a" * 64,
        labels={**world.containers[NAME].labels, "org.openstack.nova.rescue": ""},
    )
    unrescued = {UUID: recovery.Unrescued(server, runs=True)}
    make_rounds(host, lambda: claims(UUID), read_unrescued=unrescued.get).go()
    assert list(world.containers) == [NAME]
    assert world.containers[NAME].id == identity
    assert world.containers[NAME].state is PowerState.RUNNING


def test_what_fails_at_one_server_or_in_one_step_keeps_no_other(world, host, monkeypatch):
    beginnings = []
    for uuid in (UUID, OTHER):
        lifecycle.spawn(host, make_server(uuid), no_events)
        whole = world.containers[f"nova-{uuid}"]
        arriving = whole.name + set_aside.ARRIVING
        world.containers[arriving] = replace(whole, name=arriving, id=uuid[0] * 64)
        beginnings.append(arriving)
    remove, ended = creation.remove, threading.Event()

    def fail_at_first(on, container):
        if container.name == beginnings[0]:
            raise EngineError("It is busy.")
        remove(on, container)

    def claims_fail():
        raise KeyError("of Nova's")

    monkeypatch.setattr(creation, "remove", fail_at_first)
    make_rounds(host, claims_fail, end_tasks=ended.set).go()  # Nova does not even say which servers it has
    assert [name for name in beginnings if name in world.containers] == beginnings[:1]
    assert ended.is_set()


@pytest.mark.parametrize("failure", [KeyError("of Nova's"), None], ids=["Nova", "the engine"])
def test_a_round_that_fails_ends_no_other(world, host, failure):
    lifecycle.spawn(host, make_server(), no_events)
    failed = threading.Event()

    def answer():
        if not failed.is_set():
            failed.set()
            if failure:
                raise failure
            world.engine_up = False
            host.engine.containers()
        return claims(left={UUID: True})

    rounds = make_rounds(host, answer, interval=0.01)
    rounds.start()
    try:
        assert failed.wait(60)
        world.engine_up = True
        for _ in range(6000):
            if not world.containers:
                break
            threading.Event().wait(0.01)
        assert world.leftovers() == NOTHING
    finally:
        rounds.stop()


def test_whom_the_host_has_anything_of_is_told_to_those_who_look_at_the_shelf(world, host):
    told = []
    lifecycle.spawn(host, make_server(), no_events)
    (received.find_directory(host) / OTHER).mkdir(parents=True)
    make_rounds(host, lambda: claims(UUID, OTHER), shelve=told.append).go()
    assert told == [{UUID, OTHER}]
