# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch and OVN at their standard places; bridges of others in the same switch are left alone."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from dockstack.deploy.configuration import programs, scripts
from dockstack.deploy.configuration.openvswitch import chassis_options
from dockstack.deploy.recipes import encryption
from dockstack.deploy.recipes.facts import settings_of
from dockstack.deploy.recipes.stage import Stage
from dockstack.deploy.supervision.restart import ensure_running
from dockstack.deploy.wanted.inventory import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dockstack.deploy.configuration.settings import Settings
    from dockstack.deploy.supervision.machine import Machine
    from dockstack.deploy.wanted.inventory import Node

CENTRAL = {"ovn-nb", "ovn-sb", "ovn-northd"}
BRIDGES = ("br-int",)
OVN_DATABASES = ("/var/lib/ovn/ovnnb_db.db", "/var/lib/ovn/ovnsb_db.db")
OPEN_VSWITCH_DATABASE = "/etc/openvswitch/conf.db"


def stages(node: Node) -> tuple[Stage, ...]:
    """Return the stage that starts the switch and OVN."""
    certified = (encryption.CERTIFICATES,) if encryption.wanted(node) else ()
    return (
        Stage(
            "switch",
            "Starting Open vSwitch and OVN",
            start,
            ("packages", "accounts", "supervisor", *certified),
            phase="infrastructure",
        ),
    )


def start(machine: Machine) -> None:
    """Have the switch running with its settings, OVN on top, and the external bridge up."""
    settings = settings_of(machine)
    machine.directory(scripts.DIRECTORY)
    for path, content in scripts.all_scripts(settings).items():
        machine.file(path, content, mode=0o755)
    note(machine, (*OVN_DATABASES, OPEN_VSWITCH_DATABASE), (*BRIDGES, settings.networks.external_bridge))
    if settings.networks.masquerade:
        machine.manifest.made("masquerade", settings.networks.external_cidr)
    for service in programs.network_fabric(settings, machine.distribution):
        if service.name not in CENTRAL or machine.node.has(Role.CONTROLLER):
            ensure_running(machine, service)


def note(machine: Machine, databases: Sequence[str], bridges: Sequence[str]) -> None:
    """Note the switch's databases and bridges that are not there yet, as its services are about to make them."""
    for database in databases:
        if not machine.exists(database):
            machine.manifest.made("file", database)
    for bridge in bridges:
        if (
            not machine.manifest.ours("bridge", bridge)
            and not machine.run(["ip", "link", "show", bridge], check=False).ok
        ):
            machine.manifest.made("bridge", bridge)


def offer_bandwidth(machine: Machine, settings: Settings, enter: Sequence[str] = ()) -> None:
    """Let Neutron guarantee ports bandwidth on a host that Placement knows by now.

    Args:
        machine: where the host is.
        settings: as the host sees them.
        enter: words that run a command as a process of the host, if it is not the machine itself.
    """
    record, key = ("Open_vSwitch", "."), "ovn-cms-options"
    options = chassis_options(settings, bandwidth=True)
    client = (*enter, "ovs-vsctl", "--timeout=10")
    ask = shlex.join([*client, "--if-exists", "get", *record, f"external-ids:{key}"])
    change = (
        ("set", *record, f'external-ids:{key}="{options}"') if options else ("remove", *record, "external-ids", key)
    )
    machine.command(
        [*client, *change],
        title="Offering bandwidth to ports",
        unless=f'[ "$({ask} | tr -d \'"\')" = {shlex.quote(options)} ]',
    )
