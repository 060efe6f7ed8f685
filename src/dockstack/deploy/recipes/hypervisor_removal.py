# SPDX-License-Identifier: Apache-2.0
"""Take out of a controller what Docker's enabling made there, once docker.enable is false: all of it, and nothing else.

Servers are never taken along: as long as Nova has any on this machine, it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockstack.deploy import paths
from dockstack.deploy.configuration import desired_state, exporter
from dockstack.deploy.hypervisors import chosen, lxcfs, storage
from dockstack.deploy.hypervisors.docker import DRIVER_STATE, MACHINES_UNITS, METRICS_FILE, Docker
from dockstack.deploy.hypervisors.nova_compute import OURS
from dockstack.deploy.node.environments import uv_program
from dockstack.deploy.recipes import host_removal, migration
from dockstack.deploy.recipes.controller import PYTHON, ask, provision
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision import distribution_units
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted import hosts
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.supervision.services import Service
    from dockstack.deploy.wanted.inventory import Node

# Neutron's agent has been started without our extension by then, and Nova is there to be asked.
AFTER = ("command-line", "switch", "nova", "nova-daemons", "placement", "identity", "neutron-workers")
RUNTIME = paths.RUNTIME_DIRECTORY  # there as long as something of it is left: it goes last


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage of a controller that runs no servers; on other nodes, `clean` does it."""
    if chosen(node) is not None or not node.has(Role.CONTROLLER):
        return ()
    return (Stage("docker-removal", "Removing what Docker servers needed", remove, AFTER),)


def remove(machine: Machine) -> None:
    """Remove Docker as a hypervisor; killed at any moment, the next run goes on.

    Raises:
        StepFailedError: Nova has servers here; nothing was removed.
        DockstackError: the engine hangs, or holds containers of others in an engine of our own.
    """
    if not machine.exists(RUNTIME):
        return
    plugin, settings = Docker(machine.attributes), settings_of(machine)
    further = hosts.keys_of(service.name for service in machine.records.services() if service.inside)
    names = [settings.hostname, *(hosts.host_name(settings.hostname, key) for key in further)]
    ask(machine, "refuse-inhabited", desired_state.forget_hosts(settings, names))
    for service in _recorded(machine, plugin.name):
        ensure_running(machine, service)  # after `down`, it could not remove what it has
    plugin.refuse_hung(machine)
    _forget(machine, "nova-compute")  # Nova forgets a host only once nothing speaks for it
    _remove_further(machine, settings, further)
    # The agents of the machine itself stay: it is still a chassis, with metadata for whatever runs elsewhere.
    provision(machine, "forget-hosts", desired_state.forget_hosts(settings, names[:1], agents=False))
    _forget(machine, exporter.NAME)  # its program is the driver's, as is what runs for migrations
    migration.remove(machine)
    plugin.cleanup(machine)
    plugin.stop(machine)
    _forget(machine, lxcfs.NAME, plugin.name)
    units = {*MACHINES_UNITS, *machine.distribution.units[lxcfs.NAME]}
    for entry in machine.manifest.entries():
        if entry.kind == storage.MADE:
            storage.release(machine, entry)
        elif entry.kind == distribution_units.HELD and entry.name in units:
            distribution_units.release(machine, entry)
    _let_nobody_in(machine)
    _remove_driver(machine)


def _remove_further(machine: Machine, settings: Settings, keys: tuple[str, ...]) -> None:
    for key in keys:
        name = hosts.host_name(settings.hostname, key)
        machine.say(f"Removing {name}")
        host_removal.remove_host(machine, key)
        machine.run(["ovn-sbctl", "--timeout=10", "--if-exists", "chassis-del", name])
        provision(machine, "forget-hosts", desired_state.forget_hosts(settings, [name]))
    if keys:
        host_removal.remove_network(machine)


def _forget(machine: Machine, *names: str) -> None:
    for name in names:
        for service in _recorded(machine, name):
            host_removal.forget(machine, service)


def _recorded(machine: Machine, name: str) -> list[Service]:
    return [service for service in machine.records.services() if service.name == name]


def _let_nobody_in(machine: Machine) -> None:
    """Take nova out of the engine's group, and remove the group if it is ours."""
    group = machine.attributes.text("docker.group")
    machine.run(["gpasswd", "-d", OURS.user, group], check=False)
    if machine.manifest.ours("group", group):
        machine.run(["groupdel", group], check=False)


def _remove_driver(machine: Machine) -> None:
    """Remove driver, door and runtime; that an engine which others use still names it, `cleanup` has seen to."""
    machine.command([f"{paths.CLI_VENV}/bin/dockstack", "driver", "remove", "--python", PYTHON])
    machine.command([uv_program(machine), "pip", "uninstall", "-q", "--python", PYTHON, "dockstack"])
    machine.manifest.forget_done("runtime")
    for path in (
        paths.DRIVER_MARKER,
        paths.PATCH_DIRECTORY,
        paths.LXCFS_DIRECTORY,
        METRICS_FILE,
        DRIVER_STATE,
        RUNTIME,
    ):
        machine.absent(path)
