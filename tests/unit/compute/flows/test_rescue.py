# SPDX-License-Identifier: Apache-2.0
"""Rescue, suspend and crash dump; and what is left of a rescue when any step of it fails or dies."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fake_flows import UUID, make_host, make_server, no_events

from dockstack.compute.containers import signals
from dockstack.compute.engine import Conflict, EngineError
from dockstack.compute.flows import cold_migration, crash_dump, lifecycle, recovery, rescue, resize, snapshot
from dockstack.compute.host import originals
from dockstack.compute.host.set_aside import name_rescued
from dockstack.compute.model import Destination, Image, PowerState
from dockstack.compute.privileged import subvolumes
from fake_host import Fault, Killed

NAME, ASIDE = f"nova-{UUID}", f"nova-{UUID}-original"
IMAGE = "6f9f2f0e-9d7c-4b8c-8b36-6a4f0e3d6c11"
NOTHING = {"containers": [], "namespaces": [], "links": [], "switch": [], "patches": [], "spools": []}
RESCUER = Image(id="7e5c0e00-0000-4000-8000-000000000000", name="rescuer", container_format="docker")
pytestmark = pytest.mark.unit


@pytest.fixture
def server(host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    lifecycle.stop(host, server, 0)
    return server


def rescuing(server):
    return replace(server, image=RESCUER)


def patch_of(world, name):
    return json.loads((world.patches / f"{world.containers[name].id}.json").read_text())


def test_the_rescuer_takes_the_servers_place_and_gets_its_root(world, host, server):
    links, original = dict(world.links), world.containers[NAME]

    rescue.begin(host, rescuing(server))
    assert name_rescued(UUID) == ASIDE
    assert world.containers[ASIDE].id == original.id
    assert world.containers[ASIDE].state is PowerState.SHUTDOWN
    assert world.containers[NAME].state is PowerState.RUNNING
    (overlay,) = patch_of(world, NAME)["overlays"]
    assert overlay["upper"] == original.layers.upper
    assert overlay["destination"] == "/mnt/rescue"
    assert not (world.patches / f"{original.id}.json").exists(), "it cannot be started beside"
    assert world.links == links
    assert not world.silent
    assert host.audit.get_state(UUID, fresh=True) is PowerState.RUNNING
    assert len(host.audit.list_servers()) == 1

    lifecycle.reboot(host, replace(server, rescued=True), hard=True)
    assert patch_of(world, NAME)["overlays"] == [overlay]

    for _ in range(2):
        rescue.end(host, server)
        assert world.containers[NAME].id == original.id
        assert ASIDE not in world.containers
        assert patch_of(world, NAME)["overlays"] == []
        assert world.containers[NAME].state is PowerState.RUNNING


def test_a_running_server_is_stopped_before_its_files_are_given_away(world, host):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    rescue.begin(host, rescuing(server))
    assert world.containers[ASIDE].state is PowerState.SHUTDOWN


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_rescue_that_fails_at_any_step_gives_the_server_back(world, host, server, after):
    identity = world.containers[NAME].id
    for _ in range(2):  # the first one also loads the image
        world.calls.clear()
        rescue.begin(host, rescuing(server))
        steps = len(world.calls)
        originals.restore(host, server)

    for step in range(1, steps + 1):
        lifecycle.stop(host, server, 0)
        world.calls.clear()
        world.fault = Fault(step, lambda: EngineError("step failed"), after=after)
        with pytest.raises(EngineError, match="step failed"):
            rescue.begin(host, rescuing(server))
        world.fault = None
        assert world.containers[NAME].id == identity, f"step {step}: {world.calls}"
        assert len(world.containers) == 1
        lifecycle.start(host, server)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("work", [rescue.begin, rescue.end])
def test_a_rescue_or_its_end_killed_at_any_step_is_taken_up_or_taken_back(world, host, server, work, after):
    identity = world.containers[NAME].id
    rescue.begin(host, rescuing(server))  # loads the image
    if work is rescue.begin:
        originals.restore(host, server)
    world.calls.clear()
    work(host, rescuing(server))
    steps = len(world.calls)

    for step in range(1, steps + 1):
        world.revive()
        originals.restore(host, server)
        if work is rescue.end:
            rescue.begin(host, rescuing(server))
        world.calls.clear()
        world.fault = Fault(step, Killed, after=after)
        with pytest.raises(Killed):
            work(host, rescuing(server))
        world.revive()
        restarted = make_host(world)
        if step % 2:
            rescue.begin(restarted, rescuing(server))
            assert world.containers[ASIDE].id == identity
        rescue.end(restarted, server)
        assert world.containers[NAME].id == identity, f"killed at step {step}"
        assert list(world.containers) == [NAME]


@pytest.mark.parametrize(
    ("work", "runs"),
    [
        (lifecycle.start, True),
        (lambda host, server: lifecycle.reboot(host, server, hard=True), True),
        (lambda host, server: lifecycle.stop(host, server, 0), False),
        (lambda host, server: snapshot.take(host, server, IMAGE, lambda _taken: None), True),
        (lambda host, server: resize.begin(host, server, server, 0), False),
        (lambda host, server: resize.fit(host, server, power_on=True), True),
    ],
    ids=["start", "reboot", "stop", "snapshot", "resize", "end of a resize"],
)
def test_whatever_meets_a_rescue_that_nova_does_not_know_of_has_the_server_itself(world, host, server, work, runs):
    identity = world.containers[NAME].id
    rescue.begin(host, rescuing(server))
    work(host, server)
    assert world.containers[NAME].id == identity
    assert list(world.containers) == [NAME]
    assert (world.containers[NAME].state is PowerState.RUNNING) == runs


def test_a_move_of_a_server_whose_rescue_nova_does_not_know_of_sends_the_servers_own_files(host, server, monkeypatch):
    identity = host.container(UUID).id
    rescue.begin(host, rescuing(server))
    sent = []

    class Channel:
        address = "there"

        def greet(self):
            return {}

        def drop(self, _uuid):
            pass

        def seal(self, *_sealed):
            raise EngineError("the other host is gone")

    monkeypatch.setattr(cold_migration, "open_channel", lambda *_where: Channel())
    monkeypatch.setattr(cold_migration, "_refuse_unfit", lambda *_hosts: None)
    monkeypatch.setattr(
        cold_migration, "_send", lambda _host, _server, container, *_rest, **_more: sent.append(container.id) or Parts()
    )
    with pytest.raises(EngineError, match="the other host is gone"):
        cold_migration.send(host, server, server, Destination("there", "there"), image=None, timeout=0)
    assert sent == [identity]
    assert host.container(UUID).state is PowerState.RUNNING, "it runs again as something did before"


class Parts:
    def encode(self):
        return ""


@pytest.mark.parametrize(
    ("nova_says", "becomes"),
    [
        (lambda server: recovery.Unrescued(server, runs=True), (True, PowerState.RUNNING)),
        (lambda server: recovery.Unrescued(server, runs=False), (True, PowerState.SHUTDOWN)),
        (lambda _server: None, (False, PowerState.RUNNING)),
    ],
    ids=["to run", "stopped", "rescued"],
)
def test_recovery_ends_only_rescues_that_nova_does_not_know_of(world, host, server, nova_says, becomes):
    identity = world.containers[NAME].id
    rescue.begin(host, rescuing(server))
    recovery.end_unknown_rescues(host, host.engine.containers(), lambda _uuid: nova_says(server))
    assert (world.containers[NAME].id == identity, world.containers[NAME].state) == becomes


def test_a_rescued_server_is_destroyed_whole(world, host, server):
    rescue.begin(host, rescuing(server))
    lifecycle.destroy(host, server)
    assert world.leftovers() == NOTHING


def test_a_rescued_server_that_nova_has_no_more_is_swept_whole(world, host, server):
    rescue.begin(host, rescuing(server))
    recovery.sweep(host, recovery.Claims(kept=("x",), abandoned=(), has_left=lambda _uuid: True))
    assert world.leftovers() == NOTHING


def on(host, storage_driver):
    facts = replace(host.facts(), storage_driver=storage_driver, root_directory="/data")
    return replace(host, facts=lambda: facts)


def test_where_nobody_gets_at_a_root_nothing_is_touched(world, host, server):
    with pytest.raises(rescue.Unrescuable, match="overlay2 and btrfs"):
        rescue.begin(on(host, "vfs"), rescuing(server))
    assert list(world.containers) == [NAME]


def test_on_btrfs_the_rescuer_gets_the_subvolume(world, host, server, monkeypatch):
    monkeypatch.setattr(subvolumes, "locate", lambda root, identity: f"{root}/btrfs/subvolumes/{identity}")
    monkeypatch.setattr(subvolumes, "limit", lambda *_call: None)
    world.containers[NAME] = replace(world.containers[NAME], layers=None)
    identity = world.containers[NAME].id
    rescue.begin(on(host, "btrfs"), rescuing(server))
    patch = patch_of(world, NAME)
    assert patch["roots"] == [{"source": f"/data/btrfs/subvolumes/{identity}", "destination": "/mnt/rescue"}]
    assert patch["overlays"] == []
    assert patch["disk_guard"] == "btrfs"
    rescue.end(on(host, "overlay2"), server)
    assert patch_of(world, NAME)["disk_guard"] == ""


def test_a_suspended_server_goes_on_or_is_started(world, host, server):
    lifecycle.start(host, server)
    lifecycle.pause(host, server)
    assert lifecycle.resume(host, server)
    assert not world.silent
    lifecycle.pause(host, server)
    world.reboot_machine()
    assert not lifecycle.resume(host, server)
    assert world.containers[NAME].state is PowerState.RUNNING


def test_a_crash_signal_is_the_images_or_the_servers(world, host, monkeypatch):
    server = make_server()
    lifecycle.spawn(host, server, no_events)
    monkeypatch.setattr(signals, "is_handled", lambda _pid, name: name != "SIGQUIT")
    crash_dump.dump(host, server)
    assert "kill SIGABRT" in world.calls
    crash_dump.dump(host, replace(server, metadata={"docker_crash_signal": "SIGUSR1"}))
    assert "kill SIGUSR1" in world.calls
    with pytest.raises(crash_dump.Undumpable, match="docker_crash_signal"):
        crash_dump.dump(host, replace(server, metadata={"docker_crash_signal": "SIGQUIT"}))
    lifecycle.stop(host, server, 0)
    with pytest.raises(crash_dump.Undumpable):
        crash_dump.dump(host, server)


def test_a_suspend_of_a_stopped_server_is_refused(host, server):
    with pytest.raises(Conflict):
        lifecycle.pause(host, server)
