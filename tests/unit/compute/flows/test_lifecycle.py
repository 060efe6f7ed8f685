# SPDX-License-Identifier: Apache-2.0
"""A server's life, and what is left of it when any step of it fails or dies."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest
from fake_flows import UUID, make_host, make_server, no_events

from dockstack.compute.containers import spec
from dockstack.compute.engine import Conflict, Container, EngineError, EngineUnavailable, NotFound
from dockstack.compute.flows import crash_dump, guest_access, interfaces, lifecycle, recovery, resize
from dockstack.compute.model import Image, Limits, PowerState
from dockstack.compute.network import ovs
from dockstack.compute.resources.usage import Memory
from dockstack.errors import DockstackError
from fake_host import Fault, Killed

NOTHING = {"containers": [], "namespaces": [], "links": [], "switch": [], "patches": [], "spools": []}
CLAIM_ALL_GONE = recovery.Claims(kept=(), abandoned=(UUID,), has_left=lambda _uuid: None)
pytestmark = pytest.mark.unit


def steps_of(world, work) -> int:
    """How many steps of the outer world a flow takes when nothing fails."""
    world.calls.clear()
    work()
    return len(world.calls)


def test_a_server_has_its_network_before_its_first_process(world, host):
    lifecycle.spawn(host, make_server(), no_events)

    steps = [call for call in world.calls if call in ("create_namespace", "wire", "plug", "create", "start")]
    assert steps == ["create", "create_namespace", "wire", "plug", "wire", "plug", "start"]
    container = world.containers[f"nova-{UUID}"]
    assert container.state is PowerState.RUNNING
    patch = json.loads((world.patches / f"{container.id}.json").read_text())
    assert patch["netns"] == str(world.namespaces / f"nova-{UUID}")


def test_an_init_is_known_by_what_it_is_and_then_for_every_server_of_its_image(world, host):
    world.leads["/sbin/init"] = "/usr/lib/systemd/systemd"
    server = make_server()
    server = replace(server, image=replace(server.image, properties={"docker_command": '["/sbin/init"]'}))
    lifecycle.spawn(host, server, no_events)
    container = world.containers[server.container_name]
    assert container.labels[spec.INIT_LABEL] == "systemd"
    assert json.loads((world.patches / f"{container.id}.json").read_text())["own_groups"]
    assert (world.calls.count("create"), world.calls.count("remove")) == (2, 1)

    other = replace(server, uuid="1" + UUID[1:], ports=())
    lifecycle.spawn(host, other, no_events)
    assert world.calls.count("create") == 3

    lifecycle.stop(host, server, 0)
    lifecycle.start(host, server)
    assert json.loads((world.patches / f"{container.id}.json").read_text())["own_groups"]
    for each in (server, other):
        lifecycle.destroy(host, each)
    assert world.leftovers() == NOTHING


def test_a_server_waits_for_its_ports_before_it_starts(world, host):
    @contextmanager
    def ports_plugged(_ports):
        yield set()
        world.calls.append("waited")

    lifecycle.spawn(host, make_server(), ports_plugged)

    assert world.calls.index("create") < world.calls.index("waited") < world.calls.index("start")


def test_a_held_start_that_was_broken_off_does_not_keep_a_server_from_starting(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    lifecycle.stop(host, make_server(), 0)
    container = world.containers[f"nova-{UUID}"]
    (world.patches / f"{container.id}.gate").touch()

    lifecycle.start(host, make_server())

    assert world.containers[f"nova-{UUID}"].state is PowerState.RUNNING
    assert {path.suffix for path in world.patches.iterdir()} == {".json", ".server"}


def test_neutron_is_not_waited_for_where_the_switch_says_it_first(world, host):
    server = make_server()
    first, second = (port.id for port in server.ports)
    world.installed.add(first)
    left = []

    @contextmanager
    def ports_plugged(ports):
        awaited = {port.id for port in ports}
        yield awaited
        left.extend(awaited)

    lifecycle.spawn(host, server, ports_plugged)

    assert left == [second]


def test_container_and_namespace_are_ready_before_the_ports_are_asked_for(world, host):
    server = make_server()

    def read_ports():
        world.calls.append("read_ports")
        return server.ports

    lifecycle.spawn(host, replace(server, ports=()), no_events, read_ports=read_ports)

    before = world.calls[: world.calls.index("read_ports")]
    assert {"tag_image", "create", "create_namespace"} <= set(before)
    assert not {"wire", "plug", "start"} & set(before)
    assert set(world.switch) == {port.device for port in server.ports}


def test_a_config_drive_is_there_from_the_first_process_until_the_server_goes(world, host):
    server = make_server()

    def sources():
        patch = json.loads((world.patches / f"{world.containers[f'nova-{UUID}'].id}.json").read_text())
        return {mount["destination"]: mount["source"] for mount in patch["mounts"] if "drives" in mount["source"]}

    lifecycle.spawn(host, server, no_events, read_drive=lambda: {"openstack/latest/user_data": b"secret"})
    directory = world.directory / "drives" / UUID
    expected = dict.fromkeys(("/config-drive", "/var/lib/cloud/seed/config_drive"), str(directory))
    assert sources() == expected
    lifecycle.reboot(host, server, hard=True)
    assert sources() == expected
    assert (directory / "openstack/latest/user_data").read_bytes() == b"secret"
    lifecycle.destroy(host, server)
    assert world.leftovers() == NOTHING


def test_a_spawn_that_fails_takes_its_config_drive_with_it(world, host):
    world.fault = Fault(spawn_steps(world, host), lambda: EngineError("step failed"))
    with pytest.raises(EngineError):
        lifecycle.spawn(host, make_server(), no_events, read_drive=lambda: {"x": b""})
    assert world.leftovers() == NOTHING


def test_a_server_may_be_left_stopped(world, host):
    lifecycle.spawn(host, make_server(), no_events, power_on=False)

    assert world.containers[f"nova-{UUID}"].state is PowerState.SHUTDOWN


def test_destroy_leaves_nothing_and_may_be_repeated(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)

    lifecycle.destroy(host, server)
    assert world.leftovers() == NOTHING
    lifecycle.destroy(host, server)
    assert world.leftovers() == NOTHING


def spawn_steps(world, host) -> int:
    server = make_server()
    steps = steps_of(world, lambda: lifecycle.spawn(host, server, no_events))
    lifecycle.destroy(host, server)
    world.images.clear()
    world.revive()
    return steps


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_spawn_that_fails_at_any_step_leaves_nothing(world, host, after):
    for step in range(1, spawn_steps(world, host) + 1):
        world.fault = Fault(step, lambda: EngineError("step failed"), after=after)
        with pytest.raises(EngineError, match="step failed"):
            lifecycle.spawn(host, make_server(), no_events)
        assert world.leftovers() == NOTHING, f"step {step}: {world.calls}"
        world.images.clear()
        world.revive()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_spawn_that_is_killed_at_any_step_leaves_nothing_after_the_restart(world, host, after):
    for step in range(1, spawn_steps(world, host) + 1):
        world.fault = Fault(step, Killed, after=after)
        with pytest.raises(Killed):
            lifecycle.spawn(host, make_server(), no_events)

        world.revive()
        restarted = make_host(world)
        recovery.sweep(restarted, CLAIM_ALL_GONE)
        assert world.leftovers() == NOTHING, f"killed at step {step}"
        world.images.clear()
        world.revive()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [lambda: EngineError("step failed"), Killed], ids=["error", "kill"])
def test_a_destroy_broken_off_at_any_step_is_completed_by_the_next(world, host, error, after):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    steps = steps_of(world, lambda: lifecycle.destroy(host, server))

    for step in range(1, steps + 1):
        world.revive()
        lifecycle.spawn(host, server, no_events)
        world.calls.clear()
        world.fault = Fault(step, error, after=after)
        with pytest.raises((EngineError, Killed)):
            lifecycle.destroy(host, server)
        world.revive()
        lifecycle.destroy(make_host(world), server)
        assert world.leftovers() == NOTHING, f"step {step}"


def test_a_failed_wait_for_ports_leaves_nothing(world, host):
    @contextmanager
    def ports_plugged(_ports):
        yield set()
        raise TimeoutError("no event")

    with pytest.raises(TimeoutError, match="no event"):
        lifecycle.spawn(host, make_server(), ports_plugged)
    assert world.leftovers() == NOTHING
    assert "start" not in world.calls


def test_a_server_that_stands_in_the_way_stays_as_it_is_and_is_named(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    before, container = world.leftovers(), world.containers[f"nova-{UUID}"]

    with pytest.raises(Conflict, match=rf"{container.id[:12]} of server {UUID}, made by host 'host1'.*stays as it is"):
        lifecycle.spawn(host, make_server(), no_events)
    assert world.containers == {container.name: container}
    assert container.state is PowerState.RUNNING
    assert world.leftovers() == before
    assert UUID in host.processors, "its processors are still its own"


def test_another_hosts_container_of_a_server_stays_whatever_nova_asks_of_this_host(world):
    """Two hosts may share an engine: after an evacuation the old one is told to destroy what is the new one's."""
    there, here = make_host(world, "there"), make_host(world, "here")
    lifecycle.spawn(there, make_server(), no_events)
    container = world.containers[f"nova-{UUID}"]

    with pytest.raises(Conflict, match="made by host 'there'"):
        lifecycle.spawn(here, make_server(), no_events)
    lifecycle.clean_up(here, make_server(), keep_ports=True)
    lifecycle.discard(here, make_server(), 0)
    for work in (lifecycle.start, lifecycle.pause, lambda *args: lifecycle.stop(*args, 0)):
        with pytest.raises(NotFound):
            work(here, make_server())
    assert world.containers == {container.name: container}


def test_what_an_operator_has_called_like_a_server_is_not_removed(world, host):
    foreign = Container(id="f" * 64, name=f"nova-{UUID}", state=PowerState.RUNNING)
    world.containers[foreign.name] = foreign

    with pytest.raises(Conflict, match="of server nobody, made by somebody else"):
        lifecycle.spawn(host, make_server(), no_events)
    lifecycle.clean_up(host, make_server(), keep_ports=False)
    assert world.containers == {foreign.name: foreign}


@pytest.mark.parametrize("made", [True, False])
def test_a_create_whose_answer_is_lost_is_found_by_its_request_or_fails(world, host, made):
    lifecycle.spawn(host, make_server(), no_events)
    step = world.calls.index("create") + 1
    lifecycle.destroy(host, make_server())
    world.images.clear()
    world.revive()

    world.fault = Fault(step, lambda: EngineUnavailable("the answer is lost"), after=made)
    if made:
        lifecycle.spawn(host, make_server(), no_events)
        assert world.containers[f"nova-{UUID}"].state is PowerState.RUNNING
        return
    with pytest.raises(EngineUnavailable):
        lifecycle.spawn(host, make_server(), no_events)
    assert world.leftovers() == NOTHING


@pytest.mark.parametrize(
    "work",
    [
        lambda host, server: lifecycle.stop(host, server, 0),
        lifecycle.pause,
        lifecycle.unpause,
        interfaces.replug,
        lambda host, server: interfaces.disconnect(host, server.uuid, server.ports),
        crash_dump.dump,
        lambda host, server: guest_access.set_password(host, server, "root", "secret"),
        lambda host, server: resize.begin(host, server, server, 0),
    ],
    ids=["stop", "pause", "unpause", "replug", "disconnect", "crash dump", "password", "resize"],
)
def test_whatever_changes_a_server_waits_for_who_works_on_it(world, host, work):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    world.calls.clear()

    with ThreadPoolExecutor(1) as pool:
        with host.busy.hold(UUID):
            begun = pool.submit(work, host, server)
            with pytest.raises(TimeoutError):
                begun.result(timeout=0.1)
            assert world.calls == []
        begun.exception(timeout=60)
    assert world.calls != []


def test_logs_of_flows_bear_the_servers_uuid_where_nova_puts_it(world, host, caplog):
    lifecycle.spawn(host, make_server(), no_events)
    (record, *_) = [record for record in caplog.records if "LXCFS does not answer" in record.message]
    assert record.instance_uuid == UUID  # oslo.log writes it as [instance: UUID]


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"docker_command": "not json"}},
        {"limits": Limits(vcpus=1, memory_mb=1, disk_gb=1)},
    ],
    ids=["property", "memory"],
)
def test_a_request_that_no_host_can_fulfil_is_hopeless_and_makes_nothing(world, host, changes):
    with pytest.raises(lifecycle.HOPELESS):
        lifecycle.spawn(host, make_server(**changes), no_events)
    assert "create_namespace" not in world.calls
    assert world.leftovers() == NOTHING


def test_a_broken_image_is_hopeless_and_leaves_nothing(world):
    host = make_host(world, download=lambda _image: iter([b"this is no image"]))

    with pytest.raises(lifecycle.HOPELESS):
        lifecycle.spawn(host, make_server(), no_events)
    assert world.leftovers() == NOTHING
    assert not world.images


def test_an_absent_engine_is_not_hopeless(world, host):
    world.engine_up = False

    with pytest.raises(EngineUnavailable) as caught:
        lifecycle.spawn(host, make_server(), no_events)
    assert not isinstance(caught.value, lifecycle.HOPELESS)


def test_the_second_server_shares_the_first_ones_image(world, host):
    image = Image(id="i", name="i", container_format="docker", checksum="0" * 128)
    lifecycle.spawn(host, make_server(image=image), no_events)
    other = "1fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11"
    lifecycle.spawn(host, make_server(other, image=image), no_events)

    assert world.calls.count("load_image") == 1


@pytest.mark.parametrize(("hard", "stop"), [(False, "stop 30"), (True, "stop 0")])
@pytest.mark.parametrize("before", list(PowerState)[:3])
def test_a_reboot_keeps_container_and_links_whatever_the_state(world, host, hard, stop, before):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    identity = world.containers[server.container_name].id
    if before is PowerState.PAUSED:
        lifecycle.pause(host, server)
    if before is PowerState.SHUTDOWN:
        lifecycle.stop(host, server, 0)
    links = dict(world.links)
    world.calls.clear()

    lifecycle.reboot(host, server, hard=hard)

    assert stop in world.calls
    assert world.links == links
    assert world.containers[server.container_name].id == identity
    assert world.containers[server.container_name].state is PowerState.RUNNING


def test_a_server_starts_after_the_machine_rebooted(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    wired = dict(world.wired)
    world.reboot_machine()

    lifecycle.start(host, server)

    assert world.containers[server.container_name].state is PowerState.RUNNING
    assert world.wired == wired


def test_a_server_without_a_container_cannot_start(world, host):
    with pytest.raises(NotFound):
        lifecycle.start(host, make_server())
    assert world.leftovers() == NOTHING


def test_pause_and_unpause_may_be_repeated(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    for work, state in ((lifecycle.pause, PowerState.PAUSED), (lifecycle.unpause, PowerState.RUNNING)):
        for _ in range(2):
            work(host, server)
            assert host.audit.get_state(server.uuid, fresh=False) is state


def test_a_stopped_server_is_off_the_network_until_it_starts(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)

    lifecycle.stop(host, server, 0)
    assert world.silent == {port.device for port in server.ports}

    lifecycle.start(host, server)
    assert not world.silent


def test_processes_that_could_not_be_frozen_are_caught_at_the_next_attempt(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    world.calls.clear()
    world.fault = Fault(2, lambda: EngineError("unable to freeze"))  # the first one only looks
    lifecycle.pause(host, server)
    assert world.containers[server.container_name].state is PowerState.PAUSED
    assert world.calls.count("pause") == 2


def test_a_stopped_server_cannot_be_paused(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events, power_on=False)
    for work in (lifecycle.pause, lifecycle.unpause):
        with pytest.raises(Conflict):
            work(host, server)


def test_a_running_server_gets_back_a_port_that_the_switch_lost(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    world.switch.clear()

    interfaces.replug(host, server)

    assert len(world.switch) == 2


def test_a_port_that_cannot_be_had_keeps_no_other_waiting(world, host, monkeypatch, caplog):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    world.switch.clear()
    plug = ovs.plug

    def refuse_one(of, port):
        if port == server.ports[0]:
            raise ovs.PlugError("no host has it")
        plug(of, port)

    monkeypatch.setattr(ovs, "plug", refuse_one)
    interfaces.replug(host, server)
    assert list(world.switch) == [server.ports[1].device]
    assert "no host has it" in caplog.text


def test_a_stopped_or_missing_server_is_not_replugged(world, host):
    server = make_server()
    interfaces.replug(host, server)
    lifecycle.spawn(host, server, no_events, power_on=False)
    world.switch.clear()
    interfaces.replug(host, server)

    assert not world.switch


def test_clean_up_may_leave_the_ports(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)

    lifecycle.clean_up(host, server, keep_ports=True)
    assert not world.containers
    assert len(world.switch) == 2
    lifecycle.clean_up(host, server, keep_ports=False)
    assert world.leftovers() == NOTHING


def test_destroy_finds_what_nova_has_forgotten(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)

    lifecycle.destroy(host, make_server(ports=()))
    assert world.leftovers() == NOTHING


def test_destroy_finds_ports_by_labels_after_the_links_are_gone(world, host):
    lifecycle.spawn(host, make_server(), no_events)
    world.reboot_machine()

    lifecycle.destroy(host, make_server(ports=()))
    assert world.leftovers() == NOTHING


def test_destroy_leaves_a_port_that_another_server_has_by_now(world, host):
    ports = make_server().ports
    lifecycle.spawn(host, make_server(), no_events)
    other = make_server("1fd4b8b6-77f4-4d43-9d49-6d9a4d9f3e11", ports=ports[:1])
    lifecycle.spawn(host, other, no_events)

    lifecycle.destroy(host, make_server())
    assert world.links == {ports[0].device: other.container_name}
    assert world.switch == {ports[0].device: other.uuid}


def test_a_server_that_is_stopped_does_not_wait_for_its_start_after_a_reboot_from_inside(host) -> None:
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    with host.reboots.waiting(server.uuid) as still_waits:
        lifecycle.stop(host, server, 0)
        assert not still_waits()
        assert server.uuid not in host.reboots


def test_swap_of_a_flavor_is_given_or_refused(host, monkeypatch):
    server = make_server()
    server = replace(server, limits=replace(server.limits, swap_mb=64))
    monkeypatch.setattr(lifecycle.usage, "read_memory", lambda: Memory(1024, 512, swap_mb=100))
    assert lifecycle.place(host, server).limits.swap_mb == 64
    monkeypatch.setattr(lifecycle.usage, "read_memory", lambda: Memory(1024, 512))
    with pytest.raises(DockstackError, match="has swap, and this host has none"):
        lifecycle.place(host, server)
