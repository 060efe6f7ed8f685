# SPDX-License-Identifier: Apache-2.0
"""The networks of a new cloud, and the credentials files (openrc, clouds.yaml)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import clients, desired_state
from dockstack.deploy.recipes.controller import provision_once
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the last stages before servers."""
    if not node.has(Role.CONTROLLER):
        return ()
    after = ("neutron", "identity", "message-bus")
    return (
        Stage("networks", "Making networks and the router", networks, after, phase="cloud"),
        Stage("client-files", "Writing openrc and clouds.yaml", client_files, ("foundation",), phase="configure"),
    )


def networks(machine: Machine) -> None:
    """Make the external and the tenant's network and the router between them."""
    provision_once(machine, "networks", desired_state.networks(settings_of(machine)))


def client_files(machine: Machine) -> None:
    """Write openrc and clouds.yaml, readable by root only, because they hold passwords."""
    settings = settings_of(machine)
    machine.file(paths.OPENRC, clients.openrc(settings), mode=0o600)
    machine.directory(paths.CLOUDS_YAML.rpartition("/")[0])
    machine.file(paths.CLOUDS_YAML, clients.clouds_yaml(settings), mode=0o600)
