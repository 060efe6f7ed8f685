# SPDX-License-Identifier: Apache-2.0
"""What a restart removes, what it resumes, and what it never touches."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fake_flows import UUID, make_host, make_server, no_events

from dockstack.compute.containers import namespaces
from dockstack.compute.engine import EngineError, EngineUnavailable, NotFound
from dockstack.compute.flows import lifecycle, recovery
from dockstack.compute.host import config_drives
from dockstack.compute.model import PowerState
from fake_host import Fault

NOTHING = {"containers": [], "namespaces": [], "links": [], "switch": [], "patches": [], "spools": []}
OTHER = "1fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11"
pytestmark = pytest.mark.unit


def claims(kept=(), abandoned=(), deleted=None):
    answers = deleted or {}
    return recovery.Claims(kept=kept, abandoned=abandoned, has_left=answers.get)


def test_a_server_that_nova_keeps_is_not_touched(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    before, calls = world.leftovers(), len(world.calls)

    recovery.sweep(host, claims(kept={UUID}))

    assert world.leftovers() == before
    assert set(world.calls[calls:]) <= {"containers", "list_plugged"}, "looking only"


def test_a_container_of_this_host_whose_server_has_left_goes_with_all_it_has(world, host):
    lifecycle.spawn(host, make_server(), no_events)

    recovery.sweep(host, claims(kept={"another"}, deleted={UUID: True}))
    assert world.leftovers() == NOTHING


def test_what_is_removed_of_a_server_is_logged_as_that_servers(world, host, caplog):
    lifecycle.spawn(host, make_server(), no_events)
    config_drives.write(host, make_server(OTHER), lambda: {"x": b"secret"})
    caplog.clear()
    caplog.set_level(logging.INFO)

    recovery.sweep(host, claims(kept={"another"}, deleted={UUID: True, OTHER: True}))
    told = {record.instance_uuid for record in caplog.records if "Removed stray" in record.message}
    assert told == {UUID, OTHER}


@pytest.mark.parametrize("kept", [{"another"}, ()])
def test_what_nova_does_not_know_stays_and_is_named(world, host, caplog, kept):
    lifecycle.spawn(host, make_server(), no_events)
    before = world.leftovers()

    recovery.sweep(host, claims(kept=kept))
    assert world.leftovers() == before
    assert f"does not know the server of container nova-{UUID}" in caplog.text


def test_a_stray_config_drive_goes(world, host):
    config_drives.write(host, make_server(), lambda: {"x": b"secret"})
    config_drives.write(host, make_server(OTHER), lambda: {"x": b"secret"})

    recovery.sweep(host, claims(kept={OTHER}, deleted={UUID: True}))
    assert world.leftovers()["spools"] == [OTHER]


def test_a_server_that_may_yet_come_back_is_not_touched(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    before = world.leftovers()

    recovery.sweep(host, claims(deleted={UUID: False}))
    assert world.leftovers() == before


def test_another_hosts_containers_on_the_same_engine_are_not_touched(world):
    lifecycle.spawn(make_host(world, "host2"), make_server(), no_events)
    before = world.leftovers()

    recovery.sweep(make_host(world, "host1"), claims(deleted={UUID: True}))
    assert world.leftovers() == before


def test_a_server_that_is_being_made_is_not_touched(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    before = world.leftovers()

    with host.busy.hold(UUID):
        recovery.sweep(host, claims(abandoned={UUID}))
    assert world.leftovers() == before


def test_network_remains_of_servers_that_nova_never_knew_are_not_ours_to_remove(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    world.containers.clear()
    world.patches.joinpath("foreign.json").unlink(missing_ok=True)

    recovery.sweep(host, claims())
    assert world.links
    assert world.switch
    recovery.sweep(host, claims(deleted={UUID: True}))
    assert world.leftovers() == NOTHING


def test_one_failure_does_not_keep_the_other_strays(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    lifecycle.spawn(host, make_server(OTHER), no_events)
    gone = claims(deleted={UUID: True, OTHER: True})
    world.calls.clear()
    world.fault = Fault(3, lambda: EngineError("failed once"))

    recovery.sweep(host, gone)
    assert world.leftovers() != NOTHING
    assert OTHER not in str(world.leftovers())
    recovery.sweep(host, gone)
    assert world.leftovers() == NOTHING


def test_one_of_which_nova_cannot_tell_stays_and_keeps_no_other(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    lifecycle.spawn(host, make_server(OTHER), no_events)

    def has_left(server_uuid):
        if server_uuid == UUID:
            raise KeyError("of Nova's")
        return True

    recovery.sweep(host, recovery.Claims((), (), has_left))
    assert list(world.containers) == [f"nova-{UUID}"]
    assert OTHER not in str(world.leftovers())


def test_one_that_nova_cannot_be_asked_about_keeps_no_other_from_starting_and_is_tried_again(world, host):
    first, second = make_server(), make_server(OTHER)
    for server in (first, second):
        lifecycle.spawn(host, server, no_events)
    world.reboot_machine()

    with pytest.raises(KeyError):  # which has the follower of the engine's events begin again
        recovery.resume(host, host.engine.containers(), {UUID, OTHER}, {OTHER: second}.__getitem__)
    assert world.containers[first.container_name].state is PowerState.SHUTDOWN
    assert world.containers[second.container_name].state is PowerState.RUNNING


def test_servers_that_nova_wants_running_are_started_again(world, host):
    server, stopped = make_server(), make_server(OTHER)
    lifecycle.spawn(host, server, no_events)
    lifecycle.spawn(host, stopped, no_events, power_on=False)
    world.reboot_machine()

    recovery.resume(host, host.engine.containers(), {UUID}, {UUID: server}.get)

    assert world.containers[server.container_name].state is PowerState.RUNNING
    assert world.containers[stopped.container_name].state is PowerState.SHUTDOWN


@pytest.mark.parametrize("meanwhile", ["powered off", "moved away"])
def test_a_server_that_nova_wants_no_more_by_its_turn_is_not_started(world, host, meanwhile):
    """A dense host starts servers for minutes; its users go on meanwhile."""
    first, second = make_server(), make_server(OTHER)
    for server in (first, second):
        lifecycle.spawn(host, server, no_events)
    world.reboot_machine()
    wanted = {UUID: first, OTHER: second}
    asked = []

    def read_wanted(server_uuid):
        assert server_uuid in host.busy, "asked while nobody else may change it"
        asked.append(server_uuid)
        answer = wanted.get(server_uuid)
        wanted.pop(OTHER, None)  # while the first one starts, this happens to the second
        return answer

    recovery.resume(host, host.engine.containers(), set(wanted), read_wanted)

    assert asked == [UUID, OTHER]
    assert world.containers[first.container_name].state is PowerState.RUNNING
    assert world.containers[second.container_name].state is PowerState.SHUTDOWN
    assert not {device for device, owner in world.links.items() if owner == second.container_name}


@pytest.mark.parametrize("inhabited", [True, False])
def test_a_sweep_spares_what_came_back_since_it_asked(world, host, inhabited):
    lifecycle.spawn(host, make_server(), no_events)
    if not inhabited:
        world.containers.clear()
    before = world.leftovers()
    answers = iter([True])  # at first Nova has it elsewhere; by the time that something would go, it is here again

    recovery.sweep(host, recovery.Claims((), (), has_left=lambda _uuid: next(answers, False)))
    world.patches.joinpath("x").unlink(missing_ok=True)
    assert {**world.leftovers(), "patches": []} == {**before, "patches": []}


@pytest.mark.parametrize("broken", [UUID, OTHER])
def test_trouble_with_one_server_that_was_rebooted_from_inside_leaves_no_other_off(world, host, monkeypatch, broken):
    servers = {UUID: make_server(), OTHER: make_server(OTHER)}
    for server in servers.values():
        lifecycle.spawn(host, server, no_events, power_on=False)
    look = host.engine.container

    def fail(name):
        found = look(name)
        if found.server_uuid == broken:
            raise EngineError("The engine has lost its record.")
        return replace(found, exit_code=129, host_config={"CapAdd": ["SYS_BOOT"]})

    monkeypatch.setattr(host.engine, "container", fail)
    started = []
    monkeypatch.setattr(lifecycle, "start", lambda _host, server: started.append(server.uuid))
    recovery.resume_rebooted(host, set(servers), servers.get)
    assert started == [uuid for uuid in servers if uuid != broken]


def test_a_listing_that_fails_does_not_keep_nova_from_starting(host, monkeypatch):
    def fail(_labels):
        raise EngineUnavailable("It does not answer.")

    monkeypatch.setattr(host.engine, "containers", fail)
    recovery.resume_rebooted(host, {UUID}, lambda _uuid: None)


def test_a_paused_or_running_server_is_not_started(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    lifecycle.pause(host, server)
    world.calls.clear()

    recovery.resume(host, host.engine.containers(), {UUID}, {UUID: server}.get)
    assert "start" not in world.calls


def test_the_first_listing_leaves_the_work_to_nova_the_next_ones_do_it(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    reconcile = recovery.Reconciler(host, lambda: claims(kept={UUID}), lambda: {UUID}, {UUID: server}.get, {}.get)
    world.crash_engine(servers_survive=False)
    world.engine_up = True

    reconcile(host.engine.containers())
    assert world.containers[server.container_name].state is PowerState.SHUTDOWN
    reconcile(host.engine.containers())
    assert world.containers[server.container_name].state is PowerState.RUNNING


def test_the_driver_waits_for_an_engine_that_is_starting(world, host, monkeypatch):
    world.engine_up = False
    monkeypatch.setattr(recovery.time, "sleep", lambda _seconds: setattr(world, "engine_up", True))

    recovery.prepare(host)
    assert world.calls.count("ping") == 2


def test_an_engine_that_never_comes_is_reported(world, host, monkeypatch):
    world.engine_up = False
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(recovery.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(recovery.time, "monotonic", lambda: next(clock))

    with pytest.raises(EngineUnavailable):
        recovery.prepare(host)


def test_temporary_files_of_a_killed_process_are_removed(world, host):
    spool = world.directory / "images" / "spool-abc"
    spool.write_bytes(b"half an image")

    recovery.prepare(host)
    assert world.leftovers() == NOTHING


def test_a_side_container_of_a_swept_server_goes_too(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    container = world.containers[server.container_name]
    side = f"{server.container_name}-side"
    world.containers[side] = replace(container, id="f" * 64, name=side)

    recovery.sweep(host, claims(deleted={UUID: True}))
    assert world.leftovers() == NOTHING


def test_a_start_of_recovery_waits_for_a_delete_under_way_and_brings_nothing_back(world, host, monkeypatch):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    world.reboot_machine()
    deleting, go_on = threading.Event(), threading.Event()
    remove = namespaces.remove

    def held_up(server_uuid):
        deleting.set()
        assert go_on.wait(60)
        remove(server_uuid)

    monkeypatch.setattr(namespaces, "remove", held_up)
    listing = host.engine.containers()
    with ThreadPoolExecutor(2) as pool:
        delete = pool.submit(lifecycle.destroy, host, server)
        assert deleting.wait(60)
        assert UUID in host.busy
        start = pool.submit(lifecycle.start, host, server)
        with pytest.raises(TimeoutError):
            start.result(timeout=0.2)
        go_on.set()
        delete.result(timeout=60)
        assert isinstance(start.exception(timeout=60), NotFound)
    assert UUID not in host.busy
    recovery.resume(host, listing, {UUID}, {UUID: server}.get)
    assert world.leftovers() == NOTHING
