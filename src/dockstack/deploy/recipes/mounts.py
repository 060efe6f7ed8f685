# SPDX-License-Identifier: Apache-2.0
"""The mount broker of a node with Docker servers, and of the further hosts on it, where there are volumes."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dockstack.deploy.configuration import extra_hosts, mounts
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.hypervisors.nova_compute import OURS, NovaCompute
from dockstack.deploy.node import processes
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
STAGE = "mounts"
NAMES = (mounts.HOLDER, mounts.BROKER)
GRACE = 5.0
OPEN, CLOSED = "600", "400"  # of the socket: a server that starts uses one that may be written to


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages that start the broker."""
    if not isinstance(chosen(node), Docker):
        return ()
    keys = hosts.further_keys(node.attributes) if node.has(Role.CONTROLLER) else ()
    further = [
        Stage(f"{key}-{STAGE}", f"{_TITLE} on {key}", partial(start_on, key=key), (f"{key}-engine",), phase="services")
        for key in keys
    ]
    return (Stage(STAGE, _TITLE, start, ("hypervisor-start",), phase="services"), *further)


def before(node: Node) -> tuple[str, ...]:
    """Return what comes before nova-compute, whose name on a further host begins with the host's."""
    return (STAGE,) if isinstance(chosen(node), Docker) else ()


def after_holder(machine: Machine, service: Service, key: str = "") -> Service:
    """Return a host's nova-compute, which starts after the holder where there is one.

    A server that is resumed before could not mount until its next start.
    """
    holder = hosts.service_name(key, mounts.HOLDER) if key else mounts.HOLDER
    known = any(one.name == holder for one in machine.records.services())
    return replace(service, requires=(*service.requires, holder)) if known else service


def services(node: Node, served: NovaCompute = OURS) -> tuple[Service, ...]:
    """Return what the node's attributes ask for on the machine itself, in the environment of a nova-compute; pure."""
    wanted = isinstance(chosen(node), Docker) and node.attributes.flag("volumes.enable")
    return mounts.services(_programs(served)) if wanted else ()


def _programs(served: NovaCompute) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if served.ours:
        return mounts.OURS
    return tuple(served.program("dockstack.mounts.holder")), tuple(served.program("dockstack.mounts.broker"))


def start(machine: Machine, served: NovaCompute = OURS) -> None:
    """Have the machine's broker running, if volumes are wanted or servers need it."""
    _settle(machine, services(machine.node, served), NAMES, str(MOUNT_SOCKET))


def start_on(machine: Machine, key: str) -> None:
    """Have a further host's broker running, if volumes are wanted or servers need it."""
    wanted = tuple(extra_hosts.entered(service, key, ()) for service in services(machine.node))
    names = tuple(hosts.service_name(key, name) for name in (mounts.HOLDER, mounts.BROKER))
    _settle(machine, wanted, names, hosts.outside(key, str(MOUNT_SOCKET)))


def remove(machine: Machine, served: NovaCompute) -> None:
    """Have nothing of the broker on a machine whose servers are gone, and whose Nova is somebody else's."""
    known = {service.name: service for service in machine.records.services()}
    for name in reversed([name for name in NAMES if name in known]):
        host_removal.forget(machine, known[name])
    end(served)
    machine.absent(str(MOUNT_SOCKET.parent))


def end(served: NovaCompute = OURS) -> None:
    """End what goes on of holders that were stopped while servers ran; after the servers."""
    processes.end(processes.with_arguments(_programs(served)[0][-1]), GRACE)


def _settle(machine: Machine, wanted: tuple[Service, ...], names: tuple[str, ...], door: str) -> None:
    """Start both; where nobody wants them any more, let nobody in, and remove them when nobody is left inside.

    A container keeps the socket's name for as long as it runs, and the runtime lets nobody into it, and starts nothing
    in it, while nobody listens there.
    """
    known = {service.name: service for service in machine.records.services()}
    both = wanted or tuple(known[name] for name in names if name in known)
    for service in both:
        ensure_running(machine, service)
    if not both:
        return
    machine.command(["chmod", OPEN if wanted else CLOSED, door], unless=_has_mode(door, OPEN if wanted else CLOSED))
    if not wanted and not _needed(machine, both[0]):
        for service in reversed(both):
            host_removal.forget(machine, service)
        machine.absent(str(Path(door).parent))


def _has_mode(path: str, mode: str) -> str:
    return f"[ $(stat -c %a {shlex.quote(path)}) = {mode} ]"


def _needed(machine: Machine, holder: Service) -> bool:
    """Whether a server runs that the holder has a listener of."""
    pid = machine.backend.look(holder).pid
    return machine.run(f"ls -l /proc/{pid}/fd | grep -q 'seccomp notify'", check=False).ok
