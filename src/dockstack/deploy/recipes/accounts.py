# SPDX-License-Identifier: Apache-2.0
"""The users that services run as, their groups, and their directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.configuration.programs import CACHE_GROUP, OVS_GROUP
from dockstack.deploy.configuration.settings import SERVICE_USERS
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

ON_NODES = ("nova", "neutron")  # whose services run on a machine that is no controller
GROUPS = {"nova": (OVS_GROUP, CACHE_GROUP), "neutron": (OVS_GROUP, CACHE_GROUP)}


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that makes users; it needs nothing that is installed."""
    del node
    return (Stage("accounts", "Making the services' users", make, ("foundation",), phase="prepare"),)


def make(machine: Machine) -> None:
    """Make a user for each service that runs here. It owns its state only; configuration belongs to root."""
    for group in (OVS_GROUP, CACHE_GROUP):
        machine.group(group)
    for user in SERVICE_USERS if machine.node.has(Role.CONTROLLER) else ON_NODES:
        machine.user(user, home=f"/var/lib/{user}", groups=GROUPS.get(user, (CACHE_GROUP,)))
        machine.directory(f"/etc/{user}", group=user, mode=0o750)
        machine.directory(f"/var/lib/{user}", owner=user, mode=0o755)
        # Root opens the logs: in a directory of its own, the service could put a link to any file in a log's place.
        machine.directory(f"/var/log/{user}", group="adm", mode=0o750)
