# SPDX-License-Identifier: Apache-2.0
"""What every benchmark of servers stands on: nobody beside it, room for its servers, and the floors."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.bench.control_plane_baseline import running_floor
from dockstack.bench.engine_baseline import Engine
from dockstack.bench.model import PREFIX
from dockstack.bench.servers import Recipe, delete_all, post, wait_active
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLOOR_IMAGE = f"{PREFIX}floor"
UNLIMITED = -1
LOCK = Path("/run/lock/dockstack-bench.lock")


@dataclass(frozen=True)
class Wishes:
    """What a benchmark boots.

    Attributes:
        floor: whether to run the fake driver beside it.
        at_once: how many servers the fake driver's host has to hold at a time.
    """

    image: str
    flavor: str
    network: str
    floor: bool = True
    at_once: int = 1


@dataclass(frozen=True)
class Ground:
    """What all samples share."""

    server: Recipe
    floor: Recipe | None
    floor_reason: str
    engine: Engine | None
    raw_image: str
    raw_reason: str


@contextmanager
def standing(connection: Any, wishes: Wishes, say: Callable[[str], None]) -> Iterator[Ground]:
    """Have the machine to oneself, room for servers, and the floors; leave nothing behind.

    Raises:
        DockstackError: another benchmark runs, or the cloud does not have what is wished for.
    """
    with ExitStack() as stack:
        stack.enter_context(alone())
        delete_all(connection)
        stack.enter_context(roomy_quota(connection))
        stack.callback(delete_all, connection)  # before the quota goes back, which may not be below what is used
        yield prepare(connection, wishes, stack, say)


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


def prepare(connection: Any, wishes: Wishes, stack: ExitStack, say: Callable[[str], None]) -> Ground:
    """Find what to boot, warm the caches, and bring up the floors."""
    image = wanted(connection.image.find_image(wishes.image), "image", wishes.image)
    flavor = wanted(connection.compute.find_flavor(wishes.flavor), "flavor", wishes.flavor)
    network = wanted(connection.network.find_network(wishes.network), "network", wishes.network)
    server = Recipe(image.id, flavor.id, network.id, zone_of_real_hosts(connection))
    say("warming up")
    keeper = post(connection, server, "keeper")  # it keeps the image in the engine for the raw runs
    wait_active(connection, keeper.id)
    engine, raw_image, raw_reason = find_engine(keeper.id)
    floor, floor_reason = None, "not asked for"
    if wishes.floor:
        try:
            zone = stack.enter_context(running_floor(connection, flavor.ram, wishes.at_once, say))
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
