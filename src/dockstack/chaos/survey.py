# SPDX-License-Identifier: Apache-2.0
"""Look at everything at one moment: the APIs, every host's engine, kernel, switch and files, OVN and Placement."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockstack.chaos import diary, machine, volumes
from dockstack.chaos.cloud import ask
from dockstack.chaos.model import Allocation, Container, HostView, Nic, Port, Survey, Truth
from dockstack.compute.resources import cgroups
from dockstack.errors import DockstackError
from dockstack.names import COPIES_DIRECTORY, NAME_PREFIX, NAMESPACES, UUID_LABEL, VOLUMES_DIRECTORY
from dockstack.verify import host

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dockstack.chaos.machine import Place

PATCHES = "/var/lib/dockstack/patches"
STATE = "/var/lib/nova/docker"
ENDED = frozenset({"completed", "done", "error", "failed", "confirmed", "reverted", "cancelled", "finished"})
SERVICES_FILES = "/var/lib/"
CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
UUID_LENGTH = 36
SPOOL = re.compile(r"/docker/images/#\d+ \(deleted\)$")  # as the kernel shows what has no name


def take(
    connection: Any, places: Sequence[Place], wanted: Iterable[str], deleted: Mapping[str, tuple[str, ...]],
    before: Baseline,
) -> Survey:  # fmt: skip
    """Look at everything.

    Args:
        connection: to the cloud, as an administrator.
        places: the hosts; on the first one are OVN's databases.
        wanted: ids of the servers that should exist.
        deleted: ids of those that were deleted, with their ports.
        before: what was there before the run.

    Raises:
        DockstackError: something does not answer.
    """
    servers = {each.id: each for each in ask(lambda: list(connection.compute.servers(all_projects=True)))}
    ports = ask(lambda: list(connection.network.ports()))
    held = _read_allocations(connection)
    chassis = _read_chassis(places[0])
    owned: dict[str, list[Any]] = defaultdict(list)
    for port in ports:
        if port.device_id:
            owned[port.device_id].append(port)
    truths = [_truth(servers[each], owned[each], held) for each in wanted if each in servers]
    return Survey(
        truths=tuple(truths),
        hosts=tuple(view(place) for place in places),
        deleted=dict(deleted),
        chassis=chassis,
        consumers={provider: frozenset(consumers) for provider, consumers in held.items()},
        known=frozenset(servers),
        migrations=_read_migrations(connection),
        living=list_living() - before.living,
        spools=list_spools() - before.spools,
        loops=tuple(sorted(list_loops() - before.loops)),
        owned={server: tuple(port.id for port in found) for server, found in owned.items()},
        volumes=volumes.read(connection) if before.has_volumes else (),
    )


class Baseline:
    """What was there before a run and is none of its business."""

    def __init__(self, *, has_volumes: bool = False) -> None:
        """Look; ``has_volumes``: the cloud has Cinder."""
        self.has_volumes = has_volumes
        self.loops = list_loops()
        self.living = list_living()
        self.spools = list_spools()


def view(place: Place) -> HostView:
    """Return what one host holds."""
    found = machine.list_containers(place)
    groups = None if place.apart else cgroups.find({each["Id"] for each in found})
    names = host.ask(*place.enter, "ls", str(NAMESPACES)).split()
    servers = [name.removeprefix(NAME_PREFIX) for name in names if name.startswith(NAME_PREFIX)]
    return HostView(
        key=place.key,
        name=place.name,
        containers=tuple(_container(each, groups) for each in found),
        namespaces={server: _read_nics(place, server) for server in servers},
        switch_ports=frozenset(host.ask(*place.enter, "ovs-vsctl", "list-ports", host.BRIDGE).split()),
        devices=frozenset(host.ask(*place.enter, "ls", "/sys/class/net").split()),
        patches=frozenset(name.partition(".")[0] for name in host.ask(*place.enter, "ls", PATCHES).split()),
        files=tuple(host.ask(*place.enter, "find", STATE, "-mindepth", "2", "-printf", "%P\\n").split("\n")),
        copies=_list_copies(place),
        volumes=_list_volumes(place),
    )


def _list_copies(place: Place) -> tuple[str, ...]:
    """List the copies of snapshots under way."""
    root = host.ask(*place.enter, "docker", "info", "--format", "{{.DockerRootDir}}").strip()
    listed = host.ask(*place.enter, "sh", "-c", 'ls -d "$1"/*/* 2> /dev/null || :', "sh", f"{root}/{COPIES_DIRECTORY}")
    return tuple(Path(path).name for path in listed.split())


def _list_volumes(place: Place) -> frozenset[tuple[str, str]]:
    listed = host.ask(*place.enter, "sh", "-c", 'ls -d "$1"/*/*.json 2> /dev/null || :', "sh", str(VOLUMES_DIRECTORY))
    return frozenset((Path(path).parent.name, Path(path).stem) for path in listed.split())


def list_living() -> frozenset[str]:
    """Return the ids of our servers' containers that have processes, from their control groups.

    Ours are those in other pid namespaces that see a server's log: there may be engines that are no business of ours.
    """
    own = Path("/proc/self/ns/pid").readlink()
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "ns" / "pid").readlink() == own:
                continue
            if not (path / "root" / diary.PATH.lstrip("/")).exists():
                continue
            groups = (path / "cgroup").read_text()
        except OSError:
            continue
        found.update(CONTAINER_ID.findall(groups))
    return frozenset(found)


def list_spools(proc: Path = Path("/proc")) -> frozenset[str]:
    """Return the files without a name that processes have open in the workspaces of images, of all hosts here.

    A kill leaves none of them, but a thread of nova-compute that hangs would, and the place for a download with it.
    """
    found = set()
    for path in proc.glob("[0-9]*/fd/*"):
        try:
            name = str(path.readlink())
        except OSError:
            continue
        if SPOOL.search(name):
            found.add(f"{name.removesuffix(' (deleted)')} (process {path.parent.parent.name})")
    return frozenset(found)


def list_loops() -> frozenset[str]:
    """Return the files of services behind loop devices; the kernel has one list of devices for all programs."""
    found = set()
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found.add(path.read_text().strip())
        except OSError:
            continue
    return frozenset(path for path in found if path.startswith(SERVICES_FILES))


def _truth(server: Any, ports: list[Any], held: Mapping[str, Mapping[str, dict[str, int]]]) -> Truth:
    return Truth(
        id=server.id,
        name=server.name,
        status=server.status,
        task=server.task_state,
        host=server.compute_host or "",
        memory_mb=server.flavor["ram"],
        vcpus=server.flavor["vcpus"],
        ports=tuple(_port(port) for port in ports),
        allocations=tuple(
            Allocation(provider, consumers[server.id]) for provider, consumers in held.items() if server.id in consumers
        ),
    )


def _port(port: Any) -> Port:
    addresses = frozenset(fixed["ip_address"] for fixed in port.fixed_ips)
    return Port(port.id, Nic(port.mac_address, addresses), port.binding_host_id or "", port.status)


def _container(shown: dict[str, Any], groups: Mapping[str, Mapping[str, str]] | None) -> Container:
    state, config = shown["State"], shown["HostConfig"]
    running = bool(state["Running"])
    memory, cpu, pids = limits(config, groups.get(shown["Id"], {}) if running and groups is not None else None)
    return Container(
        id=shown["Id"],
        name=shown["Name"].lstrip("/"),
        server=(shown["Config"]["Labels"] or {}).get(UUID_LABEL, ""),
        running=running,
        paused=bool(state["Paused"]),
        pid=int(state["Pid"]),
        memory=memory,
        cpu=cpu,
        pids=pids,
        made_with_pids=config["PidsLimit"] or 0,
    )


def limits(config: Mapping[str, Any], groups: Mapping[str, str] | None) -> tuple[int, float, int]:
    """Return how much memory, how many processors' time and how many processes a container may have; 0: no limit.

    Args:
        config: what the engine was told.
        groups: its control groups, which is what counts; None where they cannot be seen from here.
    """
    if groups is None:
        cpu = config["CpuQuota"] / config["CpuPeriod"] if config["CpuPeriod"] else 0.0
        return int(config["Memory"]), cpu, config["PidsLimit"] or 0
    if not groups:
        return 0, 0.0, 0
    held = cgroups.read(groups)
    return held.memory_max_bytes or 0, held.cpus or 0.0, held.pids_max or 0


def _read_nics(place: Place, server: str) -> tuple[Nic, ...]:
    """Return the interfaces in a server's namespace; none if it is going away."""
    namespace = f"{NAME_PREFIX}{server}"
    try:
        links = json.loads(host.ask(*place.enter, "ip", "-netns", namespace, "-json", "address") or "[]")
    except (DockstackError, ValueError):
        return ()
    return tuple(
        Nic(
            link["address"],
            frozenset(each["local"] for each in link.get("addr_info", ()) if each.get("scope") == "global"),
        )
        for link in links
        if link.get("link_type") == "ether"
    )


def _read_chassis(place: Place) -> dict[str, str]:
    """Return the host of each port that OVN knows; empty for a port that is bound to none."""
    names = {row[0][1]: row[1] for row in _ovn(place, "_uuid,hostname", "Chassis")}
    return {
        row[0]: names.get(row[1][1], "") if row[1][0] == "uuid" else ""
        for row in _ovn(place, "logical_port,chassis", "Port_Binding")
    }


def _ovn(place: Place, columns: str, table: str) -> list[Any]:
    listing = ("ovn-sbctl", "--timeout=20", "--format=json", f"--columns={columns}", "list", table)
    rows: list[Any] = json.loads(host.ask(*place.enter, *listing))["data"]
    return rows


def _read_allocations(connection: Any) -> dict[str, dict[str, dict[str, int]]]:
    """Return what is held of each provider, by its name and by who holds it."""
    found = {}
    for provider in ask(lambda: list(connection.placement.resource_providers())):
        path = f"/resource_providers/{provider.id}/allocations"
        answer = ask(lambda path=path: connection.placement.get(path).json())  # type: ignore[misc]
        found[provider.name] = {who: each["resources"] for who, each in answer["allocations"].items()}
    return found


def _read_migrations(connection: Any) -> dict[str, str]:
    answer = ask(lambda: connection.compute.get("/os-migrations", microversion="2.80").json())
    return {each["instance_uuid"]: each["status"] for each in answer["migrations"] if each["status"] not in ENDED}
