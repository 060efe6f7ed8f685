# SPDX-License-Identifier: Apache-2.0
"""Hypervisor plugins. A plugin is a class with five verbs (model.py) and a line in ``chosen``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.hypervisors.docker import Docker
from dockstack.deploy.hypervisors.fake import Fake
from dockstack.deploy.hypervisors.model import Contribution, Hypervisor
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.wanted.inventory import Node

__all__ = ["Contribution", "Hypervisor", "chosen"]


def chosen(node: Node) -> Hypervisor | None:
    """Return a node's hypervisor; None if it runs no servers: no compute role, or Docker is not enabled on it."""
    if not node.has(Role.COMPUTE):
        return None
    if node.attributes.text("hypervisor") == "fake":
        return Fake()
    return Docker(node.attributes) if node.attributes.flag("docker.enable") else None
