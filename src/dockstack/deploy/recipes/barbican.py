# SPDX-License-Identifier: Apache-2.0
"""The key manager, if it is wanted: Barbican's user, files, database, account and API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dockstack.deploy import paths
from dockstack.deploy.configuration import desired_state, programs
from dockstack.deploy.configuration.barbican import CONF, DIRECTORY, PASTE, POLICY, USER, barbican_conf, policy
from dockstack.deploy.configuration.mariadb import account_sql
from dockstack.deploy.recipes.controller import (
    copy_paste_file,
    migrate,
    once_in_database,
    provision_once,
    retire,
    write_api_file,
    write_configuration,
)
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.infrastructure import run_sql
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.attributes import Attributes
    from dockstack.deploy.wanted.inventory import Node

SERVICES = ("barbican-api",)
_ACCOUNT = "barbican-account"
"""The stage that makes Barbican's account, and what the manifest calls it that it was made."""
MIGRATE = (f"{paths.OPENSTACK_VENV}/bin/barbican-db-manage", "upgrade")
_WANTED = "key_manager.enable"


def wanted(node: Node) -> bool:
    """Tell whether Barbican runs here."""
    return node.has(Role.CONTROLLER) and node.attributes.flag(_WANTED)


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages of Barbican, or that which takes away what an earlier run had started."""
    if not node.has(Role.CONTROLLER):
        return ()
    if not wanted(node):
        return (
            Stage("barbican", "Looking for Barbican", stop, ("supervisor", "identity"), weight=0, phase="services"),
        )
    files, database = "barbican-files", "barbican-database"
    return (
        Stage(files, "Configuring Barbican", configure, ("accounts", "openstack-environment")),
        Stage(database, "Migrating Barbican's database", migrate_database, (files, "database"), phase="databases"),
        Stage(_ACCOUNT, "Making Barbican's account", provide, ("identity",), phase="identity"),
        Stage("barbican", "Starting Barbican", start, (database, _ACCOUNT, "token-cache"), phase="services"),
    )


def to_remember(attributes: Attributes) -> dict[str, Any]:
    """Return what a later ``up`` needs even if its command line does not repeat it: keys of volumes that are there."""
    return {_WANTED: attributes.flag(_WANTED) or None}


def configure(machine: Machine) -> None:
    """Make the user and write the files."""
    settings = settings_of(machine)
    machine.user(USER, home=f"/var/lib/{USER}", groups=(programs.CACHE_GROUP,))
    machine.directory(DIRECTORY, group=USER, mode=0o750)
    machine.directory(f"/var/lib/{USER}", owner=USER, mode=0o755)
    machine.directory(f"/var/log/{USER}", group="adm", mode=0o750)
    write_configuration(machine, USER, {CONF: barbican_conf(settings)})
    machine.file(POLICY, policy(), group=USER, mode=0o640)
    copy_paste_file(machine, "barbican/barbican-api-paste.ini", PASTE, USER)
    write_api_file(machine, settings, "barbican-api")


def migrate_database(machine: Machine) -> None:
    """Have the database, of the installed version."""
    settings = settings_of(machine)
    sql = account_sql(settings, USER, (USER,))
    once_in_database(machine, "barbican-database", sql, lambda: run_sql(machine, settings, sql))
    migrate(machine, settings, USER, USER, MIGRATE, title="Migrating Barbican's database")


def provide(machine: Machine) -> None:
    """Make Barbican's account and its entry in the catalogue."""
    provision_once(machine, "identity", desired_state.key_manager(settings_of(machine)), noted=_ACCOUNT)


def start(machine: Machine) -> None:
    """Have Barbican running."""
    for service in programs.barbican(settings_of(machine)):
        ensure_running(machine, service)


def stop(machine: Machine) -> None:
    """Have no Barbican, and none in the catalogue; secrets stay, and can be read again when it runs again."""
    desired = desired_state.key_manager(settings_of(machine))
    retire(machine, SERVICES, (CONF,), provided=_ACCOUNT, desired=desired)
