# SPDX-License-Identifier: Apache-2.0
"""Which machines a cloud of ours can be made of: this one has all but servers, and others, over SSH, run servers."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from dockstack.deploy.wanted.inventory import Role
from dockstack.errors import DockstackError

if TYPE_CHECKING:
    from dockstack.deploy.wanted.inventory import Inventory, Node

SSH = "@ssh"
HERE = frozenset({Role.CONTROLLER, Role.NETWORK})
ELSEWHERE = frozenset({Role.COMPUTE})
REACHED_AT = ("listen_address", "network.encap_ip")


def other_machines(inventory: Inventory) -> tuple[Node, ...]:
    """Return the nodes that are reached over SSH."""
    return tuple(node for node in inventory.nodes if node.connector == SSH)


def require_possible(inventory: Inventory) -> None:
    """Refuse what cannot be made so far, before anything is changed.

    Raises:
        DockstackError: it is not one controller here with compute nodes elsewhere, or these could not reach it.
    """
    others = other_machines(inventory)
    for node in others:
        _require_compute_only(node)
    here = [node for node in inventory.nodes if node not in others]
    if len(here) > 1:
        raise DockstackError(
            f"The nodes {' and '.join(node.name for node in here)} are both to be this machine.",
            f"Give {here[1].name} connector: '{SSH}' and the address where SSH finds it.",
        )
    if others:
        _require_reachable(inventory.local, others)


def _require_compute_only(node: Node) -> None:
    if node.has(Role.CONTROLLER):
        raise DockstackError(
            f"Node {node.name} is to be a controller over SSH; a cloud has one, so far, and it is this machine.",
            f"Give {node.name} roles: [{Role.COMPUTE}] (a node without roles has all), or run this command there.",
        )
    if node.roles != ELSEWHERE:
        had = f"the roles {', '.join(sorted(node.roles))}" if node.roles else "no role"
        raise DockstackError(
            f"Node {node.name} is to have {had}; machines over SSH are compute nodes, so far.",
            f"Give it roles: [{Role.COMPUTE}]; the network role is the controller's.",
        )


def _require_reachable(controller: Node, others: tuple[Node, ...]) -> None:
    names = ", ".join(node.name for node in others)
    lacking = sorted(HERE - controller.roles)
    if lacking:
        raise DockstackError(
            f"{names} need a controller, and {controller.name} (this machine) has not the role {lacking[0]}.",
            f"Give it roles: [{Role.CONTROLLER}, {Role.NETWORK}], and {Role.COMPUTE} if it runs servers, too.",
        )
    address = {name: controller.attributes.text(name) for name in REACHED_AT}
    hidden = [f"{name} is {value}" for name, value in address.items() if ipaddress.ip_address(value).is_loopback]
    if hidden:
        raise DockstackError(
            f"{names} could not reach this machine: {' and '.join(hidden)}.",
            f"Under nodes: {controller.name}: attributes: set {' and '.join(REACHED_AT)} to its address towards them, "
            "and tls.enable: true, so that no password crosses the network in clear (docs/tls.md).",
        )
    tunnels = address["network.encap_ip"]
    same = [node for node in others if node.attributes.text("network.encap_ip") == tunnels]
    if same:
        raise DockstackError(
            f"Tunnels of {same[0].name} would end at {tunnels}, which is this machine.",
            f"Say network.encap_ip under nodes: {controller.name}: attributes:, and not for all nodes or by --set.",
        )
