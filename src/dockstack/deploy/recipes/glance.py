# SPDX-License-Identifier: Apache-2.0
"""Glance, and the projects' quotas in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import desired_state, programs
from dockstack.deploy.configuration.glance import STATE_DIRECTORY, glance_api_conf
from dockstack.deploy.recipes.controller import (
    copy_paste_file,
    migrate,
    provision_once,
    write_api_file,
    write_configuration,
)
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

CONF = "/etc/glance/glance-api.conf"
PASTE = "/etc/glance/glance-api-paste.ini"
MANAGE = (f"{paths.OPENSTACK_VENV}/bin/glance-manage", "--config-file", CONF)
DEFINITIONS = f"{paths.OPENSTACK_VENV}/etc/glance/metadefs"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages of the image API."""
    if not node.has(Role.CONTROLLER):
        return ()
    return (
        Stage(
            "glance-files", "Configuring Glance", configure, ("accounts", "openstack-environment"), phase="configure"
        ),
        Stage(
            "glance-database",
            "Migrating Glance's database",
            migrate_database,
            ("glance-files", "database"),
            phase="databases",
        ),
        Stage("glance", "Starting Glance", start, ("glance-database", "token-cache"), phase="services"),
        # Glance may start before, and takes no image until then: a limit that is missing counts as zero.
        Stage("image-limits", "Limiting the images of each project", limit, ("identity",), phase="identity"),
    )


def configure(machine: Machine) -> None:
    """Write the files and make the store."""
    settings = settings_of(machine)
    write_configuration(machine, "glance", {CONF: glance_api_conf(settings)})
    copy_paste_file(machine, "glance/glance-api-paste.ini", PASTE, "glance")
    write_api_file(machine, settings, "glance-api")
    for directory in (settings.image_store, *(f"{STATE_DIRECTORY}/{name}" for name in ("staging", "tasks", "lock"))):
        machine.directory(directory, owner="glance", mode=0o750)


def migrate_database(machine: Machine) -> None:
    """Migrate the database to the installed version, and load the metadata definitions of properties into it."""
    load = (*MANAGE, "db_load_metadefs", DEFINITIONS)
    settings, title = settings_of(machine), "Migrating Glance's database"
    migrate(machine, settings, "glance", "glance", (*MANAGE, "db_sync"), load, title=title)


def start(machine: Machine) -> None:
    """Have the API running."""
    for service in programs.glance(settings_of(machine)):
        ensure_running(machine, service)


def limit(machine: Machine) -> None:
    """Tell Keystone what each project may keep."""
    provision_once(machine, "limits", desired_state.limits(settings_of(machine)))
