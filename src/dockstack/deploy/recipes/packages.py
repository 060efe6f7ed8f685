# SPDX-License-Identifier: Apache-2.0
"""The distribution's packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision import distribution_units
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

EVERYWHERE = (
    *("iproute2", "iptables", "kmod", "openvswitch-switch", "ovn-host", "procps", "sudo"),
    "iputils-ping",  # what `dockstack tempest` calls
)
CONTROLLER = ("mariadb-client-core", "mariadb-server-core", "memcached", "ovn-central", "rabbitmq-server")
METADATA = ("haproxy",)
COMPUTE = ("fonts-dejavu-core",)  # what VNC consoles are written with

# What these packages start by themselves at boot; we run our own instances, or only the program.
UNITS = (
    "epmd.service",
    "epmd.socket",
    "haproxy.service",
    "memcached.service",
    "openvswitch-switch.service",
    "ovn-central.service",
    "ovn-host.service",
    "rabbitmq-server.service",
)


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that installs packages; the services' code is installed at the same time."""
    del node
    return (Stage("packages", "Installing the distribution's packages", install, ("foundation",), phase="install"),)


def install(machine: Machine) -> None:
    """Install them in one go; nothing of them starts by itself, neither now nor at the next boot."""
    distribution_units.hold(machine, UNITS)
    machine.packages(*wanted(machine.node))


def wanted(node: Node) -> tuple[str, ...]:
    """Return the packages that a node's roles need."""
    names = list(EVERYWHERE)
    if node.has(Role.CONTROLLER):
        names += CONTROLLER
    if node.has(Role.COMPUTE) or node.has(Role.NETWORK):
        names += METADATA
    if node.has(Role.COMPUTE):
        names += COMPUTE
    return tuple(sorted(names))
