# SPDX-License-Identifier: Apache-2.0
"""Remove a further host from the machine: its servers, services, namespaces, cables and files."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack import names
from dockstack.deploy.configuration.extra_hosts import script_directory, uplink_file
from dockstack.deploy.hypervisors import storage
from dockstack.deploy.hypervisors.docker import CONTAINER_LINE, our_containers
from dockstack.deploy.hypervisors.engine import engine_of
from dockstack.deploy.node import processes
from dockstack.deploy.node.output import ENGINE_LIMIT
from dockstack.deploy.wanted import hosts
from dockstack.names import UUID_LABEL

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service

GRACE = 5.0


def remove_host(machine: Machine, key: str) -> None:
    """Remove a host with all that is on it; what is gone already is skipped."""
    own = [service for service in machine.records.services() if service.name.startswith(f"{key}-")]
    engines = [service for service in own if service.kill_mode == "process"]
    machine.backend.stop_all([service for service in own if service not in engines], lambda _: None)
    if any(machine.backend.look(engine).running for engine in engines):
        _remove_servers(machine, key)
    for service in reversed(own):
        forget(machine, service)
    remove_namespaces(machine, key)
    for point in storage.ours(machine.manifest):
        if point.startswith(f"{hosts.state_directory(key)}/"):
            storage.remove(machine, point)
    for path in (script_directory(key), uplink_file(key), hosts.state_directory(key)):
        machine.absent(path)


def forget(machine: Machine, service: Service) -> None:
    """Stop a service, and remove its definition, records and log."""
    machine.backend.remove(service)
    machine.records.forget(service.name)
    machine.absent(service.log_path)


def remove_namespaces(machine: Machine, key: str) -> None:
    """End all processes in a host (servers outlive their engine), and remove its namespaces and cables."""
    processes.end(inhabitants(hosts.mount_namespace(key)), GRACE)
    devices = [device for device, _, _ in hosts.cables(key)]
    ports = " ".join(f"-- --if-exists del-port {device}" for device in devices)
    links = "; ".join(f"ip link delete {device} 2>/dev/null" for device in devices)
    run, mounts = (shlex.quote(path) for path in (hosts.run_directory(key), hosts.mount_namespace(key)))
    machine.run(
        f"ovs-vsctl --timeout=10 {ports}; {links}; umount {mounts}; rm -f {mounts} {mounts.removesuffix('.mnt')}.lock;"
        f" ip netns delete {names.host_namespace(key)}; rm -rf {run};"
        f" ls {hosts.DIRECTORY}/*.mnt >/dev/null 2>&1 || umount {hosts.DIRECTORY}; true",
        check=False,
    )
    machine.changes += 1


def remove_network(machine: Machine) -> None:
    """Remove the bridge between the hosts and its firewall rules."""
    bridge = hosts.BRIDGE
    lines = [
        f"while iptables -w -D FORWARD {way} {bridge} -j DROP -m comment --comment dockstack 2>/dev/null; do :; done"
        for way in ("-i", "-o")
    ]
    machine.run("; ".join((*lines, f"ovs-vsctl --timeout=10 --if-exists del-br {bridge}; true")), check=False)


def inhabitants(mount_namespace: str) -> set[int]:
    """Return the processes in a mount namespace with all their descendants: servers have one of their own."""
    try:
        wanted = Path(mount_namespace).stat()
        here = Path("/proc/self/ns/mnt").stat()
    except FileNotFoundError:
        return set()
    if wanted.st_dev != here.st_dev or wanted.st_ino == here.st_ino:
        return set()  # an empty file, left by a reboot
    everything = processes.snapshot()
    found: set[int] = set()
    for pid in everything:
        try:
            inside = (processes.PROC / str(pid) / "ns/mnt").stat().st_ino == wanted.st_ino
        except OSError:
            continue
        if inside:
            found |= processes.tree(pid, everything)
    return found


def _remove_servers(machine: Machine, key: str) -> None:
    socket = hosts.outside(key, engine_of(machine.attributes).socket)
    client = ["docker", "-H", f"unix://{socket}"]
    listed = ["ps", "-a", "--no-trunc", "--filter", f"label={UUID_LABEL}", "--format", CONTAINER_LINE]
    containers = our_containers(machine.run([*client, *listed], check=False, limit=ENGINE_LIMIT).lines)
    if containers:
        machine.say(f"Removing {len(containers)} servers")
        machine.command([*client, "rm", "-f", "-v", *containers])
