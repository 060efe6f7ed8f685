# SPDX-License-Identifier: Apache-2.0
"""``bench density``: what idle servers cost by their number, beside as many containers without OpenStack."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.table import Table

from dockstack.bench.control_plane_baseline import find_running_compute, is_of_this_host, runs_beside_us
from dockstack.bench.fixture import set_up, zone_of_real_hosts
from dockstack.bench.machine import describe_machine
from dockstack.bench.model import PREFIX, verdict
from dockstack.bench.servers import delete_all, post_many, time_server, wait_settled
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dockstack.bench.engine_baseline import EngineBaseline
    from dockstack.bench.fixture import Fixture, Request

NETWORK = f"{PREFIX}density"
CIDR = "10.78.0.0/20"  # room for four thousand ports; it is routed nowhere
ROOMY_RATIO = 1000.0
BATCH = 20
LATENCY_SAMPLES = 3
LISTINGS = 5
ENGINE = ("dockerd", "containerd")  # and its shims; plain containers need them, too
GOAL_MEMORY = 1.10  # of raw Docker's
GOAL_CPU = 0.02  # of a core
MIB = 1 << 20


@dataclass(frozen=True)
class Level:
    """What a number of idle servers costs.

    Attributes:
        memory_mib: of the whole machine, a server.
        services_mib: of that, the growth of the cloud's own processes since before the first server.
        raw_memory_mib: of the whole machine, a container without OpenStack.
        boot_seconds: POST to ACTIVE of one more server.
        compute_cpu: share of one core that nova-compute takes while no request comes.
        engine_cpu: the same of the engine.
        listing_seconds: one listing of all containers, which is what each periodic audit costs.
    """

    servers: int
    memory_mib: float
    services_mib: float
    raw_memory_mib: float
    boot_seconds: float
    compute_cpu: float
    engine_cpu: float
    listing_seconds: float


@dataclass(frozen=True)
class Weights:
    """Memory in use without a server, MiB: of the whole machine, of the cloud's services, and of a plain container."""

    machine: float
    services: float
    container: float = 0


@dataclass(frozen=True)
class Densities:
    """All levels, and what ended the climb before the last one, if anything did."""

    levels: tuple[Level, ...]
    ended: str = ""
    machine: dict[str, Any] = field(default_factory=dict)


def measure(
    connection: Any, request: Request, steps: Sequence[int], idle_seconds: float, say: Callable[[str], None]
) -> Densities:
    """Climb to each number of servers and weigh it there; first with plain containers, then with servers.

    Args:
        connection: an administrator's.
        request: what to boot; the network is one of the benchmark's own.
        steps: the numbers of servers, rising.
        idle_seconds: how long to look at the processor time of idle servers.
        say: told what goes on.

    Raises:
        DockstackError: the cloud or its engine are not on this machine, or no level was reached.
    """
    machine = describe_machine()
    with ExitStack() as stack:
        network = stack.enter_context(_roomy_network(connection))
        stack.enter_context(_roomy_hosts(connection))
        fixture = stack.enter_context(set_up(connection, replace(request, network=network, baseline=False), say))
        if fixture.engine is None:
            raise DockstackError("The engine of the cloud is not on this machine.", fixture.engine_reason)
        raw = _weigh_containers(fixture.engine, fixture.engine_image, steps, idle_seconds, say)
        levels: list[Level] = []
        before = Weights(used_memory_mib(), services_memory_mib())
        for count in steps:
            if ended := _climb(connection, fixture, count, say):
                return Densities(tuple(levels), ended, machine)
            say(f"{count} servers: watching them idle")
            levels.append(
                _weigh_servers(connection, fixture, fixture.engine, replace(before, container=raw[count]), idle_seconds)
            )
        return Densities(tuple(levels), "", machine)


def used_memory_mib() -> float:
    """Return the memory of this machine that is not available."""
    memory = psutil.virtual_memory()
    return float(memory.total - memory.available) / MIB


def services_memory_mib() -> float:
    """Return the proportional set size of this machine's processes, without this one, the engine's and containers'."""
    found = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it ended meanwhile
            apart = process.pid == os.getpid() or process.name().startswith(ENGINE)
            if not apart and runs_beside_us(process.pid):
                found += process.memory_full_info().pss
    return found / MIB


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has taken, in user and system mode, of all its threads."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def find_processes(name: str) -> list[int]:
    """Return the processes of this machine's own host whose command has this name."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it ended meanwhile
            if name in {Path(each).name for each in process.cmdline()[:2] if each} and is_of_this_host(process.pid):
                found.append(process.pid)
    return found


def _weigh_containers(
    engine: EngineBaseline, image: str, steps: Sequence[int], idle_seconds: float, say: Callable[[str], None]
) -> dict[int, float]:
    """Run as many containers of the same image without OpenStack, and return the memory of each by their number."""
    weights = {}
    before, running = used_memory_mib(), 0
    try:
        for count in steps:
            while running < count:
                engine.run_idle(image)
                running += 1
                say(f"plain containers: {running} of {count}")
            _let_settle(idle_seconds)
            weights[count] = (used_memory_mib() - before) / count
    finally:
        say("removing the plain containers")
        engine.clean()
    return weights


def _let_settle(idle_seconds: float) -> None:
    """Wait until what containers start has started."""
    time.sleep(min(idle_seconds, 10))


def _climb(connection: Any, fixture: Fixture, count: int, say: Callable[[str], None]) -> str:
    """Boot servers until there are ``count``; return why that many do not fit, or nothing."""
    present = len(wait_settled(connection, "idle", 0, say))
    while present < count:
        more = min(BATCH, count - present)
        post_many(connection, fixture.server, f"idle-{present}", more)
        present += more
        settled = wait_settled(connection, "idle", present, lambda text: say(f"servers: {text}"))
        failed = [server for server in settled if server.status != "ACTIVE"]
        if failed:
            fault = connection.compute.get_server(failed[0].id).fault or {}
            return f"{len(settled) - len(failed)} servers run; the next: {fault.get('message', failed[0].status)}"
    return ""


def _weigh_servers(
    connection: Any, fixture: Fixture, engine: EngineBaseline, before: Weights, idle_seconds: float
) -> Level:
    """Measure the memory of the servers that run; ``before``: the same without servers."""
    count = len(wait_settled(connection, "idle", 0, lambda _text: None))
    _let_settle(idle_seconds)
    memory = (used_memory_mib() - before.machine) / count
    services = (services_memory_mib() - before.services) / count
    compute, dockerd = watch([[find_running_compute().pid], find_processes("dockerd")], idle_seconds)
    boots = [time_server(connection, fixture.server, f"more-{number}").active for number in range(LATENCY_SAMPLES)]
    listing = statistics.median(engine.time_listing() for _ in range(LISTINGS))
    return Level(count, memory, services, before.container, statistics.median(boots), compute, dockerd, listing)


def watch(groups: Sequence[Sequence[int]], seconds: float) -> list[float]:
    """Return which share of one core each group of processes takes in the next seconds."""
    began = [sum(map(processor_seconds, pids)) for pids in groups]
    started = time.monotonic()
    time.sleep(seconds)
    lasted = time.monotonic() - started
    return [(sum(map(processor_seconds, pids)) - first) / lasted for pids, first in zip(groups, began, strict=True)]


@contextmanager
def _roomy_network(connection: Any) -> Iterator[str]:
    """Make a network with addresses for thousands; it goes with the benchmark."""
    delete_all(connection)
    for old in connection.network.networks(name=NETWORK):
        connection.network.delete_network(old.id)
    project = connection.current_project_id
    before = connection.network.get_quota(project).ports
    connection.network.update_quota(project, ports=-1)
    network = connection.network.create_network(name=NETWORK)
    try:
        connection.network.create_subnet(network_id=network.id, ip_version=4, cidr=CIDR, gateway_ip=None)
        yield NETWORK
    finally:
        delete_all(connection)
        connection.network.delete_network(network.id)
        connection.network.update_quota(project, ports=before)


@contextmanager
def _roomy_hosts(connection: Any) -> Iterator[None]:
    """Raise the hosts' overcommit of cores and disk for the time of the block: idle servers need neither."""
    zone = zone_of_real_hosts(connection)
    hosts = {
        service.host
        for service in connection.compute.services(binary="nova-compute")
        if service.availability_zone == zone
    }
    providers = [each for each in connection.placement.resource_providers() if each.name in hosts]
    with ExitStack() as stack:
        for provider in providers:
            for kind in ("VCPU", "DISK_GB"):
                before = _set_ratio(connection, provider.id, kind, ROOMY_RATIO)
                stack.callback(_set_ratio, connection, provider.id, kind, before)
        yield


def _set_ratio(connection: Any, provider_id: str, kind: str, ratio: float) -> float:
    """Set a provider's overcommit of a resource class; return what it was."""
    path = f"/resource_providers/{provider_id}/inventories/{kind}"
    found = connection.placement.get(path).json()
    document = {key: value for key, value in found.items() if key != "allocation_ratio"}
    changed = connection.placement.put(path, json=document | {"allocation_ratio": ratio})
    if changed.status_code >= 400:  # noqa: PLR2004 - HTTP
        raise DockstackError(f"Placement did not take another overcommit of {kind}.", details=changed.text)
    return float(found["allocation_ratio"])


def table_of(measured: Densities) -> Table:
    """Build the table: a row a number of servers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (
        "servers",
        "MiB a server",
        "the services' part",
        "MiB a plain container",
        "ratio",
        "boot s",
        "nova-compute, % of a core",
        "engine, % of a core",
        "listing ms",
    ):
        table.add_column(title, justify="right")
    for level in measured.levels:
        table.add_row(
            str(level.servers),
            f"{level.memory_mib:.1f}",
            f"{level.services_mib:.1f}",
            f"{level.raw_memory_mib:.1f}",
            f"{level.memory_mib / level.raw_memory_mib:.2f}",
            f"{level.boot_seconds:.2f}",
            f"{100 * level.compute_cpu:.1f}",
            f"{100 * level.engine_cpu:.1f}",
            f"{1000 * level.listing_seconds:.0f}",
        )
    return table


def notes_of(measured: Densities) -> list[str]:
    """Say whether the goals are met at the highest level, and what ended the climb."""
    notes = [f"ended early: {measured.ended}"] if measured.ended else []
    if measured.levels:
        top = measured.levels[-1]
        ratio, share = top.memory_mib / top.raw_memory_mib, 100 * top.compute_cpu
        notes.append(
            f"goal {verdict(met=ratio <= GOAL_MEMORY)}: {top.servers} servers take {ratio:.2f} x the memory of as many "
            f"plain containers, at most {GOAL_MEMORY:.2f} is wanted; without what the cloud's services grew by, "
            f"{(top.memory_mib - top.services_mib) / top.raw_memory_mib:.2f} x"
        )
        notes.append(
            f"goal {verdict(met=top.compute_cpu <= GOAL_CPU)}: nova-compute takes {share:.1f} % of a core, "
            f"at most {100 * GOAL_CPU:.0f} % is wanted"
        )
    return notes


def document_of(measured: Densities) -> dict[str, Any]:
    """Build the document for machines."""
    return asdict(measured) | {"notes": notes_of(measured)}
