# SPDX-License-Identifier: Apache-2.0
"""Placement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import programs
from dockstack.deploy.configuration.placement import placement_conf
from dockstack.deploy.recipes.controller import migrate, write_api_file, write_configuration
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

CONF = "/etc/placement/placement.conf"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages of the placement API."""
    if not node.has(Role.CONTROLLER):
        return ()
    return (
        Stage("placement-files", "Configuring Placement", configure, ("accounts",), phase="configure"),
        Stage(
            "placement-database",
            "Migrating Placement's database",
            migrate_database,
            ("placement-files", "database", "openstack-environment"),
            phase="databases",
        ),
        Stage("placement", "Starting Placement", start, ("placement-database", "token-cache"), phase="services"),
    )


def configure(machine: Machine) -> None:
    """Write the files."""
    settings = settings_of(machine)
    write_configuration(machine, "placement", {CONF: placement_conf(settings)})
    write_api_file(machine, settings, "placement-api")


def migrate_database(machine: Machine) -> None:
    """Bring the database to the installed version."""
    command = (f"{paths.OPENSTACK_VENV}/bin/placement-manage", "--config-file", CONF, "db", "sync")
    migrate(machine, settings_of(machine), "placement", "placement", command, title="Migrating Placement's database")


def start(machine: Machine) -> None:
    """Have the API running."""
    for service in programs.placement(settings_of(machine)):
        ensure_running(machine, service)
