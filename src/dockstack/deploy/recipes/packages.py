# SPDX-License-Identifier: Apache-2.0
"""The distribution's packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision import distribution_units
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.attributes import Attributes
    from dockstack.deploy.wanted.inventory import Node

# What is needed, as distributions.py names it.
EVERYWHERE = (
    *("ip", "iptables", "modprobe", "ps", "sudo"),
    "ping",  # what `dockstack tempest` calls
)
SWITCH = ("ovs-vswitchd",)
OVN = ("ovn-controller",)
CONNECTION_TRACKING = ("conntrack",)  # what Neutron's Open vSwitch agent calls
CONTROLLER = ("epmd", "mariadb", "mariadbd", "memcached", "ovn-northd", "rabbitmq-server")
METADATA = ("haproxy",)  # which ends TLS, too
COMPUTE = ("fonts",)
MOUNTS = ("e2fsck", "fsck.fat")  # what the mount broker calls
DECRYPTION = ("cryptsetup", "qemu-storage-daemon")


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that installs packages; the services' code is installed at the same time."""
    del node
    return (Stage("packages", "Installing the distribution's packages", install, ("foundation",), phase="install"),)


def install(machine: Machine, *, switch: bool = True, ovn: bool = True) -> None:
    """Install them in one go; nothing of them starts by itself, neither now nor at the next boot."""
    distribution, needed = machine.distribution, wanted(machine.node, switch=switch, ovn=ovn)
    # We run our own instances of what these packages start at boot, or only the program.
    distribution_units.hold(machine, sorted(unit for one in needed for unit in distribution.units.get(one, ())))
    machine.packages(*sorted(distribution.packages_of(*needed)))


def wanted(node: Node, *, switch: bool = True, ovn: bool = True) -> tuple[str, ...]:
    """Return what a node's roles need; without the switch where another deployer runs that.

    Args:
        node: it.
        switch: whether we run the switch.
        ovn: whether OVN programs it, rather than Neutron's Open vSwitch agent.
    """
    names = [*EVERYWHERE]
    if switch:
        names += [*SWITCH, *(OVN if ovn else CONNECTION_TRACKING)]
    if node.has(Role.CONTROLLER):
        names += CONTROLLER
    serves_metadata = switch and ovn and (node.has(Role.COMPUTE) or node.has(Role.NETWORK))
    if serves_metadata or node.attributes.flag("tls.enable"):
        names += METADATA
    if node.has(Role.COMPUTE):
        names += for_servers(node.attributes)
    return tuple(names)


def for_servers(attributes: Attributes) -> tuple[str, ...]:
    """Return what servers need of their host besides the engine's, whoever runs Nova and the switch there."""
    volumes = MOUNTS if attributes.flag("volumes.enable") else ()
    return (*COMPUTE, *volumes, *(DECRYPTION if volumes and attributes.flag("key_manager.enable") else ()))
