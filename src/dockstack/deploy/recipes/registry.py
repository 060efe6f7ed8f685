# SPDX-License-Identifier: Apache-2.0
"""The registry of images, if it is wanted: its user, its database, its account, its process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import desired_state, registry
from dockstack.deploy.configuration.mariadb import account_sql
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.node.environments import ensure_wheel
from dockstack.deploy.recipes.controller import once_in_database, provision_once, retire, write_configuration
from dockstack.deploy.recipes.facts import REGISTRY_ACCOUNT, REGISTRY_PORT, settings_of
from dockstack.deploy.recipes.infrastructure import run_sql
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

_STAGE = "registry"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that has the registry running, or takes away what an earlier run had started."""
    if not node.has(Role.CONTROLLER):
        return ()
    if not registry.wanted(node.attributes):
        return (Stage(_STAGE, "Looking for a registry", stop, ("supervisor", "identity"), weight=0, phase="services"),)
    installed = ("hypervisor-configure",) if chosen(node) is not None else ("command-line", "openstack-environment")
    before = ("database", "identity", "glance", *installed)
    return (Stage(_STAGE, "Starting the registry", start, before, phase="services"),)


def start(machine: Machine) -> None:
    """Have the registry running."""
    settings = settings_of(machine)
    machine.user(registry.USER, home="/nonexistent")
    machine.directory(settings.registry_store, owner=registry.USER, mode=0o700)
    write_configuration(machine, registry.USER, {registry.CONF: registry.registry_conf(settings)})
    if chosen(machine.node) is None:  # otherwise it came with the driver
        ensure_wheel(machine, paths.OPENSTACK_VENV, extras_installed=paths.DRIVER_MARKER)
    sql = account_sql(settings, registry.ACCOUNT, (registry.ACCOUNT,))
    once_in_database(machine, "registry-database", sql, lambda: run_sql(machine, settings, sql))
    provision_once(machine, "identity", desired_state.registry(settings), noted=REGISTRY_ACCOUNT)
    machine.manifest.set_done(REGISTRY_PORT, str(settings.ports.registry))
    ensure_running(machine, registry.service(settings))


def stop(machine: Machine) -> None:
    """Have no registry, and none in the catalogue; what was pushed stays, and is there again when it runs again."""
    desired = desired_state.registry(settings_of(machine))
    retire(machine, (registry.NAME,), (registry.CONF,), provided=REGISTRY_ACCOUNT, desired=desired)
