# SPDX-License-Identifier: Apache-2.0
"""``bench boot``: servers beside their floors, interleaved, so that a noisy moment hits all of them alike."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.bench.floor import running_floor
from dockstack.bench.machine import describe_machine
from dockstack.bench.model import PREFIX, Boot, Measurements, RawRun
from dockstack.bench.raw import Engine
from dockstack.bench.servers import Recipe, delete_all, post, time_burst, time_server, wait_active
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLOOR_IMAGE = f"{PREFIX}floor"
UNLIMITED = -1
LOCK = Path("/run/lock/dockstack-bench.lock")


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    count: int
    burst: int
    warm_up: int
    image: str
    flavor: str
    network: str
    floor: bool = True


@dataclass(frozen=True)
class Ground:
    """What all samples share."""

    server: Recipe
    floor: Recipe | None
    floor_reason: str
    engine: Engine | None
    raw_image: str
    raw_reason: str


def measure(connection: Any, plan: Plan, say: Callable[[str], None]) -> Measurements:
    """Measure boots, deletes and bursts beside the fake driver and the bare engine; leave nothing behind.

    Raises:
        DockstackError: the cloud does not have what the plan names, or a server failed.
    """
    machine = describe_machine()
    with ExitStack() as stack:
        stack.enter_context(alone())
        delete_all(connection)
        stack.callback(delete_all, connection)
        stack.enter_context(roomy_quota(connection))
        ground = prepare(connection, plan, stack, say)
        server, floor, raw = interleave(connection, plan, ground, say)
        say("burst")
        burst = floor_burst = None
        if plan.burst:
            burst = time_burst(connection, ground.server, "burst", plan.burst, lambda text: say(f"burst: {text}"))
        if plan.burst and ground.floor:
            floor_burst = time_burst(
                connection, ground.floor, "floor-burst", plan.burst, lambda text: say(f"burst of the floor: {text}")
            )
        if ground.engine:
            machine["engine"] = ground.engine.version
        return Measurements(
            tuple(server), tuple(raw), tuple(floor), burst, floor_burst, ground.floor_reason, ground.raw_reason, machine
        )


@contextmanager
def alone() -> Iterator[None]:
    """Refuse to measure beside another benchmark; the kernel frees the lock when that one dies."""
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DockstackError("Another benchmark runs on this machine.", "Wait until it has ended.") from error
        yield


@contextmanager
def roomy_quota(connection: Any) -> Iterator[None]:
    """Lift the project's quota of servers while we measure: Nova's default is 10 servers."""
    project = connection.current_project_id
    before = connection.compute.get_quota_set(project)
    names = ("instances", "cores", "ram")
    connection.compute.update_quota_set(project, **dict.fromkeys(names, UNLIMITED))
    try:
        yield
    finally:
        connection.compute.update_quota_set(project, **{name: getattr(before, name) for name in names})


def prepare(connection: Any, plan: Plan, stack: ExitStack, say: Callable[[str], None]) -> Ground:
    """Find what to boot, warm the caches, and bring up the floors."""
    image = wanted(connection.image.find_image(plan.image), "image", plan.image)
    flavor = wanted(connection.compute.find_flavor(plan.flavor), "flavor", plan.flavor)
    network = wanted(connection.network.find_network(plan.network), "network", plan.network)
    server = Recipe(image.id, flavor.id, network.id, zone_of_real_hosts(connection))
    say("warming up")
    keeper = post(connection, server, "keeper")  # it keeps the image in the engine for the raw runs
    wait_active(connection, keeper.id)
    engine, raw_image, raw_reason = find_engine(keeper.id)
    floor, floor_reason = None, "not asked for"
    if plan.floor:
        try:
            zone = stack.enter_context(running_floor(connection, flavor.ram, max(plan.burst, 1), say))
            stack.callback(delete_all, connection)
            floor_image = make_floor_image(connection, stack)
            floor, floor_reason = Recipe(floor_image, flavor.id, network.id, zone), ""
        except DockstackError as error:
            floor_reason = f"{error}\n{error.details}".strip()
    return Ground(server, floor, floor_reason, engine, raw_image, raw_reason)


def wanted(found: Any, kind: str, name: str) -> Any:
    """Return what was found, or say that it is not there."""
    if found is None:
        raise DockstackError(
            f"The cloud has no {kind} {name!r}.", f"See `openstack {kind} list`; name one with --{kind}."
        )
    return found


def zone_of_real_hosts(connection: Any) -> str:
    """Return the availability zone of the compute services that run."""
    services = connection.compute.services(binary="nova-compute")
    zones = sorted(
        {each.availability_zone for each in services if each.state == "up" and not each.host.startswith(PREFIX)}
    )
    if not zones:
        raise DockstackError("No compute service is up.", "See `dockstack status`.")
    return str(zones[0])


def find_engine(server_id: str) -> tuple[Engine | None, str, str]:
    """Return the engine and the image that a server's container runs, or why the raw runs cannot be done."""
    try:
        engine = Engine()
        engine.clean()
        return engine, engine.image_of(server_id), ""
    except DockstackError as error:
        return None, "", str(error)


def make_floor_image(connection: Any, stack: ExitStack) -> str:
    """Make an image without properties: the fake driver never reads it, and no filter may turn its host away."""
    for old in connection.image.images(name=FLOOR_IMAGE):
        connection.image.delete_image(old.id)
    image = connection.image.create_image(
        name=FLOOR_IMAGE, data=b"\0" * 512, disk_format="raw", container_format="bare", allow_duplicates=True
    )
    stack.callback(connection.image.delete_image, image.id)
    return str(image.id)


def interleave(
    connection: Any, plan: Plan, ground: Ground, say: Callable[[str], None]
) -> tuple[list[Boot], list[Boot], list[RawRun]]:
    """Take one sample of each kind a round; the rounds of the warm-up are thrown away."""
    server: list[Boot] = []
    floor: list[Boot] = []
    raw: list[RawRun] = []
    for number in range(-plan.warm_up, plan.count):
        say(f"warm-up {number + plan.warm_up + 1}" if number < 0 else f"round {number + 1} of {plan.count}")
        boot = time_server(connection, ground.server, f"server-{number}")
        fake = time_server(connection, ground.floor, f"floor-{number}") if ground.floor else None
        bare = ground.engine.time_run(ground.raw_image) if ground.engine else None
        if number >= 0:
            server.append(boot)
            floor += [fake] if fake else []
            raw += [bare] if bare else []
    return server, floor, raw
