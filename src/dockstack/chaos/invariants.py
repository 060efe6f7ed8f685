# SPDX-License-Identifier: Apache-2.0
"""What must be true when calm has returned: comparisons of what the APIs say with what the hosts hold; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.chaos.model import Category, Finding
from dockstack.names import NAME_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dockstack.chaos.model import Container, HostView, Nic, Survey, Truth

MIB = 1 << 20
TEMPORARY = ("spool-", "moving-", "images/")  # what the driver's state directory holds only while it works
STANDING = frozenset({"migrations/host.json"})  # what a host says of itself
LITTLE = 0.01  # of a processor


def check(survey: Survey) -> list[Finding]:
    """Return everything that is not as it must be."""
    found: list[Finding] = []
    for truth in survey.truths:
        found += _stuck(truth)
        if truth.status == "ACTIVE":
            found += _runs_once(survey, truth)
            found += _nics(survey, truth)
            found += _limits(survey, truth)
            found += _allocations(truth)
    found += _volumes(survey)
    found += _migrations(survey)
    found += _consumers(survey)
    for host in survey.hosts:
        found += _left_on_host(survey, host)
    found += _left_in_services(survey)
    return found


def _stuck(truth: Truth) -> Iterator[Finding]:
    if truth.task is not None:
        yield Finding(Category.STUCK, "no task state", truth.id, f"{truth.status}, task {truth.task}")
    elif truth.status == "BUILD":
        yield Finding(Category.STUCK, "no BUILD for ever", truth.id, "BUILD without a task")


def _runs_once(survey: Survey, truth: Truth) -> Iterator[Finding]:
    """A server that is ACTIVE has one container that runs, on the host that Nova says, and processes in no other."""
    running = [(host, each) for host, each in _containers(survey, truth.id) if each.running and not each.paused]
    if not running:
        others = ", ".join(f"{each.name} on {host.name}" for host, each in _containers(survey, truth.id))
        yield Finding(Category.LOST, "runs once", truth.id, f"no container of it runs; there are: {others or 'none'}")
    if len(running) > 1:
        places = ", ".join(f"{each.name} on {host.name}" for host, each in running)
        yield Finding(Category.WRONG, "runs once", truth.id, f"{len(running)} containers of it run: {places}")
    for host, container in running:
        if host.name != truth.host:
            yield Finding(
                Category.WRONG, "runs where Nova says", truth.id, f"on {host.name}, and Nova says {truth.host}"
            )
        if container.id not in survey.living:
            yield Finding(Category.LOST, "runs once", truth.id, f"container {container.name} has no processes")
    for host, container in _containers(survey, truth.id):
        if not container.running and container.id in survey.living:
            yield Finding(
                Category.WRONG, "runs once", truth.id, f"{container.name} on {host.name} is stopped and has processes"
            )


def _nics(survey: Survey, truth: Truth) -> Iterator[Finding]:
    """Its namespace has the interfaces that Neutron says, plugged; OVN has its ports on its host."""
    host = _host(survey, truth.host)
    if host is None:
        return
    wanted = {port.nic for port in truth.ports}
    seen = set(host.namespaces.get(truth.id, ()))
    if wanted != seen:
        yield Finding(Category.WRONG, "NICs", truth.id, f"it has {_show(seen)}; Neutron says {_show(wanted)}")
    for port in truth.ports:
        missing = [
            what
            for what, there in (
                ("the host's device", port.device in host.devices),
                ("a port of the switch", port.device in host.switch_ports),
                ("a binding to its host in Neutron", port.host == truth.host),
                ("the status ACTIVE in Neutron", port.status == "ACTIVE"),
                ("a binding to its chassis in OVN", survey.chassis.get(port.id) == truth.host),
            )
            if not there
        ]
        if missing:
            yield Finding(Category.WRONG, "NICs", truth.id, f"port {port.id} lacks {', '.join(missing)}")


def _limits(survey: Survey, truth: Truth) -> Iterator[Finding]:
    for _, container in _containers(survey, truth.id):
        if not container.running:
            continue
        if container.memory != truth.memory_mb * MIB:
            yield Finding(
                Category.WRONG,
                "limits",
                truth.id,
                f"its memory is limited to {container.memory / MIB:g} MiB; its flavor has {truth.memory_mb}",
            )
        if abs(container.cpu - truth.vcpus) > LITTLE:
            yield Finding(
                Category.WRONG, "limits", truth.id, f"its quota is {container.cpu:g} CPUs; its flavor has {truth.vcpus}"
            )
        if container.pids != container.made_with_pids or not container.pids:
            allowed = f"it may have {container.pids or 'any number of'} processes"
            yield Finding(
                Category.WRONG, "limits", truth.id, f"{allowed}; it was made to have {container.made_with_pids}"
            )


def _allocations(truth: Truth) -> Iterator[Finding]:
    holders = [
        (each.provider, each.resources.get("MEMORY_MB"), each.resources.get("VCPU")) for each in truth.allocations
    ]
    if holders != [(truth.host, truth.memory_mb, truth.vcpus)]:
        wanted = f"{truth.memory_mb} MB and {truth.vcpus} VCPU on {truth.host}"
        yield Finding(Category.WRONG, "Placement", truth.id, f"it holds {holders or 'nothing'}; it should {wanted}")


def _volumes(survey: Survey) -> Iterator[Finding]:
    """Cinder, and what a host has written down, agree on who has which volume, and nobody waits for anybody."""
    living = {truth.id: truth for truth in survey.truths}
    for volume in survey.volumes:
        if volume.status not in ("available", "in-use") or (volume.status == "in-use") != bool(volume.servers):
            servers = ", ".join(sorted(volume.servers)) or "no server"
            yield Finding(Category.STUCK, "volumes", volume.id, f"it is {volume.status}, attached to {servers}")
        for server in volume.servers - survey.known:
            yield Finding(Category.LEFT_OVER, "attachments in Cinder", volume.id, f"of {server}, which is gone")
    held = {(server, volume.id) for volume in survey.volumes for server in volume.servers}
    for host in survey.hosts:
        for server, identity in sorted(host.volumes - held):
            if server in living or server in survey.deleted:
                yield Finding(Category.LEFT_OVER, "records of volumes", identity, f"of {server}, on {host.name}")
        for server, identity in sorted(held - host.volumes):
            truth = living.get(server)
            if truth and truth.status == "ACTIVE" and truth.host == host.name:
                yield Finding(Category.LOST, "has its volumes", server, f"{host.name} has not given it {identity}")


def _migrations(survey: Survey) -> Iterator[Finding]:
    ours = {truth.id for truth in survey.truths} | set(survey.deleted)
    for server, status in survey.migrations.items():
        if server in ours:
            yield Finding(Category.STUCK, "migrations end", server, f"a migration of it is {status}")


def _consumers(survey: Survey) -> Iterator[Finding]:
    for provider, consumers in survey.consumers.items():
        for consumer in sorted(consumers - survey.known):
            what = "a deleted server" if consumer in survey.deleted else "no server, perhaps an ended migration"
            yield Finding(Category.LEFT_OVER, "Placement", consumer, f"{what} holds resources of {provider}")


def _left_on_host(survey: Survey, host: HostView) -> Iterator[Finding]:
    """Nothing of a deleted server is on any host, nor anything that the driver holds only while it works."""

    def left(what: str, subject: str) -> Finding:
        return Finding(Category.LEFT_OVER, what, subject, f"on {host.name}")

    taps = {f"tap{port[:11]}": server for server, ports in survey.deleted.items() for port in ports}
    names = {container.id for container in host.containers}
    for container in host.containers:
        if container.server in survey.deleted:
            yield left("containers", container.name)
        elif not container.server:
            yield left("copies of snapshots", container.name)
        elif container.name != NAME_PREFIX + container.server:
            yield left("side containers", container.name)
        elif not container.running and (truth := _truth(survey, container.server)) and _lives_elsewhere(truth, host):
            yield left("containers of servers elsewhere", container.name)
    yield from (left("network namespaces", server) for server in host.namespaces if server in survey.deleted)
    yield from (left("switch ports", device) for device in sorted(host.switch_ports & taps.keys()))
    yield from (left("devices", device) for device in sorted(host.devices & taps.keys()))
    yield from (left("runtime patches", patch) for patch in sorted(host.patches - names))
    yield from (left("files of the driver", path) for path in host.files if _is_left(path, survey))
    yield from (left("copies of snapshots", copy) for copy in host.copies)


def _lives_elsewhere(truth: Truth, host: HostView) -> bool:
    return truth.status == "ACTIVE" and truth.host != host.name


def _is_left(path: str, survey: Survey) -> bool:
    if path in STANDING:
        return False
    return any(part in path for part in TEMPORARY) or any(server in path for server in survey.deleted)


def _left_in_services(survey: Survey) -> Iterator[Finding]:
    for server, ports in survey.owned.items():
        if server in survey.deleted:
            yield Finding(Category.LEFT_OVER, "ports in Neutron", server, ", ".join(ports))
    gone = {port: server for server, ports in survey.deleted.items() for port in ports}
    for port, chassis in survey.chassis.items():
        if port in gone:
            yield Finding(
                Category.LEFT_OVER, "port bindings in OVN", gone[port], f"{port} on {chassis or 'no chassis'}"
            )
    for path in sorted(survey.spools):
        yield Finding(Category.LEFT_OVER, "image workspaces", path, "is still open, and no image is being read")
    known = {container.id for host in survey.hosts for container in host.containers}
    for identity in sorted(survey.living - known):
        yield Finding(Category.LEFT_OVER, "processes", identity, "of a container that no engine knows")
    attached = [volume.id for volume in survey.volumes if volume.servers]
    for path in survey.loops:
        if not any(volume in path for volume in attached):
            yield Finding(Category.LEFT_OVER, "loop devices", path, "was not there at the start")


def _containers(survey: Survey, server: str) -> list[tuple[HostView, Container]]:
    return [(host, each) for host in survey.hosts for each in host.containers if each.server == server]


def _host(survey: Survey, name: str) -> HostView | None:
    return next((host for host in survey.hosts if host.name == name), None)


def _truth(survey: Survey, server: str) -> Truth | None:
    return next((truth for truth in survey.truths if truth.id == server), None)


def _show(nics: set[Nic]) -> str:
    return ", ".join(sorted(str(nic) for nic in nics)) or "none"
