# SPDX-License-Identifier: Apache-2.0
"""The mount broker of a node with Docker servers, and of the further hosts on it, where there are volumes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dockstack.deploy.configuration import extra_hosts, mounts
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted import hosts
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.inventory import Node

_TITLE = "Letting servers mount their volumes"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages that start the broker."""
    if not isinstance(chosen(node), Docker):
        return ()
    keys = hosts.further_keys(node.attributes) if node.has(Role.CONTROLLER) else ()
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
    """Have the machine's broker running, if volumes are wanted or were."""
    _settle(machine, services(machine.node), (mounts.HOLDER, mounts.BROKER))


def start_on(machine: Machine, key: str) -> None:
    """Have a further host's broker running, if volumes are wanted or were."""
    wanted = tuple(extra_hosts.entered(service, key, ()) for service in services(machine.node))
    _settle(machine, wanted, tuple(hosts.service_name(key, name) for name in (mounts.HOLDER, mounts.BROKER)))


def _settle(machine: Machine, wanted: tuple[Service, ...], names: tuple[str, ...]) -> None:
    """Start both, also where nobody wants them any more but servers may have them.

    A container keeps the socket's name for as long as it runs, and the runtime lets nobody into it, and starts nothing
    in it, while nobody listens there. So they go with the host, and not before.
    """
    known = {service.name: service for service in machine.records.services()}
    for service in wanted or [known[name] for name in names if name in known]:
        ensure_running(machine, service)
