# SPDX-License-Identifier: Apache-2.0
"""The fixture of every benchmark of servers: a lock, a lifted quota, warm caches, and the two baselines.

The control-plane baseline is a second nova-compute with Nova's fake driver, the engine baseline a plain container. In
results files and tables they are called "floor" and "raw".
"""

from __future__ import annotations

import fcntl
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.bench.control_plane_baseline import running_baseline
from dockstack.bench.engine_baseline import EngineBaseline
from dockstack.bench.model import PREFIX
from dockstack.bench.servers import ServerTemplate, delete_all, post, wait_active
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BASELINE_IMAGE = f"{PREFIX}baseline"
UNLIMITED = -1
LOCK = Path("/run/lock/dockstack-bench.lock")


@dataclass(frozen=True)
class Request:
    """What a benchmark boots.

    Attributes:
        baseline: whether to run the control-plane baseline beside it.
        at_once: how many servers the fake driver's host has to hold at a time.
    """

    image: str
    flavor: str
    network: str
    baseline: bool = True
    at_once: int = 1


@dataclass(frozen=True)
class Fixture:
    """What all samples share.

    Attributes:
        server: what to boot on the real driver.
        baseline: what to boot on the control-plane baseline; None if it is not there.
        baseline_reason: why it is not.
        engine: the engine baseline; None if it is not there.
        engine_image: what its containers are made from.
        engine_reason: why it is not.
    """

    server: ServerTemplate
    baseline: ServerTemplate | None
    baseline_reason: str
    engine: EngineBaseline | None
    engine_image: str
    engine_reason: str


@contextmanager
def set_up(connection: Any, request: Request, say: Callable[[str], None]) -> Iterator[Fixture]:
    """Set the fixture up for as long as a benchmark runs; leave nothing behind.

    Raises:
        DockstackError: another benchmark runs, or the cloud lacks what the request names.
    """
    with ExitStack() as stack:
        stack.enter_context(alone())
        delete_all(connection)
        stack.enter_context(roomy_quota(connection))
        stack.callback(delete_all, connection)  # before the quota goes back, which may not be below what is used
        yield prepare(connection, request, stack, say)


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of benchmarks, or refuse; the kernel releases it when its holder ends."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)  # a container's /run may be an empty one
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


def prepare(connection: Any, request: Request, stack: ExitStack, say: Callable[[str], None]) -> Fixture:
    """Find what to boot, warm the caches, and bring up the baselines."""
    image = wanted(connection.image.find_image(request.image), "image", request.image)
    flavor = wanted(connection.compute.find_flavor(request.flavor), "flavor", request.flavor)
    network = wanted(connection.network.find_network(request.network), "network", request.network)
    server = ServerTemplate(image.id, flavor.id, network.id, zone_of_real_hosts(connection), host_here(connection))
    say("warming up")
    keeper = post(connection, server, "keeper")  # it keeps the image in the engine for the engine baseline
    wait_active(connection, keeper.id)
    engine, engine_image, engine_reason = find_engine(keeper.id)
    baseline, baseline_reason = None, "not asked for"
    if request.baseline:
        try:
            zone = stack.enter_context(running_baseline(connection, flavor.ram, request.at_once, say))
            stack.callback(delete_all, connection)
            baseline_image = make_baseline_image(connection, stack)
            baseline, baseline_reason = ServerTemplate(baseline_image, flavor.id, network.id, zone), ""
        except DockstackError as error:
            baseline_reason = f"{error}\n{error.details}".strip()
    return Fixture(server, baseline, baseline_reason, engine, engine_image, engine_reason)


def wanted(found: Any, kind: str, name: str) -> Any:
    """Return what was found, or say that it is not there."""
    if found is None:
        raise DockstackError(
            f"The cloud has no {kind} {name!r}.", f"See `openstack {kind} list`; name one with --{kind}."
        )
    return found


def zone_of_real_hosts(connection: Any) -> str:
    """Return the availability zone of the compute services that run, of this machine's own if it is one of them."""
    services = real_services(connection)
    own = [each for each in services if each.host == socket.gethostname()]
    return str(min(each.availability_zone for each in own or services))


def host_here(connection: Any) -> str | None:
    """Return this machine's own host where the cloud has more: its engine is the one that we can ask.

    None if there is nothing to choose, or this machine is no host.
    """
    hosts = {each.host for each in real_services(connection)}
    own = socket.gethostname()
    return own if own in hosts and len(hosts) > 1 else None


def real_services(connection: Any) -> list[Any]:
    """Return the compute services that run, without the baseline's."""
    services = connection.compute.services(binary="nova-compute")
    found = [each for each in services if each.state == "up" and not each.host.startswith(PREFIX)]
    if not found:
        raise DockstackError("No compute service is up.", "See `dockstack status`.")
    return found


def find_engine(server_id: str) -> tuple[EngineBaseline | None, str, str]:
    """Return the engine and the image that a server's container runs, or why there is no engine baseline."""
    try:
        engine = EngineBaseline()
        engine.clean()
        return engine, engine.image_of(server_id), ""
    except DockstackError as error:
        return None, "", str(error)


def make_baseline_image(connection: Any, stack: ExitStack) -> str:
    """Make an image without properties: the fake driver never reads it, and no filter may turn its host away."""
    for old in connection.image.images(name=BASELINE_IMAGE):
        connection.image.delete_image(old.id)
    image = connection.image.create_image(
        name=BASELINE_IMAGE, data=b"\0" * 512, disk_format="raw", container_format="bare", allow_duplicates=True
    )
    stack.callback(connection.image.delete_image, image.id)
    return str(image.id)
