# SPDX-License-Identifier: Apache-2.0
"""Neutron on OVN, and the agent that brings metadata to servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import programs
from dockstack.deploy.configuration.ini import render_ini
from dockstack.deploy.configuration.neutron import STATE_DIRECTORY, ml2_conf, neutron_conf, ovn_agent_conf
from dockstack.deploy.configuration.privilege import (
    ROOTWRAP_CONF,
    ROOTWRAP_FILTERS,
    rootwrap_conf,
    rootwrap_filters,
    sudoers,
)
from dockstack.deploy.hypervisors import chosen
from dockstack.deploy.recipes.controller import copy_paste_file, migrate, write_api_file, write_configuration
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

CONF = "/etc/neutron/neutron.conf"
ML2_CONF = "/etc/neutron/plugins/ml2/ml2_conf.ini"
AGENT_CONF = "/etc/neutron/ovn_agent.ini"
PASTE = "/etc/neutron/api-paste.ini"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stages of the network API and its workers."""
    if not node.has(Role.CONTROLLER):
        return ()
    with_extension = () if chosen(node) is None else ("hypervisor-configure",)
    return (
        Stage(
            "neutron-files",
            "Configuring Neutron",
            configure,
            ("accounts", "packages", "openstack-environment"),
            phase="configure",
        ),
        Stage(
            "neutron-database",
            "Migrating Neutron's database",
            migrate_database,
            ("neutron-files", "database"),
            phase="databases",
        ),
        Stage(
            "neutron",
            "Starting Neutron",
            start_api,
            ("neutron-database", "token-cache", "switch"),
            phase="services",
        ),
        Stage(
            "neutron-workers",
            "Starting Neutron's workers",
            start_workers,
            ("neutron", "identity", *with_extension),
            phase="services",
        ),
    )


def configure(machine: Machine) -> None:
    """Write the files and the sudo rule of the privileged helpers."""
    settings = settings_of(machine)
    machine.directory("/etc/neutron/plugins", group="neutron", mode=0o750)
    machine.directory("/etc/neutron/plugins/ml2", group="neutron", mode=0o750)
    machine.directory(f"{STATE_DIRECTORY}/lock", owner="neutron")
    files = {CONF: neutron_conf(settings), ML2_CONF: ml2_conf(settings), AGENT_CONF: ovn_agent_conf(settings)}
    write_configuration(machine, "neutron", files)
    copy_paste_file(machine, "neutron/api-paste.ini", PASTE, "neutron")
    write_api_file(machine, settings, "neutron-api")
    machine.directory(ROOTWRAP_FILTERS)
    machine.file(ROOTWRAP_CONF, render_ini(rootwrap_conf()))
    machine.file(f"{ROOTWRAP_FILTERS}/dockstack.filters", render_ini(rootwrap_filters()))
    machine.file("/etc/sudoers.d/dockstack-neutron", sudoers(settings, "neutron"), mode=0o440)


def migrate_database(machine: Machine) -> None:
    """Bring the database to the installed version."""
    program = f"{paths.OPENSTACK_VENV}/bin/neutron-db-manage"
    command = (program, "--config-file", CONF, "--config-file", ML2_CONF, "upgrade", "head")
    migrate(machine, settings_of(machine), "neutron", "neutron", command, title="Migrating Neutron's database")


def start_api(machine: Machine) -> None:
    """Have the API running."""
    for service in programs.neutron(settings_of(machine)):
        if service.name == "neutron-api":
            ensure_running(machine, service)


def start_workers(machine: Machine) -> None:
    """Have the maintenance worker and the agent running; they need accounts that the identity stage makes."""
    machine.manifest.made("metadata-namespaces", "ovnmeta-*")
    for service in programs.neutron(settings_of(machine)):
        if service.name != "neutron-api":
            ensure_running(machine, service)
