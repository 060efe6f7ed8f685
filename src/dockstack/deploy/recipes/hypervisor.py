# SPDX-License-Identifier: Apache-2.0
"""Call the node's hypervisor plugin: when Nova is installed, after nova.conf exists, before nova-compute starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.recipes.stage import Stage

if TYPE_CHECKING:
    from dockstack.deploy.wanted.inventory import Node

# The stage of the Nova recipe that writes nova.conf.
NOVA_CONFIGURATION = "nova-files"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the hypervisor's stages; none on a node that runs no servers."""
    plugin = chosen(node)
    if plugin is None:
        return ()
    return (
        Stage(
            "hypervisor-install",
            "Installing the hypervisor",
            plugin.install,
            ("accounts", "packages"),
            phase="install",
        ),
        Stage(
            "hypervisor-configure",
            "Configuring the hypervisor",
            plugin.configure,
            ("hypervisor-install", "command-line", "openstack-environment", NOVA_CONFIGURATION),
        ),
        Stage(
            "hypervisor-start",
            "Starting the hypervisor",
            plugin.start,
            ("hypervisor-configure", "supervisor"),
            phase="start",
        ),
    )
