# SPDX-License-Identifier: Apache-2.0
"""Another flavor on the same host, and what is left when any step of it fails or dies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_flows import UUID, make_host, make_server, no_events

from dockstack.compute.engine import EngineError, NotFound
from dockstack.compute.flows import lifecycle, resize
from dockstack.compute.model import Confinement, Limits, PowerState
from dockstack.compute.privileged import subvolumes
from dockstack.errors import DockstackError
from fake_host import Fault, Killed

OLD = Limits(vcpus=1, memory_mb=64, disk_gb=1)
NEW = Limits(vcpus=2, memory_mb=128, disk_gb=2, pids=100)
NAME = f"nova-{UUID}"
pytestmark = pytest.mark.unit


def sized(limits: Limits):
    return make_server(limits=limits)


def memory_mb(world) -> int:
    return world.containers[NAME].host_config["Memory"] >> 20


@pytest.fixture
def booted(world, host):
    lifecycle.spawn(host, sized(OLD), no_events)
    world.calls.clear()
    return world.containers[NAME].id


def test_a_running_server_gets_more_while_it_runs(world, host, booted):
    resize.begin(host, sized(OLD), sized(NEW), 60)
    resize.fit(host, sized(NEW), power_on=True)

    container = world.containers[NAME]
    assert container.id == booted
    assert container.host_config["CpuQuota"] == 200_000
    assert container.host_config["PidsLimit"] == 100
    assert memory_mb(world) == 128
    assert world.calls == ["container", "container", "update"]


def test_a_revert_is_the_same_step_back(world, host, booted):
    before = world.containers[NAME]
    resize.begin(host, sized(OLD), sized(NEW), 60)
    resize.fit(host, sized(NEW), power_on=True)
    resize.fit(host, sized(OLD), power_on=True)

    assert world.containers[NAME] == before


def test_a_server_that_holds_more_than_it_will_have_is_restarted(world, host, booted):
    world.memory_in_use = 50 << 20
    small = replace(OLD, memory_mb=32)

    resize.begin(host, sized(OLD), sized(small), 7)
    assert world.containers[NAME].state is PowerState.SHUTDOWN
    assert "stop 7" in world.calls
    resize.fit(host, sized(small), power_on=True)

    assert world.containers[NAME].state is PowerState.RUNNING
    assert memory_mb(world) == 32


def test_a_server_that_the_engine_will_not_change_live_is_restarted(world, host, booted):
    world.fault = Fault(2, lambda: EngineError("device or resource busy"))  # the update
    resize.fit(host, sized(NEW), power_on=True)

    assert "stop 30" in world.calls
    assert world.containers[NAME].state is PowerState.RUNNING
    assert memory_mb(world) == 128


def test_a_stopped_server_stays_stopped(world, host, booted):
    lifecycle.stop(host, sized(OLD), 0)
    resize.begin(host, sized(OLD), sized(NEW), 60)
    resize.fit(host, sized(NEW), power_on=False)

    assert world.containers[NAME].state is PowerState.SHUTDOWN
    assert memory_mb(world) == 128


@pytest.mark.parametrize(
    ("new", "problem"),
    [
        (sized(replace(NEW, disk_gb=0)), "cannot shrink to 0 GB"),
        (sized(replace(NEW, nofile=1024)), "docker:nofile_limit.* cannot change"),
        (replace(sized(NEW), confinement=Confinement(no_new_privileges=True)), "confinement .* cannot change"),
        (sized(replace(NEW, memory_mb=1)), "cannot have 1 MB"),
    ],
)
def test_what_is_impossible_is_refused_before_anything_is_touched(world, host, booted, new, problem):
    before = world.containers[NAME]
    with pytest.raises(DockstackError, match=problem):
        resize.begin(host, sized(OLD), new, 60)

    assert world.containers[NAME] == before
    assert world.calls == []


def test_a_server_without_a_container_is_missed(host):
    for call in (
        lambda: resize.begin(host, sized(OLD), sized(NEW), 1),
        lambda: resize.fit(host, sized(NEW), power_on=True),
    ):
        with pytest.raises(NotFound):
            call()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", [lambda: EngineError("step failed"), Killed], ids=["error", "kill"])
@pytest.mark.parametrize("verdict", [OLD, NEW], ids=["reverted", "kept"])
def test_a_resize_broken_off_at_any_step_ends_as_nova_says(world, host, verdict, error, after):
    lifecycle.spawn(host, sized(OLD), no_events)
    world.memory_in_use = 100 << 20  # so that all of it is done with a restart
    step = 0
    while True:
        step += 1
        world.calls.clear()
        world.fault = Fault(step, error, after=after)
        try:
            resize.begin(host, sized(OLD), sized(NEW), 0)
            resize.fit(host, sized(NEW), power_on=True)
        except (EngineError, Killed):
            pass
        finished = len(world.calls) < step
        world.revive()
        restarted = make_host(world)
        lifecycle.reboot(restarted, sized(verdict), hard=True)
        assert world.containers[NAME].state is PowerState.RUNNING, f"step {step}"
        assert memory_mb(world) == verdict.memory_mb, f"step {step}"
        lifecycle.reboot(restarted, sized(OLD), hard=True)
        if finished:
            break
    lifecycle.destroy(restarted, sized(verdict))
    assert not any(world.leftovers().values())


def test_a_start_sets_the_limits_that_nova_says(world, host, booted):
    lifecycle.stop(host, sized(OLD), 0)
    world.calls.clear()
    lifecycle.start(host, sized(OLD))
    assert "update" not in world.calls, "nothing to change"
    lifecycle.reboot(host, sized(NEW), hard=True)
    assert memory_mb(world) == 128


def on(host, storage_driver):
    facts, storage = replace(host.facts(), storage_driver=storage_driver, root_directory="/data"), host.storage()
    return replace(host, facts=lambda: facts, storage=lambda: replace(storage, sized=True))


def test_a_disk_with_a_limit_grows_only_where_that_can_change(world, host, booted, monkeypatch):
    held = []
    monkeypatch.setattr(subvolumes, "limit", lambda *call: held.append(call))
    with pytest.raises(resize.Unresizable, match="disk cannot change"):
        resize.begin(on(host, "overlay2"), sized(OLD), sized(NEW), 60)
    resize.begin(on(host, "overlay2"), sized(OLD), sized(replace(NEW, disk_gb=1)), 60)
    resize.begin(on(host, "btrfs"), sized(OLD), sized(NEW), 60)
    resize.fit(on(host, "btrfs"), sized(NEW), power_on=True)
    assert held == [("/data", world.containers[NAME].id, 2 << 30)]


def test_storage_that_is_not_as_it_should_be_is_named(host, booted, monkeypatch):
    def fail(*_call):
        raise FileNotFoundError(2, "No such file", "/data/image/btrfs")

    monkeypatch.setattr(subvolumes, "limit", fail)
    with pytest.raises(DockstackError, match="does not give access to container nova-"):
        resize.fit(on(host, "btrfs"), sized(NEW), power_on=True)
