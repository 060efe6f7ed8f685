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
    hidden = _unreachable(controller)
    if hidden:
        raise DockstackError(
            f"{names} could not reach this machine: {' and '.join(f'{name} is {at}' for name, at in hidden.items())}.",
            f"Under nodes: {controller.name}: attributes: set {' and '.join(hidden)} to its address towards them, "
            "and tls.enable: true, so that no password crosses the network in clear (docs/tls.md).",
        )
    tunnels = controller.attributes.text("network.encap_ip")
    same = [node for node in others if node.attributes.text("network.encap_ip") == tunnels]
    if same:
        raise DockstackError(
            f"Tunnels of {same[0].name} would end at {tunnels}, which is this machine.",
            f"Say network.encap_ip under nodes: {controller.name}: attributes:, and not for all nodes or by --set.",
        )


def _unreachable(controller: Node) -> dict[str, str]:
    """Return which addresses of the controller lead other machines nowhere.

    It may listen at all of its addresses; what nodes are told is then public_address.
    """
    address = {name: controller.attributes.text(name) for name in REACHED_AT}
    public = controller.attributes.text("public_address")
    if public:
        address |= {"public_address": public}
        if ipaddress.ip_address(address["listen_address"]).is_unspecified:
            del address["listen_address"]
    return {name: value for name, value in address.items() if _leads_nowhere(value)}


def _leads_nowhere(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address == "localhost"  # other names are the person's to know
    return found.is_loopback or found.is_unspecified
