# SPDX-License-Identifier: Apache-2.0
"""The mount broker of a node with Docker servers, and of the further hosts on it, where there are volumes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dockstack.deploy.configuration import extra_hosts, mounts
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.recipes import host_removal
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted import hosts
from dockstack.deploy.wanted.inventory import Role
from dockstack.names import MOUNT_SOCKET

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.inventory import Node

_TITLE = "Letting servers mount their volumes"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages that start the broker, or take away what an earlier run had set up for it."""
    if not isinstance(chosen(node), Docker):
        return ()
    count = node.attributes.number("hosts") if node.has(Role.CONTROLLER) else 1
    keys = [f"{hosts.PREFIX}{number}" for number in range(hosts.FIRST, count + 1)]
    further = [
        Stage(f"{key}-mounts", f"{_TITLE} on {key}", partial(start_on, key=key), (f"{key}-engine",), phase="services")
        for key in keys
    ]
    return (Stage("mounts", _TITLE, start, ("hypervisor-start",), phase="services"), *further)


def services(node: Node) -> tuple[Service, ...]:
    """Return what the node's attributes ask for on the machine itself; pure."""
    wanted = isinstance(chosen(node), Docker) and node.attributes.flag("volumes.enable")
    return mounts.services() if wanted else ()


def start(machine: Machine) -> None:
    """Have the machine's broker running, or gone if nobody wants it."""
    _settle(machine, services(machine.node), (mounts.BROKER, mounts.HOLDER), str(MOUNT_SOCKET))


def start_on(machine: Machine, key: str) -> None:
    """Have a further host's broker running, or gone if nobody wants it."""
    wanted = tuple(extra_hosts.entered(service, key, ()) for service in services(machine.node))
    known = tuple(hosts.service_name(key, name) for name in (mounts.BROKER, mounts.HOLDER))
    _settle(machine, wanted, known, hosts.outside(key, str(MOUNT_SOCKET)))


def _settle(machine: Machine, wanted: tuple[Service, ...], names: tuple[str, ...], socket: str) -> None:
    for service in wanted:
        ensure_running(machine, service)
    if not wanted:
        recorded = [service for service in machine.records.services() if service.name in names]
        for service in recorded:
            host_removal.forget(machine, service)
        if recorded:
            machine.absent(socket)  # a server that starts looks for it
